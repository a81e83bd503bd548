"""A primary server that is lost, and its hot standby, which is promoted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mini_workflow import ExecutionNotFound, LeaseLost, PostgresRuntime, StoreUnavailable
from mini_workflow.core import events
from mini_workflow.ports import Commit
from mini_workflow.stores.postgres import PostgresBackend
from mini_workflow.testing import ManualClock
from mini_workflow.testing.contracts.backend import creation
from mini_workflow.testing.simulation.stepping import LEASE
from tests.faults.test_postgres import runtime_start, until_available
from tests.postgres.server import PostgresServer, server
from tests.unit.local import flows
from tests.waiting import WAIT, eventually


class Pair:
    """A primary server and a hot standby, and the address of whichever can be written to."""

    def __init__(self, primary: PostgresServer, standby: PostgresServer) -> None:
        self.primary, self.standby = primary, standby
        hosts = f"{primary.folder},{standby.folder}"
        self.url = f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write"

    def catch_up(self) -> None:
        """Wait until the standby has all that was committed."""
        [(there,)] = self.primary.ask("SELECT pg_current_wal_insert_lsn()")
        asked = f"SELECT pg_last_wal_replay_lsn() >= '{there}'"
        eventually(lambda: self.standby.ask(asked) == [(True,)])

    def cut(self) -> None:
        """From now on the standby hears nothing any more."""
        self.standby.ask("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.ask("SELECT pg_reload_conf()")
        asked = "SELECT count(*) FROM pg_stat_wal_receiver"
        eventually(lambda: self.standby.ask(asked) == [(0,)])

    def fail_over(self) -> None:
        """Lose the primary, and promote the standby."""
        self.primary.stop(signal.SIGQUIT)
        self.standby.promote()

    def mirror(self) -> None:
        """From now on a commit waits until the standby has it."""
        self.primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.primary.ask("ALTER ROLE postgres SET synchronous_commit = remote_apply")
        self.primary.ask("SELECT pg_reload_conf()")
        asked = "SELECT sync_state FROM pg_stat_replication"
        eventually(lambda: self.primary.ask(asked) == [("sync",)])


@pytest.fixture
def pair() -> Iterator[Pair]:
    with server() as primary:
        standby = primary.standby()
        try:
            yield Pair(primary, standby)
        finally:
            standby.discard()


@pytest.fixture(autouse=True)
def _gates() -> Iterator[None]:
    yield
    for gate in flows.GATES.values():
        gate.opened.set()
    flows.GATES.clear()


def has_no_gap(found: PostgresServer) -> bool:
    """Whether the events of each history are numbered from 0 on."""
    gaps = found.ask(
        "SELECT execution FROM s.events GROUP BY execution HAVING count(*) <> max(number) + 1"
    )
    return gaps == []


def test_a_standby_that_has_not_heard_of_the_last_commits(pair: Pair) -> None:
    """What it knows goes on, what it does not know is said to be gone, and no history has a gap."""
    with PostgresRuntime(pair.url, schema="s") as runtime:
        kept = runtime.start_execution(flows.steps_and_gate, 3, "gate", id="kept")
        assert flows.gate("gate").reached.wait(WAIT)
        waiting = runtime.start_execution(flows.waits_for_go, id="waiting")
        closed = runtime.start_execution(flows.steps, 3, id="closed")
        assert closed.result(WAIT) == 3
        pair.catch_up()
        pair.cut()
        lost = runtime.start_execution(flows.waits_for_go, id="lost")
        flows.gate("gate").opened.set()
        assert kept.result(WAIT) == 3  # acknowledged, and lost with the primary
        pair.fail_over()
        assert (
            until_available(lambda: runtime.start_execution(flows.steps, 4, id="new")).result(WAIT)
            == 6
        )
        with pytest.raises(ExecutionNotFound):
            lost.result(WAIT)
        again = runtime.start_execution(flows.waits_for_go, id="lost")
        for execution in (waiting, again):
            execution.signal("go")
            assert execution.result(WAIT) == "went"
        assert closed.result(WAIT) == 3
        assert runtime.get_execution("kept").result(WAIT) == 3
        completed = [e for e in kept.history() if isinstance(e, events.TaskCompleted)]
        assert len(completed) == 4
        assert has_no_gap(pair.standby)


def test_a_synchronous_standby_has_all_that_was_acknowledged(pair: Pair, tmp_path: Path) -> None:
    """Nothing is repeated."""
    ledger = tmp_path / "ledger"
    with PostgresRuntime(pair.url, schema="s") as runtime:
        pair.mirror()
        with PostgresRuntime(pair.url, schema="s", lease=2) as two:
            waiting = two.start_execution(flows.waits_for_go, id="waiting")
            done = two.start_execution(flows.recorded, str(ledger), 10, id="done")
            assert done.result(WAIT) == 45
            pair.fail_over()
            assert runtime_start(two).result(WAIT) == 3
            until_available(lambda: waiting.signal("go"))
            assert waiting.result(WAIT) == "went"
            assert until_available(lambda: runtime.get_execution("done").result(WAIT)) == 45
            ran = flows.lines(ledger)
            assert len(ran) == len(set(ran)) == 10
            assert has_no_gap(pair.standby)


def test_an_owner_that_the_standby_has_not_heard_of(pair: Pair) -> None:
    """Its id is given to another owner there, with as many commits: it cannot be taken for that one."""
    clock = ManualClock(1_000_000)

    def opened(name: str, url: str) -> PostgresBackend:
        return PostgresBackend(url, schema="s", owner=name, address=name, clock=clock, lease=LEASE)

    opened("first", pair.primary.url).close()
    pair.catch_up()
    pair.cut()
    before = opened("before", pair.url)
    before.leases.acquire(clock.now())
    assert before.store.commit([creation("a")]) == [True]
    pair.fail_over()
    pair.standby.ask("ALTER SEQUENCE s.owners_id_seq RESTART")
    pair.standby.ask("ALTER SEQUENCE s.executions_key_seq RESTART")
    other = opened("other", pair.standby.url)
    other.leases.acquire(clock.now())
    assert other.store.commit([creation("b")]) == [True]
    assert before.store._holding.lease == other.store._holding.lease
    assert before.store._holding.lengths["a"] == other.store._holding.lengths["b"]
    with pytest.raises((LeaseLost, StoreUnavailable)):
        before.store.commit([Commit("a", 1, ("behind b",))])
    with pytest.raises(LeaseLost):
        before.store.commit([Commit("a", 1, ("behind b",))])
    assert other.store.commit([Commit("b", 1, ("more",))]) == [True]
    assert other.store.history("b") == ["started", "more"]
    before.close()
    other.close()

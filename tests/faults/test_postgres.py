"""What may happen to processes, connections and the server around an execution in Postgres."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mini_workflow import Context, PostgresRuntime, StoreUnavailable, workflow
from mini_workflow.core import events
from mini_workflow.ports import Commit
from mini_workflow.stores.postgres import PostgresBackend, leases
from mini_workflow.stores.postgres import clock as clocks
from mini_workflow.stores.postgres.connection import Connection
from mini_workflow.testing import ManualClock
from mini_workflow.testing.contracts.backend import creation, head
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.stepping import LEASE
from tests.postgres.databases import databases
from tests.postgres.server import PostgresServer, server
from tests.unit.engine.harness import MakeState, check, run_through, stepping
from tests.unit.local import flows
from tests.unit.local.child import Child
from tests.waiting import WAIT, eventually

NEVER_LOOKS = 24 * 3600.0
"""A lease by which nobody looks around in the time of a test: only what is told is heard."""


@pytest.fixture
def schema(postgres: PostgresServer) -> str:
    return postgres.schema()


@pytest.fixture(autouse=True)
def _gates() -> Iterator[None]:
    yield
    for gate in flows.GATES.values():
        gate.opened.set()
    flows.GATES.clear()


def opened(postgres: PostgresServer, schema: str, **options: Any) -> PostgresRuntime:
    return PostgresRuntime(postgres.url, schema=schema, **options)


@pytest.fixture
def in_database(postgres: PostgresServer) -> Iterator[MakeState]:
    with databases(postgres) as made:
        yield made


REPRESENTATIVE = ("fan_out", "nested", "retries", "sequence", "sleeping", "updates_with_tasks")
"""All shapes crash in memory and in files: these are those whose commits have every section."""


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_a_crash_at_any_call_of_the_ports(name: str, in_database: MakeState) -> None:
    shape, n, met = SHAPES[name], 1, 1
    while met:
        with Ledger() as ledger, stepping(in_database, shape) as stepper:
            met = run_through(stepper, shape, [(n, n % 2 == 0)])
            check(stepper, shape, ledger, lost=met * 10)
        n += 3
    assert n > 9


@workflow("postgres_faults.child")
async def child(ctx: Context, n: int) -> int:
    return 10 * await ctx.task(abs, -n)


@workflow("postgres_faults.parent")
async def parent(ctx: Context) -> list[int]:
    found = [await ctx.task(abs, -1), await ctx.child(child, 2)]
    await ctx.sleep(0.01)
    return [*found, await ctx.task(abs, -3)]


class Terminating:
    """Has the server end the connection at the n-th commit: before it, or after it was done."""

    def __init__(self, postgres: PostgresServer, n: int, *, after: bool) -> None:
        self.met = False
        self._call = Connection._run
        self._postgres, self._left, self._after = postgres, n, after

    def run(self) -> Callable[[Connection, str, Any], list[Any]]:
        """What stands in for `Connection._run`: a function, which becomes a method."""

        def run(connection: Connection, sql: str, parameters: Any) -> list[Any]:
            return self._take(connection, sql, parameters)

        return run

    def _take(self, connection: Connection, sql: str, parameters: Any) -> list[Any]:
        rows: list[Any] = []
        if "@append" not in sql and "@commit" not in sql:
            return self._call(connection, sql, parameters)
        self._left -= 1
        if self._left != 0:
            return self._call(connection, sql, parameters)
        self.met = True
        if self._after:
            rows = self._call(connection, sql, parameters)
        pid = connection.raw.info.backend_pid
        self._postgres.ask(f"SELECT pg_terminate_backend({pid})")
        if not self._after:
            return self._call(connection, sql, parameters)
        with pytest.raises(psycopg.OperationalError) as caught:
            connection.raw.execute("SELECT 1")
        assert rows
        raise caught.value


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_connection_that_the_server_ends_at_any_commit(
    after: bool, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made again, and the commit is done once, without anybody noticing."""
    n, met = 0, True
    while met:
        n += 1
        schema = postgres.schema()
        with opened(postgres, schema) as runtime, monkeypatch.context() as patch:
            ending = Terminating(postgres, n, after=after)
            patch.setattr(Connection, "_run", ending.run())
            execution = runtime.start_execution(parent, id="p")
            assert execution.result(WAIT) == [1, 20, 3]
            met = ending.met
            history = execution.history()
            completed = [e for e in history if isinstance(e, events.TaskCompleted)]
            assert len(completed) == 2
            assert postgres.ask(f"SELECT count(*) FROM {schema}.owners") == [(1,)]
    assert n > 5


def test_a_commit_whose_end_is_not_known_when_the_server_is_gone(postgres: PostgresServer) -> None:
    """Nobody can say what has become of it: so it raises, and the lease is given up when it was done."""
    clock = ManualClock(1_000_000)
    for done in (False, True):
        schema = postgres.schema()
        one = PostgresBackend(postgres.url, schema=schema, owner="o", clock=clock, lease=LEASE)
        one.leases.acquire(clock.now())
        assert one.store.commit([creation("a")]) == [True]
        holding = one.store._holding
        holding.unconfirmed = True  # as an error has left it
        if done:
            postgres.ask(f"UPDATE {schema}.owners SET commits = commits + 1")
            with pytest.raises(Exception, match="taken over"):
                one.store.commit([Commit("a", 1, ("more",))])
            assert one.leases.acquire(clock.now())
            stored = one.store.load("a")
            assert stored is not None
            assert stored.held
            assert postgres.ask(f"SELECT count(*) FROM {schema}.owners") == [(1,)]
        assert one.store.commit([Commit("a", 1, ("more",))]) == [True]
        assert one.store.history("a") == ["started", "more"]
        one.close()


def test_a_server_that_has_not_heard_of_the_last_commits(
    postgres: PostgresServer, schema: str
) -> None:
    """A standby that lagged was promoted: nothing is appended behind the gap, and the execution goes on
    from what is there."""
    with opened(postgres, schema) as runtime:
        execution = runtime.start_execution(flows.steps_and_gate, 3, "gate", id="one")
        flows.gate("gate").reached.wait(WAIT)
        before = len(execution.history())
        postgres.ask(
            f"DELETE FROM {schema}.events WHERE number >= {before - 2}; "
            f"UPDATE {schema}.owners SET commits = commits - 1"
        )
        flows.gate("gate").opened.set()
        assert execution.result(WAIT) == 3
        numbers = postgres.ask(f"SELECT number FROM {schema}.events ORDER BY number")
        assert [number for (number,) in numbers] == list(range(len(numbers)))


def test_a_server_that_is_restarted() -> None:
    with server() as own, opened(own, "s") as runtime:
        execution = runtime.start_execution(flows.waits_for_go, id="one")
        eventually(lambda: execution.describe().status == "running")
        for how in (signal.SIGINT, signal.SIGQUIT):
            own.stop(how)
            own.start()
            other = runtime_start(runtime)
            assert other.result(WAIT) == 3
        said(execution)
        assert execution.result(WAIT) == "went"


def runtime_start(runtime: PostgresRuntime) -> Any:
    """Start an execution; a connection that was lost meanwhile may cost a try."""
    return until_available(
        lambda: runtime.start_execution(flows.steps, 3, id=f"s{time.monotonic_ns()}")
    )


def said(execution: Any) -> None:
    until_available(lambda: execution.signal("go"))


def until_available(call: Callable[[], Any]) -> Any:
    found: list[Any] = []

    def tried() -> bool:
        try:
            found.append(call())
        except StoreUnavailable:
            return False
        return True

    eventually(tried)
    return found[0]


KILLED = """
    url, schema, ledger, name = path, *arguments
    with PostgresRuntime(url, schema=schema) as runtime:
        for number in range(10):
            runtime.start_execution(flows.recorded, ledger, 20, id=f"{name}-{number}")
        runtime.start_execution(flows.hangs_once, f"{ledger}-{name}", id=name).result()
"""


def test_one_of_several_processes_is_killed(
    postgres: PostgresServer, schema: str, tmp_path: Path
) -> None:
    """The others share what it leaves: nothing is lost, and nothing that was recorded is repeated."""
    ledger = tmp_path / "ledger"
    names = ("first", "second")
    with (
        opened(postgres, schema, lease=1) as runtime,
        opened(postgres, schema, lease=1),
        Child(KILLED, postgres.url, schema, ledger, "first") as first,
        Child(KILLED, postgres.url, schema, ledger, "second") as second,
    ):
        first.expect("attempt 1")
        second.expect("attempt 1")
        first.kill()
        second.kill()
        for name in names:
            assert runtime.get_execution(name).result(WAIT) == 2
            for number in range(10):
                execution = runtime.get_execution(f"{name}-{number}")
                assert execution.result(WAIT) == 190
                history = execution.history()
                assert sum(isinstance(e, events.TaskCompleted) for e in history) == 20
    ran = flows.lines(ledger)
    assert len(ran) == len(set(ran))


def test_a_process_stands_still_for_longer_than_its_lease(
    postgres: PostgresServer, schema: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    code = """
        url, schema, ledger = path, *arguments
        runtime = PostgresRuntime(url, schema=schema, lease=1, grace=0)
        execution = runtime.start_execution(flows.noted_gate, ledger, "gate", id="one")
        flows.gate("gate").reached.wait()
        say("started")
        hear()
        flows.gate("gate").opened.set()
        say(str(execution.result()))
        say(str(runtime.start_execution(flows.recorded, ledger, 2, id="new").result()))
        runtime.close()
        say("closed")
    """
    with Child(code, postgres.url, schema, ledger) as other:
        other.expect("started")
        flows.gate("gate").opened.set()
        with opened(postgres, schema, lease=1) as runtime:
            other.stop()
            execution = runtime.get_execution("one")
            result = execution.result(WAIT)
            other.signal(signal.SIGCONT)
            other.tell("go on")
            other.expect(str(result), "1", "closed")
            history = execution.history()
            assert sum(isinstance(e, events.TaskCompleted) for e in history) == 1


def test_a_process_that_stands_still_in_a_takeover_does_not_hold_up_the_others(
    postgres: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(1_000_000)
    one, two, gone = [
        PostgresBackend(postgres.url, schema=schema, owner=name, clock=clock, lease=LEASE)
        for name in ("one", "two", "gone")
    ]
    for backend in (gone, one):
        backend.leases.acquire(clock.now())
    assert gone.store.commit([creation("a"), creation("b")]) == [True, True]
    gone.leases.release()
    stands, goes_on = threading.Event(), threading.Event()
    call = Connection._run

    def run(connection: Connection, sql: str, parameters: Any) -> list[Any]:
        found = call(connection, sql, parameters)
        if sql is leases._FREE and threading.current_thread() is still:
            setting = "idle_in_transaction_session_timeout"
            assert call(connection, f"SHOW {setting}", ()) == [("1s",)]
            call(connection, f"SET LOCAL {setting} = 1", ())  # so that nobody has to wait here
            stands.set()
            assert goes_on.wait(WAIT)
        return found

    failed: list[Exception] = []

    def take() -> None:
        try:
            one.leases.acquire(clock.now())
        except StoreUnavailable as error:
            failed.append(error)

    still = threading.Thread(target=take)
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "_run", run)
        patch.setattr(leases, "LONGEST_PAUSE", 1_000)
        still.start()
        assert stands.wait(WAIT)
    assert two.leases.acquire(clock.now())
    goes_on.set()
    still.join(WAIT)
    (error,) = failed
    assert "stood still" in str(error) or "connection" in str(error)
    while two.leases.acquire(clock.now()) | one.leases.acquire(clock.now()):
        pass
    held = [backend.store.load(name).held for backend in (one, two) for name in ("a", "b")]
    assert sorted(held) == [False, False, True, True]
    for backend in (one, two, gone):
        backend.close()


def test_a_signal_wakes_the_process_that_holds_the_execution(
    postgres: PostgresServer, schema: str
) -> None:
    with (
        opened(postgres, schema, lease=NEVER_LOOKS) as one,
        opened(postgres, schema, lease=NEVER_LOOKS) as two,
    ):
        execution = one.start_execution(flows.waits_for_go, id="one")
        two.get_execution("one").signal("go")
        assert execution.result(WAIT) == "went"
        assert two.get_execution("one").result(WAIT) == "went"


def test_a_clock_that_is_wrong_by_an_hour_neither_takes_over_nor_is_taken_over(
    postgres: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time_ns
    hour = 3600 * 10**9
    with opened(postgres, schema) as right:
        execution = right.start_execution(flows.steps_and_gate, 2, "gate", id="one")
        flows.gate("gate").reached.wait(WAIT)
        for off in (hour, -hour):
            monkeypatch.setattr(clocks.time, "time_ns", lambda off=off: real() + off)
            with opened(postgres, schema) as wrong:
                [(there,)] = postgres.ask(
                    "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
                )
                # Nearer to the server's than to that of this machine.
                assert abs(wrong._opened.clock.now() - there) < hour / 10**6 / 2
                assert wrong.start_execution(flows.steps, 3).result(WAIT) == 3
                wrong.look_around()
                slept = wrong.start_execution(flows.sleeper, 0.01)
                assert slept.result(WAIT) < 1800
        stored = right._opened.store.extent("one")
        assert stored is not None
        assert stored.held
        flows.gate("gate").opened.set()
        assert execution.result(WAIT) == 1


def test_what_an_owner_leaves_is_shared(postgres: PostgresServer, schema: str) -> None:
    """Each of the others takes its part when it looks, and nothing is left behind."""
    clock = ManualClock(1_000_000)

    def owner(name: str) -> PostgresBackend:
        return PostgresBackend(
            postgres.url, schema=schema, owner=name, address=name, clock=clock, lease=LEASE
        )

    leaving, *others = [owner(name) for name in ("leaving", "a", "b", "c", "d")]
    for one in (leaving, *others):
        one.leases.acquire(clock.now())
    names = [f"e{number:02}" for number in range(80)]
    assert leaving.store.commit([creation(name, busy=True) for name in names]) == [True] * 80
    leaving.leases.release()
    for _ in range(2):
        for one in others:
            one.leases.acquire(clock.now())
    shares = [one.agenda.busy("", 100) for one in others]
    assert sorted(name for share in shares for name in share) == names
    assert all(10 <= len(share) <= 30 for share in shares)
    for one in (leaving, *others):
        one.close()


def test_a_blocked_reason_may_quote_anything(postgres: PostgresServer, schema: str) -> None:
    clock = ManualClock(1_000_000)
    one = PostgresBackend(postgres.url, schema=schema, owner="o", clock=clock, lease=LEASE)
    one.leases.acquire(clock.now())
    blocked = head("a", status="blocked", blocked_kind="code", blocked_reason="a\0b")
    assert one.store.commit([Commit("a", 0, ("x",), blocked)]) == [True]
    found = one.store.head("a")
    assert found is not None
    assert found.blocked_reason == "a\\0b"
    with pytest.raises(Exception, match="NUL"):
        one.store.commit([Commit("a", 1, ("nul\0",))])
    assert one.store.history("a") == ["x"]
    one.close()

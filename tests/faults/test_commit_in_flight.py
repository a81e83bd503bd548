"""What may happen while a commit is on its way to Postgres and the turns of the next one are made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mini_workflow import Execution, LeaseLost, PostgresRuntime, StoreRefused, StoreUnavailable
from mini_workflow.core import events
from mini_workflow.engine import share_commit
from mini_workflow.engine.runtime import Runtime
from mini_workflow.ports import Commit
from mini_workflow.stores.postgres import PostgresBackend
from mini_workflow.stores.postgres.connection import Connection, _Sent
from mini_workflow.testing.contracts.backend import creation, head
from tests.postgres.server import PostgresServer
from tests.unit.local import flows
from tests.unit.local.child import Child
from tests.waiting import WAIT, eventually

MANY = 12
NEVER_LOOKS = 24 * 3600.0
"""A lease by which nobody looks around meanwhile: a batch with a look is committed as a whole."""


@pytest.fixture
def schema(postgres: PostgresServer) -> str:
    return postgres.schema()


@pytest.fixture(autouse=True)
def _small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share_commit, "SHARE", 3)


HEARS = threading.Event()
"""Set once the runtime that was opened last can hear others, and so has been told to look around."""


@pytest.fixture(autouse=True)
def _notice_who_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    look_around = Runtime.look_around

    def noticed(runtime: Runtime) -> None:
        look_around(runtime)
        HEARS.set()

    monkeypatch.setattr(Runtime, "look_around", noticed)


def opened(postgres: PostgresServer, schema: str) -> PostgresRuntime:
    HEARS.clear()
    return PostgresRuntime(postgres.url, schema=schema, lease=NEVER_LOOKS)


def start(runtime: PostgresRuntime, ledger: Path) -> list[Execution[int]]:
    names = [f"e{number:02}" for number in range(MANY)]
    calls = [(str(ledger), 1)] * MANY
    return runtime.start_executions(flows.recorded, calls, ids=names)


def check(executions: list[Execution[int]], ledger: Path, repeated: int = 0) -> None:
    """Each has its result, and its task has run once, or a few of them twice."""
    for execution in executions:
        assert execution.result(WAIT) == 0
        kinds = [type(event) for event in execution.history()]
        assert kinds.count(events.TaskCompleted) == 1
    assert MANY <= len(flows.lines(ledger)) <= MANY + repeated


def quiet(runtime: PostgresRuntime) -> None:
    """Wait until the runtime has looked around after its opening."""
    assert HEARS.wait(WAIT)
    runtime.start_execution(flows.steps, 1).result(WAIT)


class Ending:
    """Has the server end the session of the n-th commit that is sent while others go on: before it is sent,
    or when it was done and its answer is on its way.
    """

    def __init__(self, postgres: PostgresServer, n: int, *, after: bool) -> None:
        self.met = False
        self._postgres, self._left, self._after = postgres, n, after
        self._send, self._receive = _Sent.send, _Sent.receive

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        """Stand before the methods of `_Sent`."""

        def sent(one: _Sent, raw: Any, statement: bytes, values: Sequence[bytes]) -> None:
            if not self._after:
                self._pass_by(raw)
            self._send(one, raw, statement, values)

        def received(one: _Sent) -> None:
            raw = one._raw
            self._receive(one)
            if self._after and self._pass_by(raw):
                assert one.rows
                raw.execute("SELECT 1")  # raises what a lost answer would

        patch.setattr(_Sent, "send", sent)
        patch.setattr(_Sent, "receive", received)

    def _pass_by(self, raw: Any) -> bool:
        self._left -= 1
        if self._left == 0:
            self.met, pid = True, raw.info.backend_pid
            self._postgres.ask(f"SELECT pg_terminate_backend({pid})")
            ended = f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"
            eventually(lambda: not self._postgres.ask(ended))
        return self._left == 0


def test_many_starts_are_committed_while_others_are_made(
    postgres: PostgresServer, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One round trip for each share, and none is waited for before the next share is made."""
    done: list[str] = []
    begin, receive = Connection.begin, _Sent.receive

    def begun(connection: Connection, sql: str, parameters: Any) -> Callable[[], list[Any]]:
        done.append("begin")
        return begin(connection, sql, parameters)

    def received(sent: _Sent) -> None:
        done.append("receive")
        receive(sent)

    with opened(postgres, schema) as runtime:
        quiet(runtime)
        monkeypatch.setattr(Connection, "begin", begun)
        monkeypatch.setattr(_Sent, "receive", received)
        backend = runtime._opened.backend  # type: ignore[attr-defined]
        before = backend.trips
        # They wait: what else they did could be committed before this thread looks at the count.
        executions = runtime.start_executions(flows.waits_for_go, [()] * MANY)
        assert backend.trips - before == MANY / 3
        assert done == ["begin", "receive"] * 4
        before = backend.trips
        names = [f"named-{number}" for number in range(MANY)]
        executions += runtime.start_executions(flows.waits_for_go, [()] * MANY, ids=names)
        assert backend.trips - before == 1 + MANY / 3  # all are looked up at once
        for execution in executions:
            execution.signal("go")
        assert {execution.result(WAIT) for execution in executions} == {"went"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_connection_that_the_server_ends_at_any_of_the_commits(
    after: bool, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made again, and each commit is done once, without anybody noticing."""
    n, met = 0, True
    while met:
        n += 1
        schema, ledger = postgres.schema(), tmp_path / str(n)
        ending = Ending(postgres, n, after=after)
        with opened(postgres, schema) as runtime, monkeypatch.context() as patch:
            quiet(runtime)
            ending.patch(patch)
            check(start(runtime, ledger), ledger)
            met = ending.met
            assert postgres.ask(f"SELECT count(*) FROM {schema}.owners") == [(1,)]
    assert n > 4


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_lease_that_is_lost_at_one_of_the_commits(
    n: int,
    postgres: PostgresServer,
    schema: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was committed before stays, and the rest is started under the next lease."""
    send, left = _Sent.send, [n]

    def sent(one: _Sent, raw: Any, statement: bytes, values: Sequence[bytes]) -> None:
        left[0] -= 1
        if left[0] == 0:
            postgres.ask(f"UPDATE {schema}.owners SET commits = commits + 7")
        send(one, raw, statement, values)

    with opened(postgres, schema) as runtime:
        quiet(runtime)
        monkeypatch.setattr(_Sent, "send", sent)
        check(start(runtime, tmp_path / "ledger"), tmp_path / "ledger", repeated=MANY)
        assert left[0] <= 0
        number = f"SELECT count(*) FROM {schema}.executions"
        assert postgres.ask(number) == [(MANY + 1,)]


def test_a_value_that_the_server_refuses_in_one_of_the_commits(
    postgres: PostgresServer,
    schema: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its start alone fails; the others of its share, and all other shares, are committed."""
    send = _Sent.send

    def sent(one: _Sent, raw: Any, statement: bytes, values: Sequence[bytes]) -> None:
        refused = [value + b"\0" if b"e07" in value else value for value in values]
        send(one, raw, statement, refused)

    run = Connection._run

    def ran(connection: Connection, sql: str, parameters: Sequence[Any]) -> list[Any]:
        if "@commit" in sql and any("e07" in str(value) for value in parameters):
            raise psycopg.DataError("refused")
        return run(connection, sql, parameters)

    ledger = tmp_path / "ledger"
    with opened(postgres, schema) as runtime:
        quiet(runtime)
        with monkeypatch.context() as patch:
            patch.setattr(_Sent, "send", sent)
            patch.setattr(Connection, "_run", ran)
            with pytest.raises(StoreRefused):
                start(runtime, ledger)
        written = f"SELECT count(*) FROM {schema}.executions"
        eventually(lambda: postgres.ask(written) == [(MANY,)])
        check(start(runtime, ledger), ledger)


KILLED = """
    from mini_workflow.engine import share_commit
from mini_workflow.engine.runtime import Runtime
    from mini_workflow.ports import Commit
from mini_workflow.stores.postgres import PostgresBackend
from mini_workflow.stores.postgres.connection import _Sent
    import signal

    url, schema, ledger, n, where = path, *arguments
    share_commit.SHARE = 3
    left = [int(n)]
    call = getattr(_Sent, where)

    def called(*given):
        call(*given)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with PostgresRuntime(url, schema=schema, lease=24 * 3600.0) as runtime:
        runtime.start_execution(flows.steps, 1).result()
        setattr(_Sent, where, called)
        calls = [(ledger, 1)] * 12
        names = [f"e{number:02}" for number in range(12)]
        for execution in runtime.start_executions(flows.recorded, calls, ids=names):
            execution.result()
    say("done")
"""


@pytest.mark.parametrize(("n", "where"), [(1, "send"), (3, "send"), (2, "receive"), (4, "receive")])
def test_a_process_that_is_killed_at_one_of_the_commits(
    n: int, where: str, postgres: PostgresServer, schema: str, tmp_path: Path
) -> None:
    """Whoever starts all of them again finds those that were committed, and none has run its task twice
    whose result was recorded."""
    ledger = tmp_path / "ledger"
    with Child(KILLED, postgres.url, schema, ledger, n, where) as child:
        assert child.hear() == ""
        with opened(postgres, schema) as runtime:
            check(start(runtime, ledger), ledger, repeated=MANY)


def test_a_read_waits_for_the_commit_that_is_in_flight(
    postgres: PostgresServer, schema: str
) -> None:
    one = PostgresBackend(postgres.url, schema=schema, owner="o", address="o")
    assert one.leases.acquire(one.clock.now()) in (True, False)
    finish = one.store.begin_commit([creation("a")])
    stored = one.store.load("a")
    assert stored is not None
    assert stored.events == ["started"]
    assert finish() == [True]
    appended = one.store.begin_commit([Commit("a", 1, ("more",))])
    assert appended() == [True]
    assert one.store.begin_commit([creation("a")])() == [False]
    assert one.store.begin_commit([])() == []
    assert one.store.history("a") == ["started", "more"]
    one.close()


def test_a_commit_that_cannot_begin_raises_at_its_end(
    postgres: PostgresServer, schema: str
) -> None:
    one = PostgresBackend(postgres.url, schema=schema, owner="o", address="o")
    without_lease = one.store.begin_commit([creation("a")])
    with pytest.raises(LeaseLost):
        without_lease()
    one.leases.acquire(one.clock.now())
    for body in ("\ud800", "a\0b"):
        refused = one.store.begin_commit([Commit("b", 0, (body,), head("b"))])
        with pytest.raises((UnicodeEncodeError, StoreRefused)):
            refused()
    assert one.store.begin_commit([creation("a")])() == [True]
    one.close()
    closed = one.store.begin_commit([Commit("a", 1, ("more",))])
    with pytest.raises(StoreUnavailable):
        closed()

"""Simulate crashes at the n-th call of a port, and failures of a store.

`Crashes` wraps the ports of a backend, a runner of tasks and its report, and counts every call. A chosen
call raises `SimulatedCrash`, before or after it is carried out. From then on all wrapped objects raise,
as after the death of a process; calls of them are remembered as `intruders`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import ParamSpec, TypeVar

from mini_workflow.engine.engine import Ports
from mini_workflow.ports import (
    Agenda,
    Answer,
    Commit,
    Extent,
    Found,
    Head,
    Leases,
    Mailbox,
    MailboxEntry,
    Page,
    Query,
    Report,
    Store,
    Stored,
    StreamPage,
    StreamStore,
    StreamWrite,
    TaskOutcome,
    TaskRequest,
    TaskRunner,
)
from mini_workflow.ports.heartbeats import Heartbeat, HeartbeatStore, heartbeats_of

P = ParamSpec("P")
R = TypeVar("R")


class SimulatedCrash(BaseException):
    """The death of the process. Not an Exception, so that code which handles those does not survive."""


class Crashes:
    """A wrapper that counts calls, and raises at a chosen one.

    `calls` has the names of the calls so far, such as "store.commit", in order.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.intruders: list[str] = []
        self._crash_at: int | None = None
        self._after = False
        self._fail_at: tuple[int, Exception] | None = None
        self._fail_commit: tuple[int, Exception] | None = None
        self._failures: list[tuple[str, Exception]] = []
        self._life = Life(self)

    def crash_at(self, n: int | None, *, after: bool = False) -> None:
        """Crash at the n-th call from now, counted from 1; None for not at all."""
        self._crash_at = None if n is None else len(self.calls) + n
        self._after = after

    def fail_at(self, n: int, error: Exception) -> None:
        """Raise the error at the n-th call from now, counted from 1, instead of doing it.

        Not if that call is a report, which never fails.
        """
        self._fail_at = (len(self.calls) + n, error)

    def fail_commit(self, n: int, error: Exception) -> None:
        """Raise the error at the n-th commit from now, counted from 1, instead of doing it."""
        self._fail_commit = (self.called("store.commit") + n, error)

    @property
    def failed(self) -> bool:
        """Whether the call that `fail_at` or `fail_commit` chose has come."""
        if self._fail_commit is not None:
            return self.called("store.commit") >= self._fail_commit[0]
        return self._fail_at is not None and len(self.calls) >= self._fail_at[0]

    def fail(self, name: str, error: Exception, times: int = 1) -> None:
        """Raise the error at the next calls of that name, which are then not carried out."""
        self._failures.extend([(name, error)] * times)

    def recover(self) -> None:
        """Cancel failures that have not come yet."""
        self._failures.clear()

    @property
    def crashed(self) -> bool:
        """Whether the crash has come, since the last `replay`."""
        return self._life.over

    def kill(self) -> None:
        """Die now, between two calls."""
        self._life.over = True

    def replay(self) -> None:
        """Begin a new life; objects that were wrapped before stay dead."""
        self._life.over = True
        self._life = Life(self)

    def ports(self, ports: Ports) -> Ports:
        """Return the ports, with every call counted, except of the clock."""
        return Ports(
            store=_Store(ports.store, self._life),
            agenda=_Agenda(ports.agenda, self._life),
            mailbox=_Mailbox(ports.mailbox, self._life),
            leases=_Leases(ports.leases, self._life),
            clock=ports.clock,
            streams=None if ports.streams is None else _Streams(ports.streams, self._life),
        )

    def runner(self, runner: TaskRunner) -> TaskRunner:
        """Return the runner, with every call counted."""
        return _Runner(runner, self._life)

    def report(self, report: Report) -> Report:
        """Return the report, with every call counted; after a crash outcomes go nowhere."""
        life = self._life

        def counted(outcome: TaskOutcome) -> None:
            if not life.over:
                life.call("report", report, outcome)

        return counted

    def called(self, name: str, since: int = 0) -> int:
        """Return the number of calls with a name, behind the first `since` calls."""
        return self.calls[since:].count(name)

    def take(self, name: str) -> tuple[bool, bool]:
        """Count a call. Return whether to crash before it, and after it. Raises the error of `fail`."""
        self.calls.append(name)
        here = len(self.calls) == self._crash_at
        fails = self._fail_at is not None and len(self.calls) == self._fail_at[0]
        if self._fail_at is not None and fails and name != "report":
            raise self._fail_at[1]
        commit = self._fail_commit
        if name == "store.commit" and commit is not None and self.called(name) == commit[0]:
            raise commit[1]
        if not here:
            for index, (wanted, error) in enumerate(self._failures):
                if wanted == name:
                    del self._failures[index]
                    raise error
        return here and not self._after, here and self._after


class Life:
    """The time from one opening of a backend to its end; `over` after the crash."""

    def __init__(self, crashes: Crashes) -> None:
        self.over = False
        self._crashes = crashes

    def call(self, name: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, unless the process is dead or dies before; it may die after."""
        if self.over:
            self._crashes.intruders.append(name)
            raise SimulatedCrash(f"{name} called by a dead process")
        before, after = self._crashes.take(name)
        if before:
            self.over = True
            raise SimulatedCrash(f"before {name}")
        value = function(*args, **kwargs)
        if after:
            self.over = True
            raise SimulatedCrash(f"after {name}")
        return value


class _Store:
    def __init__(self, store: Store, life: Life) -> None:
        self._store = store
        self._life = life

    def load(self, execution_id: str) -> Stored | None:
        return self._life.call("store.load", self._store.load, execution_id)

    def head(self, execution_id: str) -> Head | None:
        return self._life.call("store.head", self._store.head, execution_id)

    def extent(self, execution_id: str) -> Extent | None:
        return self._life.call("store.extent", self._store.extent, execution_id)

    def ends(self, execution_id: str, last: int) -> list[str]:
        return self._life.call("store.ends", self._store.ends, execution_id, last)

    def history(self, execution_id: str, since: int = 0) -> list[str]:
        return self._life.call("store.history", self._store.history, execution_id, since)

    def list(self, query: Query) -> Page:
        return self._life.call("store.list", self._store.list, query)

    def count(self, query: Query) -> int:
        return self._life.call("store.count", self._store.count, query)

    def commit(self, commits: Sequence[Commit]) -> list[bool]:
        return self._life.call("store.commit", self._store.commit, commits)

    def lookup(self, execution_ids: Collection[str]) -> dict[str, Found]:
        return self._life.call("store.lookup", self._store.lookup, execution_ids)

    def sweep(self, now: int, limit: int) -> bool:
        return self._life.call("store.sweep", self._store.sweep, now, limit)


class _Agenda:
    def __init__(self, agenda: Agenda, life: Life) -> None:
        self._agenda = agenda
        self._life = life

    def due(self, now: int, limit: int) -> list[str]:
        return self._life.call("agenda.due", self._agenda.due, now, limit)

    def next_wake(self) -> int | None:
        return self._life.call("agenda.next_wake", self._agenda.next_wake)

    def busy(self, after: str, limit: int) -> list[str]:
        return self._life.call("agenda.busy", self._agenda.busy, after, limit)

    def blocked(self, kind: str, after: str, limit: int) -> list[str]:
        return self._life.call("agenda.blocked", self._agenda.blocked, kind, after, limit)


class _Mailbox:
    def __init__(self, mailbox: Mailbox, life: Life) -> None:
        self._mailbox = mailbox
        self._life = life

    def post(self, execution_id: str, body: str, key: str) -> None:
        self._life.call("mailbox.post", self._mailbox.post, execution_id, body, key)

    def entries(
        self, after: int, limit: int, execution_id: str | None = None
    ) -> list[MailboxEntry]:
        return self._life.call("mailbox.entries", self._mailbox.entries, after, limit, execution_id)


class _Leases:
    def __init__(self, leases: Leases, life: Life) -> None:
        self._leases = leases
        self._life = life

    def acquire(self, now: int) -> bool:
        return self._life.call("leases.acquire", self._leases.acquire, now)

    def renew(self, now: int) -> int:
        return self._life.call("leases.renew", self._leases.renew, now)

    def extend(self, now: int) -> None:
        self._life.call("leases.extend", self._leases.extend, now)

    def note_turn(self, execution_id: str | None) -> None:
        # Not counted: a crash in the turn is next to it.
        self._leases.note_turn(execution_id)

    def release(self) -> None:
        self._life.call("leases.release", self._leases.release)

    def peers(self) -> list[str]:
        return self._life.call("leases.peers", self._leases.peers)


class _Streams:
    def __init__(self, streams: StreamStore, life: Life) -> None:
        self._streams = streams
        self._life = life
        self.heartbeats = _Heartbeats(heartbeats_of(streams), life)

    def append(self, writes: Sequence[StreamWrite], *, bounded: bool = True) -> list[Answer]:
        return self._life.call("streams.append", self._streams.append, writes, bounded=bounded)

    def read(self, execution_id: str, stream: str, after: int, limit: int) -> StreamPage:
        return self._life.call(
            "streams.read", self._streams.read, execution_id, stream, after, limit
        )

    def names(self, execution_id: str) -> list[str]:
        return self._life.call("streams.names", self._streams.names, execution_id)

    def remove(self, execution_id: str) -> None:
        self._life.call("streams.remove", self._streams.remove, execution_id)


class _Heartbeats:
    def __init__(self, heartbeats: HeartbeatStore, life: Life) -> None:
        self._heartbeats = heartbeats
        self._life = life

    def keep(self, beats: Sequence[Heartbeat], over: Collection[tuple[str, int, int]]) -> None:
        self._life.call("heartbeats.keep", self._heartbeats.keep, beats, over)

    def last(self, execution_id: str, seqs: Sequence[int]) -> list[Heartbeat]:
        return self._life.call("heartbeats.last", self._heartbeats.last, execution_id, seqs)


class _Runner:
    def __init__(self, runner: TaskRunner, life: Life) -> None:
        self._runner = runner
        self._life = life

    def submit(self, request: TaskRequest) -> None:
        self._life.call("runner.submit", self._runner.submit, request)

    def cancel(self, execution_id: str, seq: int, reason: str = "") -> None:
        self._life.call("runner.cancel", self._runner.cancel, execution_id, seq, reason)

    def holds(self, key: tuple[str, int, int]) -> bool:
        return self._life.call("runner.holds", self._runner.holds, key)

    def close(self, grace: float) -> list[TaskRequest]:
        return self._life.call("runner.close", self._runner.close, grace)

"""Simulate the outside of an execution, which outlives every crash.

`Record` keeps all committed events. `Outside` sends requests to the execution, again and again until they
are answered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

from mini_workflow.core import events, wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Event, ExecutionStarted
from mini_workflow.core.payload import EMPTY
from mini_workflow.core.records import frozen, replace
from mini_workflow.core.state import ExecutionState
from mini_workflow.engine.requests import Answer, Input, Post, Reply, Update
from mini_workflow.errors import ExecutionClosed, PromiseNotOpen, RuntimeClosed, StoreError
from mini_workflow.ports import Commit, Store, TaskOutcome

OVER = (ExecutionClosed, PromiseNotOpen)
"""The answers to a request that is sent again after it has taken place."""

ASKER = "ann"
"""Who asks for it, as is recorded."""


@frozen
class Say:
    """A request to an execution, sent once its history has `count` events of kind `after`.

    `answer` is the expected answer: the value of an update, or the type of the error that its caller
    gets; None for requests without an answer.
    """

    kind: Literal["signal", "update", "cancel", "complete", "fail", "heartbeat"]
    name: str = ""
    value: Any = None
    after: type[Any] = ExecutionStarted
    count: int = 1
    answer: Any = None


class Record:
    """All events that any process has committed, of all runs."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = defaultdict(list)
        self._events: dict[str, list[Event]] = defaultdict(list)
        self._copies: dict[str, list[Event]] = defaultdict(list)
        """Those with which a run began that was asked for when the one before had closed."""

    def watch(self, store: Store) -> Store:
        """Return a store that records the commits to a store."""
        return _Watched(store, self)

    def commit(self, commit: Commit) -> None:
        """Record a commit. Raises AssertionError if it does not continue its history."""
        lines = self._lines[commit.execution_id]
        if commit.deleted_at is not None:
            lines.clear()
            return
        if commit.expected != len(lines):
            raise AssertionError(f"the store has let a stale writer commit: {commit}")
        decoded = [wire.decode(line) for line in commit.events]
        if lines and decoded and isinstance(decoded[0], ExecutionStarted):
            self._copies[commit.execution_id].extend(decoded)
        lines.extend(commit.events)
        self._events[commit.execution_id].extend(decoded)

    def lines(self, execution_id: str) -> list[str]:
        """Return the lines of the histories of all runs."""
        return list(self._lines[execution_id])

    def events(self, execution_id: str) -> list[Event]:
        """Return the events of all runs."""
        return list(self._events[execution_id])

    def run(self, execution_id: str) -> list[Event]:
        """Return the events of the last run."""
        recorded = self._events[execution_id]
        starts = [n for n, event in enumerate(recorded) if isinstance(event, ExecutionStarted)]
        return recorded[starts[-1] :] if starts else []

    def count(self, execution_id: str, kind: type[Any]) -> int:
        """Return the number of different events of a kind."""
        all_of_them, copies = self._events[execution_id], self._copies[execution_id]
        return sum(isinstance(e, kind) for e in all_of_them) - sum(
            isinstance(e, kind) for e in copies
        )


class Outside:
    """A sender of requests to one execution, in order.

    The next request is sent when the one before is answered, without a wait for updates. Requests
    without an answer are sent again to the next process, with the same id. `said` are all requests, for
    tests that repeat them.
    """

    def __init__(
        self, execution_id: str, says: Sequence[Say], codec: Codec, record: Record
    ) -> None:
        self.said: list[Input] = []
        self._id = execution_id
        self._says = says
        self._codec = codec
        self._record = record
        self._open: dict[int, Post | Update] = {}
        self._times: dict[int, int] = defaultdict(int)
        self._answers: dict[int, Any] = {}

    def forget(self) -> None:
        """Forget the requests to a process that is gone."""
        self._open.clear()

    def step(self, send: Callable[[Input], None]) -> bool:
        """Send the next request, if its time has come. Return whether it was sent."""
        for index, say in enumerate(self._says):
            if index in self._answers or self._hear(index, say):
                continue
            if index in self._open:
                if say.kind == "update":
                    continue
                return False
            if self._record.count(self._id, say.after) < say.count:
                return False
            request = self._request(index, say)
            self._open[index] = request
            self._times[index] += 1
            self.said.append(request)
            send(request)
            return True
        return False

    def faults(self) -> list[str]:
        """Return the requests with a wrong outcome, at the end; empty if there are none."""
        found: list[str] = []
        for index, say in enumerate(self._says):
            answer = (
                self._answers[index]
                if index in self._answers or self._hear(index, say)
                else "nothing"
            )
            again = self._times[index] > 1
            if answer != say.answer and not (again and say.kind != "update" and answer in OVER):
                found.append(f"{say}: answer {answer!r}")
            if say.answer is None and not self._took_place(index, say):
                found.append(f"{say} was acknowledged, and is lost")
        return found

    def _took_place(self, index: int, say: Say) -> bool:
        if say.kind == "heartbeat":
            return True  # no event says so
        for event in self._record.events(self._id):
            if isinstance(event, (events.SignalReceived, events.UpdateAccepted)):
                took = event.id == _id(index)
            elif isinstance(event, events.CancelRequested):
                took = say.kind == "cancel"
            elif isinstance(event, (events.PromiseCompleted, events.PromiseFailed)):
                took = say.kind in ("complete", "fail")
            else:
                continue
            if took and event.asked_by == ASKER:
                return True
        return False

    def _hear(self, index: int, say: Say) -> bool:
        """Return whether there is an answer now. An answered update is not sent again."""
        request = self._open.get(index)
        answer: Any = None
        try:
            if say.kind == "update":
                answer = self._answer(index, request)
            elif request is None:
                return False
            else:
                request.reply.wait(0)
        except TimeoutError:
            return False
        except (StoreError, RuntimeClosed):
            del self._open[index]
            return False
        except Exception as error:
            answer = type(error)
        self._answers[index] = answer
        self._open.pop(index, None)
        return True

    def _answer(self, index: int, request: Post | Update | None) -> Any:
        answer = self._recorded_answer(index)
        if answer is None and request is not None:
            given = request.reply.wait(0)
            assert isinstance(given, Answer)
            answer = given
        if answer is None or (answer.event is None and answer.refusal is None):
            # Another process will record it.
            raise TimeoutError
        if isinstance(answer.event, events.UpdateCompleted):
            return self._codec.decode(answer.event.result)
        assert not isinstance(answer.event, events.UpdateAccepted)
        failure = answer.refusal if answer.event is None else answer.event.failure
        assert failure is not None
        raise self._codec.decode_failure(failure)

    def _recorded_answer(self, index: int) -> Answer | None:
        for event in self._record.events(self._id):
            if isinstance(
                event, (events.UpdateCompleted, events.UpdateFailed, events.UpdateRefused)
            ) and event.id == _id(index):
                return Answer(event)
        return None

    def _request(self, index: int, say: Say) -> Post | Update:
        name, run = self._id, self._record.run(self._id)
        now = max(getattr(event, "at", 0) for event in run)
        if say.kind == "update":
            both: list[Any] = [list(say.value), {}]
            arguments = self._codec.encode(both, "arguments")
            return Update(name, _id(index), say.name, arguments, now, asked_by=ASKER)
        if say.kind == "signal":
            value = self._codec.encode(say.value, "value")
            return Post(
                name, events.SignalReceived(now, say.name, value, _id(index), asked_by=ASKER)
            )
        if say.kind == "cancel":
            return Post(name, events.CancelRequested(now, say.name, _id(index), ASKER))
        seq = next(
            event.seq
            for event in self._record.events(name)
            if isinstance(event, events.PromiseCreated) and event.name == say.name
        )
        secret = ExecutionState.of(run).secret(seq)
        if say.kind == "heartbeat":
            return Post(name, events.PromiseHeartbeat(now, seq, EMPTY, secret))
        if say.kind == "complete":
            value = self._codec.encode(say.value, "value")
            return Post(name, events.PromiseCompleted(now, seq, value, secret, ASKER))
        failure = self._codec.encode_failure(say.value)
        return Post(name, events.PromiseFailed(now, seq, failure, secret, ASKER))


def again(request: Input) -> Input:
    """Return the same request again, as its sender repeats it without an answer."""
    if isinstance(request, Post):
        return Post(request.execution_id, replace(request.message))
    if isinstance(request, Update):
        return replace(request, reply=Reply())
    assert isinstance(request, TaskOutcome)
    return replace(request)


def _id(index: int) -> str:
    return f"said-{index}"


class _Watched:
    """A store whose commits are recorded."""

    def __init__(self, store: Store, record: Record) -> None:
        self._store = store
        self._record = record
        self.load = store.load
        self.extent = store.extent
        self.head = store.head
        self.history = store.history
        self.ends = store.ends
        self.list = store.list
        self.count = store.count
        self.lookup = store.lookup
        self.sweep = store.sweep

    def commit(self, commits: Sequence[Commit]) -> list[bool]:
        answers = self._store.commit(commits)
        for commit, committed in zip(commits, answers, strict=True):
            if committed:
                self._record.commit(commit)
        return answers

"""Describe the work and the waits of an execution, by its head and, if that is not enough, its history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final

from mini_workflow.core import events
from mini_workflow.core.asks import subject_of
from mini_workflow.core.awaited import Awaited
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.open_operations import OpenTask
from mini_workflow.core.progress import read_progress
from mini_workflow.core.records import frozen, replace
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.core.state import ExecutionState
from mini_workflow.core.timing import BEGIN, DEADLINE
from mini_workflow.engine.instants import instant
from mini_workflow.engine.plain_lines import LinesPart
from mini_workflow.errors import WireError
from mini_workflow.ports import Head


@frozen
class Wait:
    """An operation that an execution works on or waits for. Times are in UTC.

    `kind` is "task", "slot" (of a `limit`, for a task), "backoff", "map", "timer", "signal", "condition",
    "promise", "child", "start", "queue" (until the limit `name` grants the slot that the execution needs to
    begin), "update" (whose handler runs), "result" (of another execution), "answer" (of another execution,
    to the query or update that `name` describes), or empty where only the place in the code is known. `name`
    is the name of the task, the map, the signal, the promise or the update, the id of the child or the other
    execution, or the text of the condition. `number` is the number of the operation; 0 where it has none.

    The wait began `since` then. It ends at `until` if it is a timer, a wait for another attempt, or a start
    to come, and gives up at the `deadline`, if there is one. `line` is the line of the workflow's code that
    awaits it, as ``file:line in function``, where it is known.

    Of a task, `attempt` is the attempt that runs or comes next, of at most `attempts` if that is limited, on
    the `worker` that the task names; `discounted` attempts before do not count any more. `error` is the
    failure of the attempt before. `heartbeat` is the time of the last heartbeat, and `details` are those
    that the attempt gave last: `describe` alone has both.
    """

    kind: str
    name: str = ""
    number: int = 0
    since: datetime | None = None
    until: datetime | None = None
    deadline: datetime | None = None
    line: str = ""
    attempt: int = 1
    attempts: int | None = None
    worker: str = ""
    error: str = ""
    limit: str = ""
    discounted: int = 0
    heartbeat: datetime | None = None
    details: Any = None


@frozen
class Progress:
    """The progress of an execution by its own ``ctx.progress`` (`name` is empty), or of the ``ctx.map`` of
    that `name`. So many of its items are `done`, of a `total` if that is known; of a map, `failed` of them
    have failed and `open` ones are at work, at most `concurrency` at a time.
    """

    done: float
    total: float | None
    text: str = ""
    name: str = ""
    failed: int = 0
    open: int = 0
    concurrency: int | None = None
    since: datetime | None = None


@frozen
class Activity:
    """The work of an execution. In `waits` the operation that its code awaits comes first; the others are
    open beside it.

    `cancelling` is the time at which the execution was asked to cancel itself, with the `reason` and `by`
    whom; None if it was not. `undoing` says that it takes back the effects of its tasks.

    Where `waits` names only some of the operations that the code awaits, `kinds` are pairs of a kind and the
    number of all operations of that kind, of which at most WIDEST of `core.awaited` are counted; empty
    otherwise.
    """

    waits: tuple[Wait, ...] = ()
    progress: tuple[Progress, ...] = ()
    cancelling: datetime | None = None
    reason: str = ""
    by: str = ""
    undoing: bool = False
    kinds: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(
        cls,
        head: Head,
        look: Callable[[], AbstractContextManager[Look]] | None = None,
    ) -> Activity:
        """Return the activity of an execution. `look` reads its history; it is called only if the execution
        is running and the head does not say all. Without it, the answer is what the head says.
        """
        said = read_progress(head.progress)
        progress = () if said is None else (Progress(*said),)
        if head.status != "running":
            return cls(progress=progress)
        awaited = Awaited.from_text(head.waits)
        if look is None or (awaited is not None and not head.busy and awaited.kind in _PLAIN):
            return cls.from_head(head, awaited, progress)
        try:
            with look() as seen:
                return seen.activity(awaited, progress)
        except WireError:
            return cls.from_head(head, awaited, progress)

    @classmethod
    def from_head(
        cls, head: Head, awaited: Awaited | None, progress: tuple[Progress, ...]
    ) -> Activity:
        """Return the activity as far as the head says it."""
        waits = _listed(awaited, (), head.wake_at, busy=head.busy)
        return cls(waits, progress, kinds=() if awaited is None else awaited.kinds)


_PLAIN: Final = ("signal", "timer", "start", "queue", "condition")
"""The kinds of waits that are the only one if no task is at work: the history says no more."""


def _listed(
    awaited: Awaited | None,
    others: Iterable[Wait],
    wake_at: int | None = None,
    *,
    busy: bool = True,
) -> tuple[Wait, ...]:
    if awaited is None:
        return tuple(others)
    first = Wait(
        awaited.kind,
        awaited.name,
        awaited.seq,
        instant(awaited.since),
        instant(awaited.until),
        instant(awaited.deadline),
        awaited.line,
    )
    if awaited.kind == "task" and not busy and wake_at is not None:
        first = replace(first, kind="backoff", until=instant(wake_at))
    elif awaited.kind == "task" and not busy:
        first = replace(first, kind="slot")
    left = list(others)
    _take_out(left, awaited.kind, awaited.name)
    return (first, *_beside(awaited, left))


def _beside(awaited: Awaited, others: Iterable[Wait]) -> Iterator[Wait]:
    """Iterate over what is awaited together with the first, each as the one of the others that it is, and
    then over the rest of these.
    """
    left = list(others)
    for kind, name in awaited.also:
        yield _take_out(left, kind, name) or Wait(kind, name)
    yield from left


def _take_out(waits: list[Wait], kind: str, name: str) -> Wait | None:
    """Remove the first wait for something that is awaited, and return it; None if there is none. A task may
    wait for a slot, or to be tried again.
    """
    kinds = _TASKS if kind in _TASKS else (kind,)
    for place, one in enumerate(waits):
        if one.kind in kinds and one.name == name:
            return waits.pop(place)
    return None


class Look:
    """The open operations of a history, up to the last lines that were taken. `told` puts a failure into
    words.

    Nothing that it tells depends on a plain task but the counts of maps, and the time.
    """

    def __init__(self, told: Callable[[Failure], str] = Failure.summary) -> None:
        self.state = ExecutionState()
        self._told = told
        self._opened: dict[int, tuple[str, str, int]] = {}
        """The kind, the name and the time of each operation that has begun, by number."""
        self._updates: dict[str, tuple[str, int]] = {}
        self._failures: dict[int, Failure] = {}
        self._cancel: events.CancelRequested | None = None

    def take(self, lines: Sequence[str], parts: Iterable[LinesPart]) -> None:
        """Take in the next lines by what was read of them. Raises WireError if they cannot follow what came
        before.
        """
        state = self.state
        for part in parts:
            first = part.number
            for number, event in zip(part.numbers, part.events, strict=True):
                self._pass(part, first, number)
                if type(event) is events.TaskScheduled and event.map is not None:
                    part.count_mapped(state.maps, number)  # those that have ended are forgotten now
                self._apply(event)
                first = number + 1
            self._pass(part, first, part.number + len(part.at))
            part.count_mapped(state.maps, part.number + len(part.at))

    def _pass(self, part: LinesPart, first: int, number: int) -> None:
        """Take in the lines of plain tasks from one number to before another."""
        if first < number:
            at = part.at[first - part.number : number - part.number]
            self.state.now = max(self.state.now, *at)
            self.state.length += len(at)

    def _apply(self, event: Event) -> None:
        state = self.state
        state.apply(event)
        if type(event) not in _LOOKED_AT:
            return
        if isinstance(event, events.PromiseCreated):
            self._opened[event.seq] = ("promise", event.name, state.now)
        elif isinstance(event, events.ChildStarted):
            self._opened[event.seq] = ("child", event.id, state.now)
        elif isinstance(event, events.AskSent):
            about = subject_of(event.kind, event.name, event.target)
            self._opened[event.seq] = (*about, state.now)
        elif isinstance(event, events.TimerStarted):
            self._opened[event.seq] = ("timer", "", state.now)
        elif isinstance(event, events.UpdateAccepted):
            self._updates[event.id] = (event.name, event.at)
        elif isinstance(event, events.TaskRetryScheduled):
            self._failures[event.seq] = event.failure
        elif isinstance(event, events.CancelRequested):
            self._cancel = event

    def activity(self, awaited: Awaited | None, progress: tuple[Progress, ...]) -> Activity:
        """Return the activity, with the `awaited` operation first."""
        state = self.state
        maps = tuple(self._maps())
        found = list(self._open())
        if awaited is not None and awaited.kind in _TASKS:
            same = [one for one in found if one.kind in _TASKS and one.number == awaited.seq]
            deadline = instant(awaited.deadline)
            first = [
                replace(one, line=awaited.line, deadline=one.deadline or deadline) for one in same
            ]
            found = [one for one in found if one not in same]
            waits = (*first, *_beside(awaited, found))
        else:
            waits = _listed(awaited, found)
        undoing = any(task.undoes for task in state.tasks.values())
        cancel = self._cancel
        if cancel is None:
            return Activity(waits, (*progress, *maps), undoing=undoing)
        by = cancel.asked_by
        at = instant(cancel.at)
        return Activity(waits, (*progress, *maps), at, cancel.reason, by, undoing)

    def _maps(self) -> Iterator[Progress]:
        for one in self.state.maps.values():
            yield Progress(
                one.done + one.failed,
                one.items,
                name=one.name,
                failed=one.failed,
                open=one.open,
                concurrency=one.concurrency,
            )

    def _open(self) -> Iterator[Wait]:
        """Iterate over the open operations, those that run first."""
        state = self.state
        for name, answered in state.updates.items():
            if not answered and name in self._updates:
                called, at = self._updates[name]
                yield Wait("update", called, since=instant(at))
        mapped: set[int] = set()
        waiting: list[Wait] = []
        for seq, task in state.tasks.items():
            if task.part_of in state.maps and task.retry_at is None and not task.waits:
                if task.part_of not in mapped:
                    mapped.add(task.part_of)
                    name = state.maps[task.part_of].name
                    yield Wait("map", name, task.part_of, instant(task.since))
                continue
            one = self._task(seq, task)
            if task.in_flight:
                yield one
            else:
                waiting.append(one)
        yield from waiting
        if state.own_slot is not None and state.own_slot.waits:
            yield Wait("queue", state.own_slot.limit["name"])
        for seq, promise in state.promises.items():
            _, name, since = self._opened.get(seq, ("", "", state.now))
            yield Wait("promise", name, seq, instant(since), instant(promise.due))
        yield from self._operations("child", state.children)
        for seq in state.asks:
            kind, name, since = self._opened[seq]
            yield Wait(kind, name, seq, instant(since))
        for seq, at in state.timers.items():
            if seq == BEGIN:
                yield Wait("start", since=instant(state.started_at), until=instant(at))
            elif seq != DEADLINE and seq not in state.promises:
                _, _, since = self._opened.get(seq, ("", "", state.now))
                yield Wait("timer", "", seq, instant(since), instant(at))

    def _operations(self, kind: str, seqs: Iterable[int]) -> Iterator[Wait]:
        for seq in seqs:
            _, name, since = self._opened.get(seq, ("", "", self.state.now))
            yield Wait(kind, name, seq, instant(since))

    def _task(self, seq: int, task: OpenTask) -> Wait:
        attempts = RetryPolicy.from_plain(task.retry).max_attempts if task.retry else None
        kind = "slot" if task.waits else "task" if task.retry_at is None else "backoff"
        failure = self._failures.get(seq)
        limit = None if task.timeout is None or not task.in_flight else task.since + task.timeout
        return Wait(
            kind,
            task.name,
            seq,
            instant(task.since),
            instant(task.retry_at),
            instant(limit),
            attempt=task.attempt - task.discounted,
            attempts=attempts,
            worker=task.worker,
            error="" if failure is None else self._told(failure),
            limit="" if task.limit is None else task.limit["name"],
            discounted=task.discounted,
        )


_TASKS: Final = ("task", "backoff", "slot")

_LOOKED_AT: Final[frozenset[type[Event]]] = frozenset(
    (
        events.PromiseCreated,
        events.ChildStarted,
        events.AskSent,
        events.TimerStarted,
        events.UpdateAccepted,
        events.TaskRetryScheduled,
        events.CancelRequested,
    )
)

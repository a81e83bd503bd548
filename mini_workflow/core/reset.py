"""Reset an execution: begin a new run with events of another run, and continue from there.

Retry and restart share this mechanism. The new run begins with a prefix of the other run's history and an
`ExecutionReset`. Messages that arrived behind the cut and still count are delivered again after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

from mini_workflow.core import events
from mini_workflow.core.events import CLOSING, INCOMING, Event, Message
from mini_workflow.core.failure import Failure
from mini_workflow.core.open_operations import part_of
from mini_workflow.core.payload import Payload
from mini_workflow.core.recorded import python_version
from mini_workflow.core.records import record, replace
from mini_workflow.core.slots import OwnSlot
from mini_workflow.core.state import ExecutionState
from mini_workflow.core.timing import DEADLINE
from mini_workflow.errors import WireError

UNDO: Final = "undo "
"""The beginning of the name of a task that takes another one back."""

_FAILED: Final = (
    events.TaskFailed,
    events.InlineTaskFailed,
    events.ChildFailed,
    events.PromiseFailed,
    events.AskFailed,
)


@record
class Reset:
    """The beginning of a run: its `history`, and the `messages` that it takes next, of which the reset is the
    first. `children` are the children to run again, as (id, number of the child).
    """

    history: tuple[Event, ...]
    messages: tuple[Message, ...]
    children: tuple[tuple[str, int], ...] = ()


def first_arguments(started: events.ExecutionStarted) -> Payload | None:
    """Return the arguments of an execution's first run; None if an older version did not record them."""
    if started.began_with is not None:
        return started.began_with
    if started.origin in ("", started.arguments.fingerprint()):
        return started.arguments
    return None


# Where to cut


def retry_cut(history: Sequence[Event]) -> int:
    """Return the number of events to keep of a run that has ended without a result.

    The cut stands before the cause of the end: the failure of the task that the run's own failure comes
    from, the request to cancel, the termination, or the turn in which the code itself raised. It also
    stands before every task that was taken back since, so that these are made again.
    """
    end = next((i for i, e in enumerate(history) if type(e) in CLOSING), len(history))
    closing = history[end] if end < len(history) else None
    before = history[:end]
    undone = _undone(before)
    if isinstance(closing, events.ExecutionTerminated):
        cut = end
    elif isinstance(closing, events.ExecutionCancelled) and (
        asked := [i for i, e in enumerate(before) if isinstance(e, events.CancelRequested)]
    ):
        cut = asked[-1]
    elif isinstance(closing, events.ExecutionCancelled) and started_of(history).cancel is not None:
        cut = 1  # the run was cancelled before it began
    else:
        first_undo = next((i for i, e in enumerate(before) if _is_undo(e)), None)
        cut = _turn_of(history, end - 1 if first_undo is None else first_undo)
        if isinstance(closing, events.ExecutionFailed):
            cut = min([cut, *_causes(before, closing.failure), *_deadline(before)])
    if undone is not None:
        # The cut is before its start, not only before its outcome: made again under its old number, the
        # task would have its old idempotency key, by which a service takes it for done.
        cut = min(cut, _turn_of(history, undone))
    return max(1, cut)


def started_of(history: Sequence[Event]) -> events.ExecutionStarted:
    """Return the first event. Raises WireError if it is no ExecutionStarted."""
    first = history[0]
    if not isinstance(first, events.ExecutionStarted):
        raise WireError(f"a history begins with ExecutionStarted, not with {first!r}")
    return first


def highest_number(history: Sequence[Event]) -> int:
    """Return the highest number of an operation in a history."""
    numbers = (max(getattr(e, "seq", 0), getattr(e, "highest", 0)) for e in history)
    return max(started_of(history).first_seq, *numbers)


def _turn_of(history: Sequence[Event], index: int) -> int:
    """Return the index of the incoming event that begins the turn of an event."""
    return next(i for i in range(index, -1, -1) if type(history[i]) in INCOMING)


def _causes(history: Sequence[Event], failure: Failure) -> Iterator[int]:
    """Return the begins of the turns in which the parts of a failure arrived."""
    wanted = Counter((part.type, part.message) for part in _parts(failure))
    for index in range(len(history) - 1, -1, -1):
        event = history[index]
        if isinstance(event, _FAILED):
            key = (event.failure.type, event.failure.message)
            if wanted[key] > 0:
                wanted[key] -= 1
                yield _turn_of(history, index)


def _deadline(history: Sequence[Event]) -> Iterator[int]:
    """Return the index of the event that the execution's deadline has passed, if there is one."""
    for index, event in enumerate(history):
        if isinstance(event, events.TimerFired) and event.seq == DEADLINE:
            yield index


def _parts(failure: Failure) -> Iterator[Failure]:
    """Return a failure, its causes, and the members of groups."""
    yield failure
    if failure.cause is not None:
        yield from _parts(failure.cause)
    state: Any = failure.state
    members: Any = cast("dict[str, Any]", state).get("members") if isinstance(state, dict) else None
    if isinstance(members, list):
        for member in cast("list[Any]", members):
            yield from _parts(Failure.from_plain(member))


def _is_undo(event: Event) -> bool:
    if not isinstance(event, events.TaskScheduled):
        return False
    return event.undoes > 0 or event.name.startswith(UNDO)


def _undone(history: Sequence[Event]) -> int | None:
    """Return the index of the first scheduled task that was taken back, or None."""
    scheduled: dict[int, int] = {}
    by_name: dict[str, list[int]] = {}
    found: list[int] = []
    for index, event in enumerate(history):
        if not isinstance(event, events.TaskScheduled):
            continue
        if event.undoes:
            found.append(scheduled.get(event.undoes, index))
        elif _is_undo(event):
            # Older versions record no number; they take back the last task of a name first.
            same = by_name.get(event.name[len(UNDO) :])
            found.append(same.pop() if same else index)
        scheduled[event.seq] = index
        by_name.setdefault(event.name, []).append(index)
    return min(found, default=None)


# The beginning of the new run


def retry(history: Sequence[Event], *, at: int, request_id: str) -> Reset:
    """Return the beginning of a run that continues a closed one from its last good point.

    `at` is the time of the reset (milliseconds since the epoch). Raises WireError if the history is
    damaged.
    """
    kept = retry_cut(history)
    first, prefix, tail = started_of(history), history[:kept], history[kept:]
    state, highest = ExecutionState.of(prefix), highest_number(history)
    dropped = next((e.id for e in tail if isinstance(e, events.CancelRequested)), "")
    started = replace(
        first,
        run=first.run + 1,
        rerun=first.run + 1,
        first_seq=highest if kept == 1 else first.first_seq,
        cancel=None if kept == 1 else first.cancel,
        cancelled=dropped or first.cancelled,
    )
    attempts, running = _attempts(history, tail, state)
    marker = events.ExecutionReset(
        at,
        "retry",
        first.run + 1,
        kept,
        highest,
        request_id,
        attempts=attempts or None,
        running=running or None,
        asks=_asks(tail, state, first.run + 1) or None,
    )
    cut = tail[0] if tail else None
    if isinstance(cut, events.TimerFired):
        timers = (e for e in prefix if isinstance(e, events.TimerStarted) and e.seq == cut.seq)
        timer = next(timers, None)
        if timer is not None and timer.wait is not None:
            marker = replace(marker, timer=cut.seq, fire_at=at + timer.wait)
        promise = state.promises.get(cut.seq)
        if promise is not None and promise.timeout is not None:
            marker = replace(marker, timer=cut.seq, fire_at=at + promise.timeout)
    messages = tuple(_again(tail, cut, state, marker))
    known = {m.seq for m in messages if isinstance(m, (events.ChildCompleted, events.ChildFailed))}
    children = tuple((child.id, seq) for seq, child in state.children.items() if seq not in known)
    return Reset((started, *prefix[1:]), (marker, *messages), children)


def _asks(tail: Sequence[Event], state: ExecutionState, run: int) -> dict[str, int]:
    """Return the asks that are open at the cut and were not answered since: see `ExecutionReset`. Those
    that have failed are asked anew.
    """
    answered = {event.seq for event in tail if isinstance(event, events.AskAnswered)}
    failed = {event.seq for event in tail if isinstance(event, events.AskFailed)}
    return {str(seq): run if seq in failed else 0 for seq in state.asks if seq not in answered}


def _attempts(
    history: Sequence[Event], tail: Sequence[Event], state: ExecutionState
) -> tuple[dict[str, int], list[int]]:
    """Return the number of the next attempt of each task that is open at the cut, and the tasks whose
    attempt is still being made.
    """
    attempts = {str(seq): task.attempt + 1 for seq, task in state.tasks.items()}
    running: list[int] = []
    for event in tail:
        if isinstance(event, (events.TaskCompleted, events.TaskFailed, events.TaskRetryScheduled)):
            number, done = str(event.seq), isinstance(event, events.TaskCompleted)
            attempt = event.attempt + isinstance(event, events.TaskFailed)
            if number in attempts:
                attempts[number] = attempt if done else max(attempts[number], attempt)
    for seq, task in ExecutionState.of(history).tasks.items():
        if str(seq) in attempts and task.in_flight:
            running.append(seq)
            attempts[str(seq)] = task.attempt
    return attempts, running


def restart(
    history: Sequence[Event],
    *,
    at: int,
    request_id: str,
    seed: int,
    key: str,
    arguments: Payload | None = None,
) -> Reset:
    """Return the beginning of a run that starts again, with `arguments` or those of the first run.

    `at` is the time of the reset (milliseconds since the epoch). Raises WireError if the arguments of the
    first run are needed and were not recorded.
    """
    first, highest = started_of(history), highest_number(history)
    known = first_arguments(first) if arguments is None else arguments
    if known is None:
        raise WireError("the arguments of the first run were not recorded")
    started = replace(
        first,
        at=at,
        arguments=known,
        seed=seed,
        key=key,
        python=python_version(),
        run=first.run + 1,
        rerun=first.run + 1,
        first_seq=highest,
        origin="",
        children=None,
        askers=None,
        updates=None,
        signals=None,
        cancelled="",
        cancel=None,
        behaviour=events.BEHAVIOUR,
        began_with=None,
        delay=None,
        start_at=None,
        # A run that follows others has recorded the rest of the timeout as its deadline.
        timeout=first.timeout if first.deadline is None else first.deadline - first.at,
        deadline=None,
        attempt=1,
        failure=None,
        limit=None if first.limit is None else OwnSlot(first.limit).limit,
    )
    marker = events.ExecutionReset(at, "restart", first.run + 1, 1, highest, request_id)
    return Reset((started,), (marker,))


def _again(
    tail: Sequence[Event], cut: Event | None, state: ExecutionState, marker: events.ExecutionReset
) -> Iterator[Message]:
    """Return the messages from behind the cut that still count. Acknowledged messages are never lost;
    failures are left out, since their operations are made again.
    """
    before = marker.run - 1
    for event in tail:
        if isinstance(event, (events.SignalReceived, events.SignalUnhandled)):
            about = (event.at, event.name, event.value, event.id, event.headers, event.asked_by)
            yield events.SignalReceived(*about, first_run=event.first_run or before)
        elif isinstance(event, events.UpdateAccepted):
            yield event
        elif isinstance(event, events.TaskCompleted):
            if event.seq in state.tasks:
                yield event
        elif isinstance(event, events.TimerFired):
            gone = (marker.timer, DEADLINE, *state.promises)
            if event.seq in state.timers and event.seq not in gone:
                yield event
        elif isinstance(event, (events.PromiseCompleted, events.PromiseFailed)):
            if event.seq in state.promises and event is not cut:
                yield replace(event, secret=state.secret(event.seq))
        elif isinstance(event, events.AskAnswered):
            if event.seq in state.asks:
                yield replace(event, id=f"/{part_of(state, event.seq)}")
        elif isinstance(event, (events.ChildCompleted, events.ChildFailed)):
            awaited = event.seq in state.children
            if not (awaited and isinstance(event, events.ChildFailed)) and (
                awaited or event.seq in state.child_ids or event.seq in state.inherited
            ):
                yield event

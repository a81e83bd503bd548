"""Fork an execution: begin a new one with events of another one, and continue from there.

Facts that hold for the other execution alone are removed from the events: its parent waits for it, callers
wait for its updates, and its children run. Operations that are open at the cut begin again, behind an
`ExecutionReset`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from mini_workflow.core import events
from mini_workflow.core.children import made_up_id
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import CLOSING, Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import record, replace
from mini_workflow.core.reset import Reset, highest_number, started_of
from mini_workflow.core.state import ExecutionState
from mini_workflow.errors import UsageError

_LISTED: Final = 20
"""How many operations an error lists. Our own bound."""

_KINDS: Final[dict[type[Event], str]] = {
    events.TaskScheduled: "task",
    events.InlineTaskCompleted: "task",
    events.InlineTaskFailed: "task",
    events.ChildStarted: "child",
    events.StartSent: "start",
    events.PromiseCreated: "promise",
    events.TimerStarted: "timer",
    events.SignalSent: "signal to another execution",
    events.AskSent: "ask of another execution",
    events.SignalReceived: "signal",
    events.UpdateAccepted: "update",
}
"""The operations that can be named as the place of a cut, with their kind in words."""

_ELSEWHERE: Final = (
    events.ChildStarted,
    events.ChildCompleted,
    events.ChildFailed,
    events.StartSent,
    events.SignalSent,
    events.CompletionSent,
    events.AskSent,
    events.AskAnswered,
    events.AskFailed,
)
"""The events whose values are encoded for another execution."""


@record
class Operation:
    """An operation that can be named as the place of a cut. `event` is the number of its event, from 1."""

    kind: str
    name: str
    seq: int
    event: int

    def __str__(self) -> str:
        number = f"#{self.seq}, " if self.seq else ""
        return f"{self.kind} {self.name!r} ({number}event {self.event})"


def operations(history: Sequence[Event]) -> Iterator[Operation]:
    """Return the operations of a history that can be named, in order."""
    for number, event in enumerate(history, 1):
        kind = _KINDS.get(type(event))
        if kind is not None:
            name = getattr(event, "name", "") or kind
            yield Operation(kind, name, getattr(event, "seq", 0), number)


# Where to cut


def cut_of(history: Sequence[Event], before: str | int | None, at: int | None) -> int:
    """Return the number of events that a fork keeps: those before the operation of the name or number
    `before`, or the first `at` ones.

    Raises UsageError if not exactly one is given, or there is no such operation or event.
    """
    end = next((i for i, e in enumerate(history) if type(e) in CLOSING), len(history))
    if (before is None) == (at is None):
        raise UsageError(
            "fork(): give either before= (a name or a number) or at= (the number of an event)"
        )
    if at is not None:
        if type(at) is not int or not 1 <= at <= end:
            raise UsageError(
                f"fork(at={at!r}): give the number of events to keep, 1 to {end}; event {end + 1} "
                f"{'ends the execution' if end < len(history) else 'is not recorded'}"
            )
        return at
    found = _named(history[:end], before, "before")
    if found.event == 1:
        raise UsageError(
            f"fork(before={before!r}): this is the first event; name a later operation"
        )
    return found.event - 1


def _named(history: Sequence[Event], name: object, what: str) -> Operation:
    """Return the operation of that name or number. Raises UsageError if there is not exactly one."""
    known = list(operations(history))
    found = [o for o in known if name in (o.name, o.seq or None)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            f"fork({what}={name!r}): the history has no operation of that name or number; it has "
            f"{_list(known)}"
        )
    raise UsageError(
        f"fork({what}={name!r}): several operations match: {_list(found)}; give the number of one, or cut "
        "by at= and the number of an event"
    )


def _list(found: Sequence[Operation]) -> str:
    shown = ", ".join(map(str, found[:_LISTED]))
    more = len(found) - _LISTED
    return (shown or "no operations") + (f" and {more} more" if more > 0 else "")


# Other results


def patched(
    prefix: Sequence[Event], patch: Mapping[str | int, Any], encode: Callable[[int, Any], Payload]
) -> list[Event]:
    """Return the events with other results of tasks and children.

    `patch` has the new results by the name or number of the operation; `encode` encodes one, given the
    number. Raises UsageError if there is no such operation, or it has no outcome to replace.
    """
    results: dict[int, Payload] = {}
    for name, value in patch.items():
        if isinstance(value, BaseException):
            raise UsageError(
                f"fork(patch={{{name!r}: {value!r}}}): an exception cannot replace a result; give another "
                "result"
            )
        chosen = [o for o in operations(prefix) if name in (o.name, o.seq)]
        able = [o for o in chosen if o.kind in ("task", "child") and _has_outcome(prefix, o.seq)]
        if chosen and not able:
            raise UsageError(
                f"fork(patch={{{name!r}: ...}}): only the outcome of a task or a child before the cut can "
                f"be replaced, and not that of {_list(chosen)}"
            )
        operation = able[0] if len(able) == 1 else _named(prefix, name, "patch")
        results[operation.seq] = encode(operation.seq, value)
    return [_with_result(event, results) for event in prefix]


def _has_outcome(prefix: Sequence[Event], seq: int) -> bool:
    """Return whether the code has received the outcome of the operation."""
    for event in prefix:
        if getattr(event, "seq", 0) == seq:
            if isinstance(event, (events.TaskCancelled, events.ChildCancelled)):
                return False
            if isinstance(event, _OUTCOMES):
                return True
    return False


_OUTCOMES: Final = (
    events.TaskCompleted,
    events.TaskFailed,
    events.InlineTaskCompleted,
    events.InlineTaskFailed,
    events.ChildCompleted,
    events.ChildFailed,
)


def _with_result(event: Event, results: Mapping[int, Payload]) -> Event:
    if not isinstance(event, _OUTCOMES) or event.seq not in results:
        return event
    result = results[event.seq]
    if isinstance(event, (events.TaskCompleted, events.TaskFailed)):
        return events.TaskCompleted(event.at, event.seq, event.attempt, result)
    if isinstance(event, (events.ChildCompleted, events.ChildFailed)):
        return events.ChildCompleted(event.at, event.seq, result)
    return events.InlineTaskCompleted(
        event.seq, event.name, result, refused=event.refused, call=event.call
    )


# The beginning of the fork


def fork(
    prefix: Sequence[Event],
    *,
    source: str,
    execution_id: str,
    at: int,
    request_id: str,
    key: str,
    codec: Codec,
    asked_by: str = "",
) -> Reset:
    """Return the beginning of the execution `execution_id` with the events `prefix` of the `source`.

    `at` is the time of the fork (milliseconds since the epoch). The tokens of its promises are made from
    `key`. `codec` is bound to no execution. `asked_by` is the caller's name, if it was given.
    """
    state, first = ExecutionState.of(prefix), started_of(prefix)
    ended = {e.seq for e in prefix if isinstance(e, (events.ChildCompleted, events.ChildFailed))}
    started = replace(
        first,
        key=key,
        forked_from={"id": source, "event": len(prefix)},
        # Only children whose end stands in the history, where it refers to them.
        children=[child for child in first.children or () if child["seq"] in ended] or None,
        updates=None,
        rerun=0,
        askers=None,
    )
    own, new = codec.for_execution(source), codec.for_execution(execution_id)
    history = [
        _of_fork(event, state, execution_id, codec)
        if isinstance(event, _ELSEWHERE)
        else moved(event, own, new)
        for event in (started, *prefix[1:])
    ]
    marker = events.ExecutionReset(
        max(at, state.now),
        "fork",
        first.run,
        len(prefix),
        highest_number(prefix),
        request_id,
        attempts={str(seq): task.attempt for seq, task in state.tasks.items()} or None,
        asked_by=asked_by,
        asks={str(seq): ask.again for seq, ask in state.asks.items()} or None,
    )
    return Reset(tuple(history), (marker,))


def _of_fork(event: Event, state: ExecutionState, execution_id: str, codec: Codec) -> Event:
    """Return an event about another execution. An open child is replaced by a new one."""
    if not isinstance(event, events.ChildStarted) or event.seq not in state.children:
        return event
    child = made_up_id(execution_id, state.seed, event.seq)
    old, new = codec.for_execution(event.id), codec.for_execution(child)
    return replace(moved(event, old, new), id=child)


def moved(event: Event, source: Codec, target: Codec) -> Any:
    """Return an event with its values encoded for another execution. `source` and `target` are the codecs."""
    if source is target:
        return event
    changes: dict[str, Any] = {}
    for field in fields(event):
        value = getattr(event, field.name)
        if isinstance(value, Payload):
            changes[field.name] = source.moved(value, target)
        elif isinstance(value, Failure):
            changes[field.name] = source.moved_failure(value, target)
    return replace(event, **changes) if changes else event

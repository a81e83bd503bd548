"""Make the first event of an execution, and the next run or the block that follows a run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mini_workflow.core import events
from mini_workflow.core.awaited import is_of_task, waits_of
from mini_workflow.core.commands import Command, SendMessage
from mini_workflow.core.comparison import mismatch_of, read_mismatch
from mini_workflow.core.continuation import carried_children, carried_signals, carried_updates
from mini_workflow.core.decide import Decision
from mini_workflow.core.events import Event, Message
from mini_workflow.core.failure import head_text
from mini_workflow.core.limit import LIMIT, limit_of
from mini_workflow.core.payload import Payload
from mini_workflow.core.recorded import python_version
from mini_workflow.core.records import replace
from mini_workflow.core.run import Run
from mini_workflow.core.seed import seed_and_key
from mini_workflow.core.state import ExecutionState
from mini_workflow.core.tags import tags_after, tags_as_text
from mini_workflow.core.tasks import TaskFuture
from mini_workflow.core.timing import UNTIMED, Timing
from mini_workflow.errors import HistoryTooLong, TurnTimeout
from mini_workflow.ports import Head

if TYPE_CHECKING:
    from mini_workflow.core.reset import Reset

log = logging.getLogger("mini_workflow.engine")


def first_event(
    workflow: str,
    arguments: Payload,
    now: int,
    entropy: int,
    parent: dict[str, Any] | None = None,
    worker: str = "",
    timing: Timing = UNTIMED,
    tags: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    first_seq: int = 0,
) -> events.ExecutionStarted:
    """Return the first event of an execution that starts `now` (milliseconds since the epoch). `entropy` are
    ENTROPY_BITS random bits. `worker` is the worker of all its tasks; empty if they name their own.
    `first_seq` are the `Found.deleted_events` of its id. The execution needs a slot of the limit in its
    `timing`, or else of the one that its workflow has by the code of this process.
    """
    seed, key = seed_and_key(entropy)
    return events.ExecutionStarted(
        *(now, workflow, arguments, seed),
        python=python_version(),
        parent=parent,
        first_seq=first_seq,
        key=key,
        behaviour=events.BEHAVIOUR,
        tags=tags or None,
        delay=timing.delay,
        start_at=timing.start_at,
        timeout=timing.timeout,
        retry=timing.retry,
        worker=worker,
        headers=headers or None,
        limit=timing.limit or limit_of(workflow),
    )


def first_head(execution_id: str, started: events.ExecutionStarted) -> Head:
    """Return the head of an execution that begins with that event."""
    return Head(
        execution_id,
        started.workflow,
        "running",
        started.at,
        run=started.run,
        parent=parent_of(started.parent) if started.forked_from is None else None,
        tags=tags_as_text(started.tags),
    )


def tagged(head: Head, taken: Iterable[Event]) -> Head:
    """Return the head with the tags that the execution has after these events."""
    tags = tags_after(head.tags, taken)
    return head if tags == head.tags else replace(head, tags=tags)


def parent_of(about: dict[str, Any] | None) -> str | None:
    """Return the id of the parent. `about` is the `parent` of the first event: the execution that has started
    this one. An execution that is only notified of the end is no parent.
    """
    return None if about is None or "notify" in about else about["id"]


def next_run(
    run: Run, decision: Decision, head: Head, before: int, entropy: int
) -> tuple[tuple[Event, ...], Head, tuple[Message, ...]]:
    """Return the events, the head and the messages that move on, to commit when a run has continued as new.

    The first event of the next run is recorded with the end of this one, and its code runs in a
    turn of its own. A request to cancel that has arrived meanwhile goes into that event: code that
    continues as new without ever waiting would never see it. `before` is the number of stored events.
    """
    taken = decision.events
    closing = next(e for e in taken if isinstance(e, events.ContinuedAsNew))
    assert run.started is not None
    number = run.started.run
    waiting = tuple(
        replace(signal, first_run=signal.first_run or number)
        for signal in run.messages.unreceived()
    )
    cancel = next((m for m in decision.left if isinstance(m, events.CancelRequested)), None)
    from mini_workflow.core.reset import first_arguments

    seed, key = seed_and_key(entropy)
    first = first_arguments(run.started)
    slot, generation, failed = (
        run.state.own_slot,
        run.state.generation(),
        closing.failure is not None,
    )
    delay, start_at = closing.delay, None
    if delay is not None and (begins := run.loop.begins_at()) != run.state.now:
        # The run's own time does not go back, and may differ from the clock: the wait goes by the clock.
        delay, start_at = None, begins + delay
    started = replace(
        run.started,
        at=run.state.now,
        arguments=closing.arguments,
        seed=seed,
        key=key,
        python=python_version(),
        run=number + 1,
        first_seq=run.recorder.seq,
        origin=run.started.origin or run.started.arguments.fingerprint(),
        began_with=None if first in (None, closing.arguments) else first,
        # A run that has failed has told its children so.
        children=None if failed else carried_children(run.state.family()),
        askers=[one for one, kind in run.state.askers.items() if kind == "result"] or None,
        updates=carried_updates(run.state.answers, run.messages.cut),
        cancelled=run.state.cancelled_by if cancel is None else cancel.id,
        cancel=None if cancel is None else cancel.reason,
        behaviour=events.BEHAVIOUR,
        delay=delay,
        start_at=start_at,
        timeout=None,
        deadline=_deadline_of_next(run),
        attempt=run.started.attempt + 1 if failed else 1,
        failure=closing.failure,
        signals=carried_signals(run.state.signal_ids, (signal.id for signal in waiting)),
        tags=run.state.tags or None,
        limit=None if slot is None else slot.limit if failed else slot.handed_on(generation),
        unwaited=run.unwaited,
    )
    after = _begun(head, started.run, before + len(taken))
    left = tuple(message for message in decision.left if message is not cancel)
    return (*taken, started), after, (*waiting, *left)


def _deadline_of_next(run: Run) -> int | None:
    """Return the deadline of the next run: earlier by as much as the clock was set back. It stays as it is if
    the clock is behind the run's own time, since the run then notices that itself, and if the earlier
    deadline would have passed already: then the clock was set forward again.
    """
    state, clock = run.state, run.loop.clock
    if state.deadline is None or clock is None:
        return state.deadline
    earlier = state.deadline - state.deadline_moved
    return earlier if state.now <= clock < earlier else state.deadline


def _begun(head: Head, run: int, base: int) -> Head:
    """Return the head of an execution whose next run has begun, behind `base` events."""
    return replace(
        head, status="running", closed_at=None, busy=True, wake_at=None, run=run, base=base
    )


def reset_run(
    execution_id: str,
    history: Sequence[Event],
    request: events.ResetRequested,
    head: Head,
    length: int,
    entropy: int,
) -> tuple[Reset, Head, tuple[Command, ...]]:
    """Return the run that follows a closed one, its head, and the messages to the children that have to run
    again. `length` is the number of events of all runs.

    Raises WireError if the arguments of the first run are not known.
    """
    from mini_workflow.core.reset import restart, retry

    at, name = max(request.at, head.closed_at or 0), request.id
    if request.how == "restart":
        seed, key = seed_and_key(entropy)
        made = restart(
            history, at=at, request_id=name, seed=seed, key=key, arguments=request.began_with
        )
    else:
        made = retry(history, at=at, request_id=name)
    marker = made.messages[0]
    if request.asked_by and isinstance(marker, events.ExecutionReset):
        marker = replace(marker, asked_by=request.asked_by)
        made = replace(made, messages=(marker, *made.messages[1:]))
    after = _begun(head, head.run + 1, length)
    # Those that the code has set since then it sets again.
    after = replace(after, tags=tags_as_text(ExecutionState.of(made.history).tags))
    said: list[Command] = []
    for child, seq in made.children:
        key = f"{execution_id}/{after.run}/{seq}/retry"
        said.append(SendMessage(child, events.ResetRequested(at, "retry", 0, key), key))
    return made, after, tuple(said)


def bounded(head: Head, before: int, after: int, limit: int) -> Head:
    """Return the head, blocked if the history has grown to the limit; a warning is logged half-way.

    `before` and `after` are the numbers of events before and after this turn.
    """
    if head.closed_at is not None or head.status == "blocked" or head.workflow == LIMIT:
        return head  # the history of a limit may be longer, and continues as new by itself
    length = after - head.base
    if before - head.base < limit // 2 <= length:
        log.warning(
            "[%s] the history has %d events, and the execution is blocked at %d: have the workflow call "
            "ctx.continue_as_new() before",
            head.execution_id,
            length,
            limit,
        )
    if length < limit:
        return head
    return blocked(
        head,
        HistoryTooLong(
            f"the history has reached {length:,} events, and the limit is {limit:,}: have the "
            "workflow call ctx.continue_as_new() before, or open the runtime with a higher "
            "history_limit"
        ),
    )


def blocked(head: Head, reason: BaseException) -> Head:
    """Return the head of an execution that cannot go on."""
    mismatch = mismatch_of(reason)
    return replace(
        head,
        status="blocked",
        busy=False,
        wake_at=None,
        waits=head.waits if mismatch is None else mismatch.to_text(),
        blocked_kind=type(reason).__name__,
        # Text that quotes a stored name may hold what UTF-8 cannot say.
        blocked_reason=f"{type(reason).__name__}: {reason}".encode(
            errors="backslashreplace"
        ).decode(),
    )


def deadly(deaths: int) -> TurnTimeout:
    """Return the error of a turn during which the process has ended so many times."""
    return TurnTimeout(
        f"the process has ended {deaths} times during this turn: it ran out of memory or of time. Give the "
        "function more of both, or move the work into a task, then call resume() to continue"
    )


def with_waits(head: Head, run: Run, decided: Sequence[Event], *, always: bool) -> Head:
    """Return the head with the operation that the code awaits after a turn that has `decided` these events,
    or with the failure of a failed execution. Unless the head is written anyway (`always`), it stays the same
    while the code awaits one task after the other.

    The last progress of an execution stays when it has closed.
    """
    waits = head.waits
    if head.status == "blocked" and read_mismatch(waits) is not None:
        pass  # both sides of why it does not go on
    elif head.status == "failed":
        ended = (one.failure for one in decided if isinstance(one, events.ExecutionFailed))
        waits = next(map(head_text, ended), waits)
    elif head.status != "running":
        waits = ""
    elif always or type(run.waiter()) is not TaskFuture or (waits and not is_of_task(waits)):
        try:
            waits = waits_of(run)
        except Exception:
            waits = ""
            # It reads objects of the code and of asyncio; a turn must not fail because of that.
            log.exception(
                "[%s] the operation that its code awaits cannot be described", head.execution_id
            )
    progress = run.progress or head.progress
    if waits == head.waits and progress == head.progress:
        return head
    return replace(head, waits=waits, progress=progress)

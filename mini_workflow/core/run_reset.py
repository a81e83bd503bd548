"""Apply a reset to the state of a run that begins with events of an earlier run or another execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mini_workflow.core import events
from mini_workflow.core.open_operations import OpenTask, ask_again
from mini_workflow.core.timing import DEADLINE

if TYPE_CHECKING:
    from mini_workflow.core.state import ExecutionState


def reset_run(state: ExecutionState, event: events.ExecutionReset) -> None:
    """Begin the open operations again: tasks with the attempts that the event gives, timers, promises,
    asks and slots. Raises WireError if the execution has closed.
    """
    state.check_open(event)
    state.resets.add((event.run, event.id))
    ask_again(state, event)
    if state.own_slot is not None:
        state.own_slot.begin_anew()
    if state.slots is not None:
        state.slots.begin_anew()
        for seq, task in state.tasks.items():
            if task.waits and task.limit is not None:
                state.slots.ask(seq, task.limit)
    for number, attempt in (event.attempts or {}).items():
        seq = int(number)
        task = state.tasks.get(seq)
        if task is None:
            continue  # the present code has given this task up
        task.attempt, task.discounted = attempt, attempt - 1
        if seq not in (event.running or ()):
            task.since = max(event.at, state.now)
        if task.limit is not None and not _slot_again(state, seq, task, event):
            continue
        if task.retry_at is not None:
            task.retry_at = None
            state.durations.end(seq)
            state.in_flight += 1
        state.released.pop(seq, None)
        state.expect(seq, max(event.at, state.now))
    if event.timer in state.timers:
        state.open_timer(event.timer, event.fire_at, event.at)
    for seq in state.promises.begin_again(event.timer, event.at):
        state.wait_for_promise(seq)
    if DEADLINE in state.timers and state.within is not None:
        # The execution has as long again as it had at first.
        state.open_timer(DEADLINE, event.at + state.within, event.at)


def _slot_again(
    state: ExecutionState, seq: int, task: OpenTask, event: events.ExecutionReset
) -> bool:
    """Have a task wait for a slot again, unless its attempt is still running and holds one.

    Return whether the attempt is still running.
    """
    assert task.limit is not None
    slots = state.slots_of()
    if seq in (event.running or ()):
        if task.waits:
            slots.withdraw(seq, task.limit)
            state.in_flight += 1
            task.waits = False
        slots.hold(task.limit)
        return True
    if task.in_flight:
        state.in_flight -= 1
        state.deadlines.drop(seq)
    elif task.retry_at is not None:
        task.retry_at = None
        state.durations.end(seq)
    state.released.pop(seq, None)
    task.waits = True
    slots.ask(seq, task.limit)
    return False


def is_fork(event: object) -> bool:
    """Return whether the event is the reset that stands behind the first events of a fork."""
    return isinstance(event, events.ExecutionReset) and event.how == "fork"

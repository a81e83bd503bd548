"""Dispatch the effects of a committed turn at least once, and compute the next wake-up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final
from zlib import crc32

from mini_workflow.core.decide import Decision
from mini_workflow.core.records import frozen, replace
from mini_workflow.core.run import Run
from mini_workflow.core.wire import kind_of
from mini_workflow.engine.dispatch import request_of
from mini_workflow.errors import MailboxFull, StoreError
from mini_workflow.ports import Clock, Head, QueuedMessage, StreamStore, TaskRequest
from mini_workflow.ports.queue import (
    NO_EFFECTS,
    Dispatch,
    ExecutionMeta,
    PendingEffects,
    Wakeup,
    Wakeups,
)
from mini_workflow.ports.streams import NO_STREAMS

WAVE: Final = 1_000
"""The number of attempts, or messages, that are dispatched before the store notes which are left: so many may
be dispatched again if the process ends in between. Our own bound: some seconds for the smallest
function, and one write for 1,000 invocations."""

RESERVE: Final = 15_000
"""Milliseconds before the end of its time, and before that the duration of the last one, at which a process
begins no other wave, and no other inline task: the rest is for the next message. Our own bound."""


@frozen
class Undone:
    """The rest of effects: `left` when the time was up, or else the messages that are `held`, because their
    receivers are behind.
    """

    left: PendingEffects = NO_EFFECTS
    held: tuple[QueuedMessage, ...] = ()


class Effects:
    """Does effects at least once. While the effects of a turn are not all done, this process does not
    dispatch an attempt of them again. Threads may use it, each for executions of its own. `behind` returns
    whether an execution gets messages faster than it takes them.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        clock: Clock,
        streams: StreamStore = NO_STREAMS,
        behind: Callable[[str], bool] = lambda execution_id: False,
    ) -> None:
        self._dispatch = dispatch
        self._streams = streams
        self._held = HeldMessages(behind, dispatch, clock)
        self.wake = self._held.wake
        self._clock = clock
        self._sent: dict[str, set[tuple[int, int]]] = {}

    def do(
        self,
        name: str,
        pending: PendingEffects,
        wakeups: Iterable[Wakeup],
        requests: Sequence[TaskRequest],
        time_left: Callable[[], int],
        note: Callable[[PendingEffects, bool], None],
        held: Sequence[QueuedMessage] = (),
    ) -> Undone:
        """Do the effects of the execution `name`, whose attempts are the `requests`. Returns the rest of
        them.

        `time_left` returns the milliseconds that this process has. Between two waves `note` is called with
        the effects that are left, and whether they are done now. `held` are messages that wait already:
        other messages for the same executions wait behind them. Raises StoreError.
        """
        if pending.chunks:
            self._streams.append(pending.chunks, bounded=False)
            pending = replace(pending, chunks=())
        sent = self._sent.get(name, ())
        requests = [request for request in requests if request.key[1:] not in sent]
        outbox = pending.outbox
        before = time_left()
        few = len(pending.tasks) <= WAVE
        waiting: list[QueuedMessage] = []
        for attempts, messages in _waves(len(requests), len(outbox), few=few):
            if attempts:
                self._begin(name, requests[:attempts])
            if messages:
                sent, kept = self._held.divide(outbox[:messages], (*held, *waiting))
                waiting += kept
                if sent:
                    self._dispatch.post(sent)
            requests, outbox = requests[attempts:], outbox[messages:]
            if not requests and not outbox:
                break
            tasks = tuple(request.key[1:] for request in requests)
            left = replace(pending, tasks=tasks, outbox=(*waiting, *outbox))
            now = time_left()
            goes_on, before = now > RESERVE + before - now, now
            note(left, goes_on)
            if not goes_on:
                return Undone(left)
        if pending.wakeup:
            for wakeup in wakeups:
                self._dispatch.set(name, wakeup, self._clock.now())
        return Undone(held=tuple(waiting))

    def _begin(self, name: str, requests: Sequence[TaskRequest]) -> None:
        """Have attempts of one execution run."""
        problem: StoreError | None = None
        for request, error in zip(requests, self._dispatch.run(requests), strict=True):
            if error is None:
                self._sent.setdefault(name, set()).add(request.key[1:])
            problem = problem or error
        if problem is not None:
            raise problem

    def done(self, name: str) -> None:
        """Note that all effects of an execution are done."""
        self._sent.pop(name, None)


def _waves(attempts: int, messages: int, *, few: bool) -> list[tuple[int, int]]:
    """Return the numbers of attempts and messages of each wave, attempts first. With `few` the attempts go
    together with the first messages.
    """
    runs = [(min(WAVE, attempts - n), 0) for n in range(0, attempts, WAVE)]
    posts = [(0, min(WAVE, messages - n)) for n in range(0, messages, WAVE)]
    if few and runs and posts:
        return [(attempts, posts[0][1]), *posts[1:]]
    return [*runs, *posts]


def requests_of(name: str, pending: PendingEffects, run: Run | None) -> list[TaskRequest]:
    """Return the attempts of pending effects that the run still waits for, with their captured calls."""
    if run is None:
        return []
    commands = [(run.tasks.attempt(seq), attempt) for seq, attempt in pending.tasks]
    return [
        request_of(name, command)
        for command, attempt in commands
        if command is not None and command.attempt == attempt
    ]


def together(owed: PendingEffects, new: PendingEffects) -> PendingEffects:
    """Return the new effects of a commit together with the effects that are still owed."""
    if not owed:
        return new
    return PendingEffects(
        tasks=(*owed.tasks, *new.tasks),
        outbox=(*owed.outbox, *new.outbox),
        wakeup=owed.wakeup or new.wakeup,
        caused_by=new.caused_by,
        unconfirmed=True,
        chunks=(*owed.chunks, *new.chunks),
    )


def put_off(pending: PendingEffects) -> PendingEffects:
    """Return effects that wait until the execution is resumed."""
    return replace(pending, unconfirmed=True) if pending else NO_EFFECTS


@frozen
class WakeupPlan:
    """The wake-ups that count from now on, the one to set, and those to cancel."""

    wakeup: Wakeups
    to_set: Wakeup | None = None
    to_unset: tuple[Wakeup, ...] = ()


def plan_wakeup(
    current: Wakeups,
    needed: Wakeup | None,
    woken: list[int],
    now: int,
    *,
    deadline: bool = False,
    over: bool = False,
) -> WakeupPlan:
    """Return the changes by which an execution with `current` wake-ups gets the `needed` one.

    `woken` are the times of the wake-ups that have just come. `deadline` says that the needed one is
    for the deadline of an attempt, and `over` that the execution has closed or is blocked.

    A wake-up whose time has passed may have come before, and does not count any more. A wake-up that
    comes earlier than needed counts: the needed one is set when it comes.
    """
    # One that comes early, as those of schedules do, has to be set again for the rest of the time.
    timer, far = (
        None if one is not None and one.at > now and one.at in woken else one
        for one in (current.timer, current.deadline)
    )
    if needed is None:
        plan = _for_timer(current.timer, None, woken, now, None if over else far)
        if not (over and far is not None and far.at > now and far.schedule):
            return WakeupPlan(Wakeups(plan.timer, far), to_unset=plan.to_unset)
        return WakeupPlan(Wakeups(plan.timer), to_unset=(*plan.to_unset, far))
    if far is not None and now < far.at <= needed.at:
        return WakeupPlan(Wakeups(timer, far))
    if not deadline:
        plan = _for_timer(current.timer, needed, woken, now, far)
        return WakeupPlan(Wakeups(plan.timer, far), plan.to_set, plan.to_unset)
    if timer is not None and now < timer.at <= needed.at:
        return WakeupPlan(Wakeups(timer, far))
    lone = far is not None and far != timer
    replaced = (far,) if far is not None and far.at > now and far.schedule and lone else ()
    return WakeupPlan(Wakeups(timer, needed), needed, replaced)


def waking_of(
    head: Head | None,
    decision: Decision | None,
    current: Wakeups,
    needed: Wakeup | None,
    woken: list[int],
    now: int,
) -> WakeupPlan:
    """Return the plan of `plan_wakeup` for an execution with that head, after that decision, if
    there was one.
    """
    deadline = decision is not None and decision.deadline
    over = head is not None and (head.closed_at is not None or head.status == "blocked")
    return plan_wakeup(current, needed, woken, now, deadline=deadline, over=over)


@frozen
class _Plan:
    timer: Wakeup | None
    to_set: Wakeup | None = None
    to_unset: tuple[Wakeup, ...] = ()


def _for_timer(
    current: Wakeup | None, needed: Wakeup | None, woken: list[int], now: int, far: Wakeup | None
) -> _Plan:
    """Return the plan for the timer's wake-up alone. `far` stays, also if it has the same schedule."""
    early = current is not None and current.at > now and current.at in woken
    gone = current is not None and (early or current.at <= now)
    lone = current is not None and current != far
    obsolete = (current,) if current is not None and current.schedule and lone and not gone else ()
    if needed is None:
        return _Plan(None if obsolete or early else current, to_unset=obsolete)
    if current is None or gone or needed.at < current.at:
        if current is not None and current.at == needed.at:
            # It came early, as those of schedules do: it is set again for the rest of the time.
            return _Plan(current, current)
        return _Plan(needed, needed, obsolete)
    return _Plan(current)


def continuation(name: str, meta: ExecutionMeta | None) -> QueuedMessage:
    """Return an empty message, by which the execution goes on with its remaining effects."""
    assert meta is not None
    pending = meta.pending
    key = f"{name}/{meta.length}/{len(pending.tasks)}/{len(pending.outbox)}/more"
    return QueuedMessage(name, "", key)


BOUNDED: Final = ("SignalReceived", "Asked")
"""The kinds of messages that are held: the receiver's history does not bound how many there are."""

HELD_FOR: Final = 30
"""Seconds until held messages are tried again, at least, and at most twice as many: the sender's id decides,
so that not all come at the same time. Every turn of the sender tries, too. Our own bound."""

HELD_MOST: Final = 10_000
"""Messages that an execution may hold when a turn of it begins: they are in each of its writes. Our own
bound."""

_REMEMBERED: Final = 1_000
"""The number of executions of which a process remembers the next wake-up. Our own bound."""


class HeldMessages:
    """Decides which messages have to wait. `behind` returns whether an execution gets messages faster than it
    takes them. Threads may use it, each for executions of its own.
    """

    def __init__(self, behind: Callable[[str], bool], dispatch: Dispatch, clock: Clock) -> None:
        self._behind = behind
        self._dispatch = dispatch
        self._clock = clock
        self._woken_at: dict[str, int] = {}

    def divide(
        self, messages: Sequence[QueuedMessage], held: Sequence[QueuedMessage]
    ) -> tuple[list[QueuedMessage], list[QueuedMessage]]:
        """Return the messages that may be sent, and those that have to wait, in order. A message waits too if
        another one to the same execution waits before it, or is `held` already. Raises StoreUnavailable.
        """
        waiting = {message.execution_id for message in held}
        sent: list[QueuedMessage] = []
        kept: list[QueuedMessage] = []
        for message in messages:
            name = message.execution_id
            if name not in waiting and kind_of(message.body) in BOUNDED and self._behind(name):
                waiting.add(name)
            (kept if name in waiting else sent).append(message)
        return sent, kept

    def wake(self, name: str, woken: Sequence[int]) -> None:
        """Have an execution that holds messages woken to try again; `woken` are the times of the wake-ups
        that have just come. Raises StoreUnavailable.
        """
        now, at = self._clock.now(), self._woken_at.get(name, 0)
        if at > now and at not in woken:
            return
        at = now + 1000 * (HELD_FOR + crc32(name.encode()) % (HELD_FOR + 1))
        self._dispatch.set(name, Wakeup(at), now)
        if len(self._woken_at) >= _REMEMBERED:
            self._woken_at.clear()
        self._woken_at[name] = at


def too_many(name: str, held: Sequence[QueuedMessage]) -> MailboxFull | None:
    """Return the error by which an execution with so many held messages is blocked, or None."""
    if len(held) <= HELD_MOST:
        return None
    behind = sorted({message.execution_id for message in held})
    shown = ", ".join(map(repr, behind[:3])) + (", ..." if len(behind) > 3 else "")
    return MailboxFull(
        f"execution {name!r} has {len(held):,} messages for executions that are behind ({shown}), and may "
        f"have {HELD_MOST:,}. They are kept. Resume it once those have caught up, and send less: lists in "
        "fewer signals, or to several executions",
        execution_id=behind[0],
    )

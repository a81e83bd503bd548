"""Effects: does the errands of committed turns, and plans when an execution is to be woken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mini_workflow.core.run import Run
from mini_workflow.engine.dispatch import request_of
from mini_workflow.errors import StoreError
from mini_workflow.ports import Clock, TaskRequest
from mini_workflow.ports.queued import NO_ERRANDS, Dispatch, PendingEffects, Wakeup, Wakeups


class Effects:
    """Does errands at least once; an attempt that was dispatched is not dispatched again from here
    while the errands that it belongs to are not all done. Threads may use it, each for executions
    of its own.
    """

    def __init__(self, dispatch: Dispatch, clock: Clock) -> None:
        self._dispatch = dispatch
        self._clock = clock
        self._sent: dict[str, set[tuple[int, int]]] = {}

    def do(
        self, name: str, errands: PendingEffects, wakeups: Iterable[Wakeup], run: Run | None
    ) -> None:
        """Do what is left of errands; the payloads of the attempts are asked of the run."""
        if run is not None:
            commands = [(run.tasks.attempt(seq), attempt) for seq, attempt in errands.tasks]
            self.begin(
                name,
                [
                    request_of(name, command)
                    for command, attempt in commands
                    if command is not None and command.attempt == attempt
                ],
            )
        if errands.outbox:
            self._dispatch.post(errands.outbox)
        if errands.alarm:
            for wakeup in wakeups:
                self._dispatch.set(name, wakeup, self._clock.now())

    def begin(self, name: str, requests: list[TaskRequest]) -> None:
        """Have attempts of one execution run."""
        sent = self._sent.get(name)
        requests = [r for r in requests if sent is None or r.key[1:] not in sent]
        if not requests:
            return
        problem: StoreError | None = None
        for request, error in zip(requests, self._dispatch.run(requests), strict=True):
            if error is None:
                self._sent.setdefault(name, set()).add(request.key[1:])
            problem = problem or error
        if problem is not None:
            raise problem

    def done(self, name: str) -> None:
        """All errands of an execution are done."""
        self._sent.pop(name, None)


def together(owed: PendingEffects, new: PendingEffects) -> PendingEffects:
    """The errands of a commit that come on top of those that are owed still."""
    if not owed:
        return new
    return PendingEffects(
        tasks=(*owed.tasks, *new.tasks),
        outbox=(*owed.outbox, *new.outbox),
        alarm=owed.alarm or new.alarm,
        causes=new.causes,
        doubtful=True,
    )


def put_off(errands: PendingEffects) -> PendingEffects:
    """PendingEffects that wait until the execution is resumed."""
    return replace(errands, doubtful=True) if errands else NO_ERRANDS


@dataclass(frozen=True, slots=True)
class Waking:
    """The wake-ups that count from now on, the one to set, and those to take back."""

    alarm: Wakeups
    to_set: Wakeup | None = None
    to_unset: tuple[Wakeup, ...] = ()


def waking(
    current: Wakeups,
    needed: Wakeup | None,
    woken: list[int],
    now: int,
    *,
    deadline: bool = False,
    over: bool = False,
) -> Waking:
    """What an execution with `current` wake-ups does to be woken when it `needed` is; `woken` are
    the times of those that went off just now. `deadline` says that what is needed is for the deadline
    of an attempt, and `over` that the execution has closed or is blocked.

    A wake-up whose time has come may have gone off before: it is not relied upon any more. One that
    comes earlier than needed is relied upon: what is needed is set when it goes off.
    """
    # One that goes off early, as schedules do, has to be set again for what is left.
    timer, far = (
        None if one is not None and one.at > now and one.at in woken else one
        for one in (current.timer, current.deadline)
    )
    if needed is None:
        plan = _for_timer(current.timer, None, woken, now, None if over else far)
        if not (over and far is not None and far.at > now and far.schedule):
            return Waking(Wakeups(plan.timer, far), to_unset=plan.to_unset)
        return Waking(Wakeups(plan.timer), to_unset=(*plan.to_unset, far))
    if far is not None and now < far.at <= needed.at:
        return Waking(Wakeups(timer, far))
    if not deadline:
        plan = _for_timer(current.timer, needed, woken, now, far)
        return Waking(Wakeups(plan.timer, far), plan.to_set, plan.to_unset)
    if timer is not None and now < timer.at <= needed.at:
        return Waking(Wakeups(timer, far))
    replaced = (far,) if far is not None and far.at > now and far.schedule else ()
    return Waking(Wakeups(timer, needed), needed, replaced)


@dataclass(frozen=True, slots=True)
class _Plan:
    timer: Wakeup | None
    to_set: Wakeup | None = None
    to_unset: tuple[Wakeup, ...] = ()


def _for_timer(
    current: Wakeup | None, needed: Wakeup | None, woken: list[int], now: int, far: Wakeup | None
) -> _Plan:
    """The same for a wake-up at a certain time alone. `far` stays, also if it has the same schedule."""
    early = current is not None and current.at > now and current.at in woken
    gone = current is not None and (early or current.at <= now)
    lone = current is not None and current != far
    obsolete = (current,) if current is not None and current.schedule and lone and not gone else ()
    if needed is None:
        return _Plan(None if obsolete or early else current, to_unset=obsolete)
    if current is None or gone or needed.at < current.at:
        if current is not None and current.at == needed.at:
            # It went off early, as schedules do: what is left is waited for once more.
            return _Plan(current, current)
        return _Plan(needed, needed, obsolete)
    return _Plan(current)

"""Effects: does the errands of committed turns, and plans when an execution is to be woken."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mini_workflow.core.run import Run
from mini_workflow.engine.dispatch import request_of
from mini_workflow.errors import StoreError
from mini_workflow.ports import Clock, TaskRequest
from mini_workflow.ports.queued import NO_ERRANDS, Dispatch, PendingEffects, Wakeup


class Effects:
    """Does errands at least once; an attempt that was dispatched is not dispatched again from here
    while the errands that it belongs to are not all done. Threads may use it, each for executions
    of its own.
    """

    def __init__(self, dispatch: Dispatch, clock: Clock) -> None:
        self._dispatch = dispatch
        self._clock = clock
        self._sent: dict[str, set[tuple[int, int]]] = {}

    def do(self, name: str, errands: PendingEffects, alarm: Wakeup | None, run: Run | None) -> None:
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
        if errands.alarm and alarm is not None:
            self._dispatch.set(name, alarm, self._clock.now())

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
    """The alarm that counts from now on, the one to set, and the one to take back."""

    alarm: Wakeup | None
    to_set: Wakeup | None = None
    to_unset: Wakeup | None = None


def waking(current: Wakeup | None, needed: Wakeup | None, woken: list[int], now: int) -> Waking:
    """What an execution with a `current` alarm does to be woken when it `needed` is; `woken` are
    the times of alarms that went off just now.

    An alarm whose time has come may have gone off before: it is not relied upon any more.
    """
    early = current is not None and current.at > now and current.at in woken
    gone = current is not None and (early or current.at <= now)
    obsolete = current if current is not None and current.schedule and not gone else None
    if needed is None:
        kept = None if obsolete is not None or early else current
        return Waking(kept, to_unset=obsolete)
    if current is None or gone or needed.at < current.at:
        if current is not None and current.at == needed.at:
            # It went off early, as schedules do: what is left is waited for once more.
            return Waking(current, to_set=current)
        return Waking(needed, to_set=needed, to_unset=obsolete)
    return Waking(current)

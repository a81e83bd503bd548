"""Dispatch the attempts of a committed decision to a runner, and cancel those that were given up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from mini_workflow.attempts import cancelled, lost
from mini_workflow.core.commands import RunTask
from mini_workflow.core.events import Message
from mini_workflow.core.report_limits import not_reported
from mini_workflow.engine.deletion import NEVER
from mini_workflow.engine.requests import Input, Release
from mini_workflow.engine.turn_data import ABOUT_ATTEMPTS
from mini_workflow.ports import (
    Clock,
    NamedWorkerRunner,
    Report,
    Store,
    TaskOutcome,
    TaskRequest,
    TaskRunner,
)
from mini_workflow.threads import TRY_AGAIN, NoThread

TRIED_AT_ONCE: Final = 100
"""The number of these attempts that are submitted again together: a refusal takes some microseconds."""

log = logging.getLogger("mini_workflow.engine")


class Dispatcher:
    """Hands attempts to the runner, and keeps the keys of those in hand: dispatched, and not reported yet.

    `again` takes requests for the engine's next call. `report` takes outcomes behind those that the runner
    has reported. An attempt for which the runner has no thread, and gets none, is put off, which costs the
    task no attempt.
    """

    def __init__(self, again: Callable[[Input], None], report: Report, clock: Clock) -> None:
        self._again = again
        self._report = report
        self._clock = clock
        self._put_off: dict[tuple[str, int, int], RunTask] = {}
        self.retry_at = NEVER
        """When `retry` is to be called (milliseconds); NEVER while no attempt is put off."""
        self._runner: TaskRunner | None = None
        self._in_hand: set[tuple[str, int, int]] = set()
        self.draining = False
        """Whether no attempt begins any more, and attempts are handed back to the store instead."""

    def drain(self) -> None:
        """Begin no attempt any more: from now on they are handed back, those that were put off at once."""
        self.draining = True
        while self._put_off:
            self.retry()

    def retry(self) -> None:
        """Submit attempts again that were put off, the first ones first."""
        for key in list(islice(self._put_off, TRIED_AT_ONCE)):
            command = self._put_off.pop(key)
            self._in_hand.discard(key)
            self.begin(key[0], command)
        self.retry_at = self._later() if self._put_off else NEVER

    def _later(self) -> int:
        return self._clock.now() + int(TRY_AGAIN * 1_000)

    def __len__(self) -> int:
        """Return the number of attempts in hand."""
        return len(self._in_hand)

    def use(self, runner: TaskRunner) -> None:
        """Have this runner run the attempts."""
        self._runner = runner

    def has(self, key: tuple[str, int, int]) -> bool:
        """Return whether the attempt is in hand."""
        return key in self._in_hand

    def adopt(self) -> None:
        """Count the attempts as in hand that other processes have, of the executions that are held now."""
        if isinstance(self._runner, NamedWorkerRunner):
            self._in_hand.update(self._runner.kept())

    @property
    def idle(self) -> bool:
        """Whether the runner holds none of the attempts in hand: their reports are on the way, or lost."""
        runner = self._runner
        return runner is None or not any(map(self._holds, self._in_hand))

    def _holds(self, key: tuple[str, int, int]) -> bool:
        return key in self._put_off or (self._runner is not None and self._runner.holds(key))

    def in_hand(self, key: tuple[str, int, int], name: str) -> bool:
        """Return whether an attempt of the task `name` is in hand. If the runner does not have it any more,
        it is reported as lost, behind the outcome that the runner may have reported.
        """
        if self.draining:
            return True
        if key not in self._in_hand:
            return False
        if self._runner is not None and not self._holds(key):
            log.warning(
                "[%s] attempt %d of task %r was not reported by its runner, and counts as lost",
                *(key[0], key[2], name),
            )
            self._report(TaskOutcome(*key, failure=not_reported(name, key[2]).to_plain()))
        return True

    def acknowledge(self, execution_id: str, messages: list[Message]) -> None:
        """Forget the attempts whose outcomes are among the messages."""
        for message in messages:
            if type(message) in ABOUT_ATTEMPTS:
                about: Any = message
                self._in_hand.discard((execution_id, about.seq, about.attempt))

    def begin(self, execution_id: str, command: RunTask) -> None:
        """Run an attempt, unless it is in hand already."""
        key = execution_id, command.seq, command.attempt
        if self.draining:
            self._again(Release(*key, request_of(execution_id, command).heartbeat))
        elif key not in self._in_hand and self._runner is not None:
            self._in_hand.add(key)
            request = request_of(execution_id, command)
            try:
                self._runner.submit(request)
            except NoThread as error:
                self._put_off[key] = command
                if self.retry_at == NEVER:
                    self.retry_at = self._later()
                    log.error(
                        "tasks wait until a thread can be started, which is tried every %g s: %s",
                        *(TRY_AGAIN, error),
                    )
            except Exception as error:
                log.exception(
                    "[%s] attempt %d of task %r could not be handed to a worker, and counts as lost",
                    *(execution_id, command.attempt, command.name),
                )
                self._again(lost(request, f"it could not be handed to a worker: {error!r}"))

    def give_up(self, execution_id: str, seq: int, reason: str) -> None:
        """Have the runner cancel a task for which nobody waits any more."""
        for key in [key for key in self._put_off if key[:2] == (execution_id, seq)]:
            self._again(cancelled(request_of(execution_id, self._put_off.pop(key))))
        try:
            if self._runner is not None:
                self._runner.cancel(execution_id, seq, reason)
        except Exception:
            # The task runs on, and its outcome will come late.
            log.exception("[%s] task #%d could not be cancelled, and runs on", execution_id, seq)

    def give_up_all(self, execution_id: str, reason: str) -> None:
        """Give up every task of an execution."""
        for name, seq, _ in [key for key in self._in_hand if key[0] == execution_id]:
            self.give_up(name, seq, reason)

    def executions(self) -> list[str]:
        """Return the executions that have attempts in hand."""
        return list(dict.fromkeys(name for name, _, _ in self._in_hand))

    def disown_others(self, store: Store) -> None:
        """Give up the attempts of executions that another process has by now. Raises StoreError."""
        for name in self.executions():
            extent = store.extent(name)
            if extent is None or not extent.held:
                self.disown(name, "another process has taken over the execution")

    def disown(self, execution_id: str, reason: str) -> None:
        """Give up the attempts of an execution that is not held here any more. Its new owner counts them as
        lost; their reports are not waited for.
        """
        for key in [key for key in self._put_off if key[0] == execution_id]:
            del self._put_off[key]
        self.give_up_all(execution_id, reason)
        self._in_hand = {key for key in self._in_hand if key[0] != execution_id}


def request_of(execution_id: str, command: RunTask) -> TaskRequest:
    """Return the attempt of a command, for a runner."""
    return TaskRequest(
        execution_id,
        command.seq,
        command.attempt,
        command.name,
        command.payload,
        command.timeout,
        command.is_async,
        command.heartbeat_timeout,
        None if command.heartbeat is None else command.heartbeat.text,
        command.worker,
        command.headers,
        command.scheduled_at,
    )

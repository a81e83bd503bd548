"""Dispatch the attempts of a committed decision to a runner, and cancel those that were given up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mini_workflow.attempts import lost
from mini_workflow.core.commands import RunTask
from mini_workflow.core.events import Message
from mini_workflow.core.report_limits import not_reported
from mini_workflow.engine.requests import Input, Release
from mini_workflow.engine.turn_data import ABOUT_ATTEMPTS
from mini_workflow.ports import (
    NamedWorkerRunner,
    Report,
    Store,
    TaskOutcome,
    TaskRequest,
    TaskRunner,
)

log = logging.getLogger("mini_workflow.engine")


class Dispatcher:
    """Hands attempts to the runner, and knows which it has in hand.

    `again` takes what has to be told to the engine instead, at its next call. `report` takes it
    where the runner's reports arrive, behind those that have.
    """

    def __init__(self, again: Callable[[Input], None], report: Report) -> None:
        self._again = again
        self._report = report
        self._runner: TaskRunner | None = None
        self._in_hand: set[tuple[str, int, int]] = set()
        self.draining = False
        """Whether nothing is begun any more, and attempts are handed back to the store instead."""

    def __len__(self) -> int:
        """Return how many attempts are dispatched and not heard of."""
        return len(self._in_hand)

    def use(self, runner: TaskRunner) -> None:
        """Have this runner run what is dispatched."""
        self._runner = runner

    def has(self, key: tuple[str, int, int]) -> bool:
        """Return whether the attempt is in hand."""
        return key in self._in_hand

    def adopt(self) -> None:
        """Count as in hand what other processes have of the executions that are held now."""
        if isinstance(self._runner, NamedWorkerRunner):
            self._in_hand.update(self._runner.kept())

    @property
    def idle(self) -> bool:
        """Whether the runner has nothing in hand of what was dispatched, also where it was not heard
        of all.
        """
        runner = self._runner
        return runner is None or not any(runner.holds(key) for key in self._in_hand)

    def in_hand(self, key: tuple[str, int, int], name: str) -> bool:
        """Return whether an attempt of the task `name` was dispatched here and not heard of. If the
        runner does not have it any more it is reported as lost, behind what the runner may have
        reported.
        """
        if self.draining:
            return True
        if key not in self._in_hand:
            return False
        if self._runner is not None and not self._runner.holds(key):
            log.warning("[%s] attempt %d of task %r was not reported", key[0], key[2], name)
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
        key = (execution_id, command.seq, command.attempt)
        if self.draining:
            self._again(Release(*key, request_of(execution_id, command).heartbeat))
        elif key not in self._in_hand and self._runner is not None:
            self._in_hand.add(key)
            request = request_of(execution_id, command)
            try:
                self._runner.submit(request)
            except Exception as error:
                log.exception("[%s] task %r could not be handed on", execution_id, command.name)
                self._again(lost(request, f"it could not be handed to a worker: {error!r}"))

    def give_up(self, execution_id: str, seq: int, reason: str) -> None:
        """Tell whoever runs the task that nobody waits for it."""
        try:
            if self._runner is not None:
                self._runner.cancel(execution_id, seq, reason)
        except Exception:
            # It runs on, and its outcome will come late.
            log.exception("[%s] task #%d could not be cancelled", execution_id, seq)

    def give_up_all(self, execution_id: str, reason: str) -> None:
        """Give up every task of an execution."""
        for name, seq, _ in [key for key in self._in_hand if key[0] == execution_id]:
            self.give_up(name, seq, reason)

    def executions(self) -> list[str]:
        """Return the executions that have attempts in hand."""
        return list(dict.fromkeys(name for name, _, _ in self._in_hand))

    def disown_others(self, store: Store) -> None:
        """Tell the attempts of executions that another process has now that nobody waits."""
        for name in self.executions():
            extent = store.extent(name)
            if extent is None or not extent.held:
                self.disown(name, "another process has taken over the execution")

    def disown(self, execution_id: str, reason: str) -> None:
        """Give up the attempts of an execution that another process has by now, which counts them
        as lost; what they report is not waited for.
        """
        self.give_up_all(execution_id, reason)
        self._in_hand = {key for key in self._in_hand if key[0] != execution_id}


def request_of(execution_id: str, command: RunTask) -> TaskRequest:
    """Return what a runner is given for an attempt."""
    return TaskRequest(
        execution_id=execution_id,
        seq=command.seq,
        attempt=command.attempt,
        name=command.name,
        payload=command.payload,
        timeout=command.timeout,
        is_async=command.is_async,
        heartbeat_timeout=command.heartbeat_timeout,
        heartbeat=None if command.heartbeat is None else command.heartbeat.text,
        worker=command.worker,
        headers=command.headers,
        scheduled_at=command.scheduled_at,
    )

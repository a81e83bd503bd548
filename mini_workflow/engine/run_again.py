"""Run closed executions again for a client, and wait until another process has begun the run."""

from __future__ import annotations

import logging
import os
import time

from mini_workflow.core import events
from mini_workflow.core.validation import check_id, check_reason
from mini_workflow.engine.pending_updates import find_answer
from mini_workflow.engine.replies import blocked, existing
from mini_workflow.engine.requests import Answer, Post, Update
from mini_workflow.engine.transport import CheckedStore, Transport, still_running
from mini_workflow.errors import ExecutionClosed, UsageError
from mini_workflow.ports import Head
from mini_workflow.printable import printable

LOOK_AGAIN: float = 1.0
"""Seconds after which a caller who waits for another process looks at the store, because the notification
may have been lost."""


class RunAgain:
    """Asks for runs of executions that have closed. Another process may have to begin such a run: until it
    has, the run before counts as over for the client that has asked. Any thread.
    """

    def __init__(self, transport: Transport, store: CheckedStore) -> None:
        self._transport = transport
        self._store = store
        self.over: dict[str, int] = {}
        """By execution: the run that is over for this client, which has asked for the next one."""

    def ask(self, execution_id: str, how: str, by: str = "") -> None:
        """Ask for another run; `how` is "retry" or "restart". Raises the errors of `Execution.retry` and
        `Execution.restart`.
        """
        from mini_workflow.core.reset import first_arguments

        check_reason("", by)
        head = self._head(execution_id)
        if how == "restart" and head.run > 1 and head.closed_at is not None:
            from mini_workflow.core.history import History

            started = History.from_lines(self._store.history(execution_id)).started
            if first_arguments(started) is None:
                raise UsageError(
                    f"the arguments that execution {execution_id!r} was started with were not recorded by "
                    'the version that ran it: give them to start_execution(..., if_closed="restart")'
                )
        now, request_id = self._transport.now(), os.urandom(8).hex()
        request = events.ResetRequested(now, how, head.run, request_id, asked_by=by)
        self._transport.ask(Post(execution_id, request))
        self.over[execution_id] = head.run

    def wait(self, execution_id: str, timeout: float | None) -> float | None:
        """Wait until the run that was asked for has begun, and return the seconds that are left of the
        timeout. Raises TimeoutError.
        """
        over = self.over.get(execution_id)
        if over is None:
            return timeout
        ends = None if timeout is None else time.monotonic() + timeout
        with self._transport.watch(execution_id) as wait:
            while self._head(execution_id).run <= over:
                left = LOOK_AGAIN if ends is None else ends - time.monotonic()
                if left <= 0:
                    raise still_running(execution_id, timeout)
                wait(min(LOOK_AGAIN, left))
        self.over.pop(execution_id, None)
        return None if ends is None else max(0.0, ends - time.monotonic())

    def _head(self, execution_id: str) -> Head:
        check_id(execution_id)
        return existing(execution_id, self._store.head(execution_id))


def closing_option(if_closed: object) -> object:
    """Return `if_closed`, or None if it is the default. Raises UsageError if there is no such option."""
    if if_closed not in ("return", "restart", "reject"):
        raise UsageError(f'if_closed={if_closed!r}: choose "return", "restart" or "reject"')
    return None if if_closed == "return" else if_closed


def wait_for_answer(
    transport: Transport,
    store: CheckedStore,
    request: Update,
    deadline: float | None,
    refused: list[BaseException],
) -> Answer:
    """Wait until the process that has the execution has recorded the answer.

    `deadline` is a time of `time.monotonic`. Raises TimeoutError at the deadline, the error that is put into
    `refused` meanwhile, ExecutionBlocked, ExecutionClosed, ExecutionNotFound or StoreError.
    """
    execution_id = request.execution_id
    seen = 0
    with transport.watch(execution_id) as wait:
        while True:
            # In this order: an answer is recorded before the end. Also, a run that begins in
            # between has lines read again, and none left out.
            head = existing(execution_id, store.head(execution_id))
            lines = store.history(execution_id, seen)
            seen = max(seen, head.base) + len(lines)
            found = find_answer(lines, request.update_id, request.at, request.until)
            if found is not None:
                return Answer(found)
            if head.status == "blocked":
                raise blocked(head)
            if head.closed_at is not None:
                raise ExecutionClosed(
                    f"execution {execution_id!r} has closed without an answer to update "
                    f"{request.update_id!r}",
                    execution_id=execution_id,
                )
            left = LOOK_AGAIN if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if refused:
                raise refused[0]
            wait(min(LOOK_AGAIN, left))


log = logging.getLogger("mini_workflow.engine.executions")


def tell_asked(head: Head, action: str, by: str, reason: str = "") -> None:
    """Log that `by` has asked for an action, and the reason, in the process that asks; nothing if both are
    empty.
    """
    if (by or reason) and log.isEnabledFor(logging.INFO):
        about = {"execution_id": head.execution_id, "workflow": head.workflow, "asked_by": by}
        said = f"was asked to {action}{f' by {printable(by)}' if by else ''}"
        why = f": {printable(reason)}" if reason else ""
        log.info("[%s] %s%s", head.execution_id, said, why, extra={**about, "reason": reason})

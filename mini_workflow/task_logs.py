"""TaskLogs: an interceptor that keeps the log records of tasks in a stream of their execution."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

from mini_workflow.errors import UsageError
from mini_workflow.interceptors import Interceptor
from mini_workflow.task import CurrentTask

log = logging.getLogger("mini_workflow.logs")

LOGS: Final = "logs"
"""The name of the stream."""

LONGEST: Final = 16_384
"""Characters of a record with its traceback. The rest is left out, and the line says so. Our own bound."""

_OURS: Final = "mini_workflow"

_CAPTURED: ContextVar[tuple[TaskLogs, CurrentTask] | None] = ContextVar("captured", default=None)
"""The attempt whose records are kept now, and the interceptor that keeps them."""


class TaskLogs(Interceptor):
    """Keeps the records that the code of tasks logs by Python's `logging`, in the stream ``"logs"`` of their
    execution. The page shows it beside the timeline, and ``mini-workflow stream ID logs`` prints it.

    Each record is a line of text: time (UTC), level, task, logger and message. Another attempt begins the
    stream again, as in every stream. Records of this library are left out, and so are those of threads that
    the task starts without its context (`contextvars.copy_context`). A record that cannot be kept, for
    example because the stream is full, is left out, so that no task fails because of its logs.

    Args:
        level: the lowest level that is kept: a number or a name of `logging`, INFO by default. Records that
            the levels of the loggers leave out do not arrive here: ``logging.basicConfig(level="INFO")``
            sets the level of all loggers.
        logger: the name of a logger, whose records are kept with those of all loggers below it; by default
            the records of all loggers.

    Raises UsageError for a level that `logging` does not know.
    """

    def __init__(self, level: int | str = logging.INFO, *, logger: str = "") -> None:
        number = logging.getLevelNamesMapping().get(level) if isinstance(level, str) else level
        if number is None:
            names = ", ".join(logging.getLevelNamesMapping())
            raise UsageError(f"TaskLogs(level={level!r}): give a number, or one of {names}")
        self._level = number
        self._logger = logger
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._handler = _Handler(self, self._level)
        self._attempts = 0
        self._failed = False

    def __reduce__(self) -> Any:
        """Pickle the arguments only, since worker processes make handlers of their own."""
        return _made, (self._level, self._logger)

    @contextmanager
    def around_task(self, task: CurrentTask) -> Generator[None]:
        """Keep the records that are logged inside of the context manager."""
        logger = logging.getLogger(self._logger or None)
        with self._lock:
            self._attempts += 1
            if self._attempts == 1:
                logger.addHandler(self._handler)
        token = _CAPTURED.set((self, task))
        try:
            yield
        finally:
            _CAPTURED.reset(token)
            with self._lock:
                self._attempts -= 1
                if not self._attempts:
                    logger.removeHandler(self._handler)

    def keep(self, task: CurrentTask, line: str) -> None:
        """Write a line to the stream. Never raises."""
        try:
            task.stream(LOGS).write(line)
        except Exception as error:
            if not self._failed:
                self._failed = True
                log.warning(
                    "[%s] the log records of tasks cannot be kept: %s", task.execution_id, error
                )


def _made(level: int, logger: str) -> TaskLogs:
    return TaskLogs(level, logger=logger)


class _Handler(logging.Handler):
    """Gives records of captured attempts to the interceptor that it belongs to."""

    def __init__(self, owner: TaskLogs, level: int) -> None:
        super().__init__(level)
        self._owner = owner

    def emit(self, record: logging.LogRecord) -> None:
        captured = _CAPTURED.get()
        if captured is None or captured[0] is not self._owner or _is_ours(record.name):
            return
        # Records that are logged while the line is written are not kept.
        token = _CAPTURED.set(None)
        try:
            self._owner.keep(captured[1], self._line(record, captured[1].name))
        except Exception:
            self.handleError(record)
        finally:
            _CAPTURED.reset(token)

    def _line(self, record: logging.LogRecord, task: str) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        text = self.format(record)
        if len(text) > LONGEST:
            text = f"{text[:LONGEST]} ... ({len(text):,} characters in all)"
        return f"{at[:-6]}Z {record.levelname} {task} {record.name}: {text}\n"


def _is_ours(name: str) -> bool:
    return name == _OURS or name.startswith(f"{_OURS}.")

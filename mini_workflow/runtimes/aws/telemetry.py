"""Write structured logs and metrics of the functions."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from mini_workflow.engine.turn import Turn
from mini_workflow.errors import ExecutionPaused
from mini_workflow.ports import TaskRequest

NAMESPACE: Final = "mini-workflow"
"""The CloudWatch namespace of the metrics."""

_UNITS: Final = {
    "Turns": "Count",
    "Events": "Count",
    "Messages": "Count",
    "Redelivered": "Count",
    "Malformed": "Count",
    "Blocked": "Count",
    "BatchDuration": "Milliseconds",
    "Attempts": "Count",
    "FailedAttempts": "Count",
    "AttemptDuration": "Milliseconds",
}


class JsonFormatter(logging.Formatter):
    """A formatter of one JSON object per line: time, level, logger, message, and the fields of the record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        plain: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{record.msecs:03.0f}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("execution_id", "workflow", "event", "seq", "attempt", "traceparent"):
            value = getattr(record, name, None)
            if value is not None:
                plain[name] = value
        if "execution_id" not in plain and str(record.msg).startswith("[%s] ") and record.args:
            # A message of the library about an execution begins with its id.
            plain["execution_id"] = record.args[0] if isinstance(record.args, tuple) else None
        if record.exc_info:
            plain["exception"] = self.formatException(record.exc_info)
        return json.dumps(plain, default=str, ensure_ascii=False)

    converter = time.gmtime  # pyright: ignore[reportAssignmentType]


def prepare_logging() -> None:
    """Have the library's loggers write JSON in a Lambda function, unless the program has set them up."""
    logger = logging.getLogger("mini_workflow")
    if "AWS_LAMBDA_FUNCTION_NAME" not in os.environ or logger.handlers:
        return
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(os.environ.get("AWS_LAMBDA_LOG_LEVEL", "INFO"))
    logger.propagate = False


class Metrics:
    """Counts, and writes them as a line of CloudWatch's embedded metric format.

    The only dimension is the function: a dimension that grows with the executions would cost by each of them.
    """

    def __init__(self) -> None:
        self._function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
        self._counts: dict[str, float] = {}
        self._about: dict[str, str] = {}

    def turn(self, turn: Turn) -> None:
        """Count a turn that was committed."""
        self._add("Turns", 1)
        self._add("Events", len(turn.commit.events))
        paused = turn.head.blocked_kind == ExecutionPaused.__name__
        if turn.head.status == "blocked" and not paused:
            self._add("Blocked", 1)
        log = logging.getLogger("mini_workflow.runtimes.aws.turns")
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "[%s] turn committed: %d events, %s",
                turn.head.execution_id,
                len(turn.commit.events),
                turn.head.status,
                extra={
                    "execution_id": turn.head.execution_id,
                    "event": turn.commit.expected + len(turn.commit.events),
                },
            )

    def malformed(self) -> None:
        """Count a message that went to the dead letters."""
        self._add("Malformed", 1)

    def failed(self, records: int) -> None:
        """Count messages that have to come again."""
        self._add("Redelivered", records)

    def outcome(self, *, failed: bool) -> None:
        """Count an attempt that has ended."""
        self._add("FailedAttempts", int(failed))

    @contextmanager
    def batch(self, records: int) -> Generator[None]:
        """Measure a batch of the queue."""
        self._add("Messages", records)
        with self._measured("BatchDuration"):
            yield

    @contextmanager
    def attempt(self, request: TaskRequest) -> Generator[None]:
        """Measure an attempt. The line names the task, which is no dimension, and costs nothing."""
        self._about = {"Task": request.name}
        self._add("Attempts", 1)
        with self._measured("AttemptDuration"):
            yield

    @contextmanager
    def _measured(self, name: str) -> Generator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self._counts[name] = round((time.monotonic() - started) * 1000, 3)
            self._write()

    def _add(self, name: str, amount: float) -> None:
        self._counts[name] = self._counts.get(name, 0) + amount

    def _write(self) -> None:
        counts, self._counts = self._counts, {}
        if not self._function:
            return
        about = {
            "Timestamp": round(time.time() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": NAMESPACE,
                    "Dimensions": [["Function"]],
                    "Metrics": [{"Name": name, "Unit": _UNITS[name]} for name in counts],
                }
            ],
        }
        line = json.dumps({"_aws": about, "Function": self._function, **self._about, **counts})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

"""Awaiting: what a head says of what the code awaits, of its progress, and of how it failed, when a turn has
ended.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from mini_workflow.core.awaited import LONGEST, is_of_task, waits_of
from mini_workflow.core.events import Event, ExecutionFailed
from mini_workflow.core.mismatch import read_mismatch
from mini_workflow.core.records import replace
from mini_workflow.core.run import Run
from mini_workflow.core.tasks import TaskFuture
from mini_workflow.ports import Head

log = logging.getLogger("mini_workflow.engine")


def with_waits(head: Head, run: Run, decided: Sequence[Event], *, always: bool) -> Head:
    """Return the head with what the code awaits after a turn that has `decided` these events, or with what
    has ended one that failed. A head that is not written anyway (`always`) stays the same while the code
    awaits one task after the other.

    What an execution has told of its progress last stays when it has closed.
    """
    waits = head.waits
    if head.status == "blocked" and read_mismatch(waits) is not None:
        pass  # both sides of why it does not go on
    elif head.status == "failed":
        waits = _failure_in(decided) or waits
    elif head.status != "running":
        waits = ""
    elif always or type(run.waiter()) is not TaskFuture or (waits and not is_of_task(waits)):
        try:
            waits = waits_of(run)
        except Exception:
            waits = ""
            # It looks into what the code and asyncio have made; a turn must not fail of that.
            log.exception("[%s] what it awaits cannot be told", head.execution_id)
    progress = run.progress or head.progress
    if waits == head.waits and progress == head.progress:
        return head
    return replace(head, waits=waits, progress=progress)


def _failure_in(decided: Sequence[Event]) -> str:
    """Return the text of what has ended an execution; empty if that is not among the events."""
    for event in decided:
        if isinstance(event, ExecutionFailed):
            return json.dumps({_FAILED: event.failure.summary()[:LONGEST]})
    return ""


_FAILED = "failed"


def error_in(text: str) -> str:
    """Return what has ended an execution that failed, from what its head has; empty if that is not known."""
    try:
        told = json.loads(text)[_FAILED] if text.startswith(f'{{"{_FAILED}"') else ""
    except (ValueError, KeyError):
        return ""
    return told if isinstance(told, str) else ""

"""Awaiting: what a head says of what the code awaits, and of its progress, when a turn has ended."""

from __future__ import annotations

import logging

from mini_workflow.core.awaited import is_of_task, waits_of
from mini_workflow.core.mismatch import read_mismatch
from mini_workflow.core.records import replace
from mini_workflow.core.run import Run
from mini_workflow.core.tasks import TaskFuture
from mini_workflow.ports import Head

log = logging.getLogger("mini_workflow.engine")


def with_waits(head: Head, run: Run, *, always: bool) -> Head:
    """Return the head with what the code awaits after a turn. A head that is not written anyway (`always`)
    stays the same while the code awaits one task after the other.

    What an execution has told of its progress last stays when it has closed.
    """
    waits = head.waits
    if head.status == "blocked" and read_mismatch(waits) is not None:
        pass  # both sides of why it does not go on
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

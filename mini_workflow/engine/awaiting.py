"""Awaiting: what a head says of what the code awaits, and of its progress, when a turn has ended."""

from __future__ import annotations

from dataclasses import replace

from mini_workflow.core.awaited import waits_of
from mini_workflow.core.run import Run
from mini_workflow.ports import Head


def with_waits(head: Head, run: Run, *, always: bool) -> Head:
    """Return the head with what the code awaits after a turn. A head that is not written anyway (`always`)
    stays the same while the code awaits one task after the other.

    What an execution has told of its progress last stays when it has closed.
    """
    if head.status != "running":
        waits = ""
    else:
        waits = waits_of(run, head.waits, always=always)
    progress = run.progress or head.progress
    if waits == head.waits and progress == head.progress:
        return head
    return replace(head, waits=waits, progress=progress)

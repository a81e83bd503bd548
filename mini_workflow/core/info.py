"""Tell workflow code about its own execution."""

from __future__ import annotations

from datetime import datetime

from mini_workflow.core.records import field, frozen


@frozen
class ExecutionInfo:
    """Facts for a workflow about its own execution.

    `run` counts the runs of the execution from 1. `history_length` is the number of events of this
    run so far. `parent_id` is the id of the execution that started this one as its child. `attempt`
    counts from 1 the runs that were begun because the run before had failed, and `last_failure` says
    how that one failed, as ``Type: message``.
    """

    execution_id: str
    workflow: str
    run: int
    started_at: datetime
    history_length: int
    parent_id: str | None = None
    attempt: int = field(default=1, shown=False)
    last_failure: str | None = field(default=None, shown=False)

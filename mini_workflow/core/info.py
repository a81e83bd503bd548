"""Tell workflow code about its own execution."""

from __future__ import annotations

from dataclasses import field
from datetime import datetime

from mini_workflow.core.records import frozen


@frozen
class ExecutionInfo:
    """Facts for a workflow about its own execution. `run` counts the generations from 1;
    `history_length` is the number of events so far, and `parent_id` the execution that
    started this one as its child. `attempt` counts the runs from 1 that were made because the
    one before had failed, and `last_failure` says how, as ``Type: message``.
    """

    execution_id: str
    workflow: str
    run: int
    started_at: datetime
    history_length: int
    parent_id: str | None = None
    attempt: int = field(default=1, repr=False)
    last_failure: str | None = field(default=None, repr=False)

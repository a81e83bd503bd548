"""tell_asked(): logs who has asked for what leaves no event that could say so."""

from __future__ import annotations

import logging

from mini_workflow.ports import Head
from mini_workflow.printable import printable

log = logging.getLogger("mini_workflow.engine.executions")


def tell_asked(head: Head, action: str, by: str) -> None:
    """Log that an action was asked for, and by whom if that was told: in the process that asks."""
    if by and log.isEnabledFor(logging.INFO):
        about = {"execution_id": head.execution_id, "workflow": head.workflow, "asked_by": by}
        said = "[%s] was asked to %s by %s"
        log.info(said, head.execution_id, action, printable(by), extra=about)

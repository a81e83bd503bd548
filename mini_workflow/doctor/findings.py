"""Finding: the result of one check of `doctor`."""

from __future__ import annotations

from typing import Literal

from mini_workflow.core.records import frozen

Level = Literal["ok", "problem"]


@frozen
class Finding:
    """The result of one check: `what` says what was found, and `remedy` what to do about a problem.
    `execution_id` names the execution, if it is about one.
    """

    level: Level
    what: str
    remedy: str = ""
    execution_id: str | None = None

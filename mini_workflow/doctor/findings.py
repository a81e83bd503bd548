"""Finding: something that `doctor` has looked at."""

from __future__ import annotations

from typing import Literal

from mini_workflow.core.records import frozen

Level = Literal["ok", "problem"]


@frozen
class Finding:
    """Something that was looked at. A problem has a remedy."""

    level: Level
    what: str
    remedy: str = ""
    execution_id: str | None = None

"""Finding: something that `doctor` has looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was looked at. A problem has a remedy."""

    level: Level
    what: str
    remedy: str = ""
    execution_id: str | None = None

"""Mismatch: what a history has and what the code asks for in its place, as a store keeps it with the head."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from mini_workflow.core.records import record
from mini_workflow.errors import NonDeterminismError


@record
class Mismatch:
    """The two sides in words: what the history has `recorded` at the event of that number (0 if it is none),
    and what the code has `asked` for; each is empty for nothing more. `line` is the user's, if it is known.
    """

    recorded: str = ""
    asked: str = ""
    event: int = 0
    line: str = ""

    def to_text(self) -> str:
        """Return the JSON text of it."""
        return json.dumps({_NAME: asdict(self)})


_NAME: Final = "mismatch"
_TYPES: Final[dict[str, type]] = {"recorded": str, "asked": str, "event": int, "line": str}


def mismatch_of(error: BaseException) -> Mismatch | None:
    """Return the sides that an error tells; None if it is none about them."""
    if not isinstance(error, NonDeterminismError) or not (error.recorded or error.asked):
        return None
    return Mismatch(error.recorded, error.asked, error.event, error.line)


def read_mismatch(text: str) -> Mismatch | None:
    """Return what a text says that a head has; None if it says nothing of a mismatch."""
    try:
        plain: Any = json.loads(text)[_NAME] if text.startswith(f'{{"{_NAME}"') else None
        if plain is None or any(type(plain[name]) is not kind for name, kind in _TYPES.items()):
            return None
        return Mismatch(*(plain[name] for name in _TYPES))
    except (ValueError, KeyError, TypeError):
        return None

"""Count audit events of Python: each takes about as long as a call of a function."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_events: list[str] | None = None
_is_installed = False


def _note(event: str, _arguments: object) -> None:
    if _events is not None and threading.current_thread() is threading.main_thread():
        _events.append(event)


@contextmanager
def audited() -> Iterator[list[str]]:
    """The audit events of the main thread meanwhile, in order."""
    global _events, _is_installed
    if not _is_installed:
        _is_installed = True
        sys.addaudithook(_note)  # it stays for ever
    _events = events = []
    try:
        yield events
    finally:
        _events = None

"""Close asynchronous generators in order: abandoned ones at once, and the rest at the end.

A generator is abandoned when its reference count is 0, which is the same in every replay. A generator in
a cycle, which only the garbage collector finds, is kept and closed at the end, since the collector runs
at other times in a replay.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncGenerator
from typing import Any, Final

_PRUNE_AT: Final = 64
"""The number of remembered generators at which those that have ended are dropped."""

_collecting = False


class OpenGenerators:
    """The asynchronous generators of one execution that have begun, in the order of their begin.

    All are kept alive until the end, unless `closes_early`: then only the program keeps them alive.
    """

    __slots__ = ("_begun", "_entries", "_held", "_prune_at", "closes_early")

    def __init__(self, *, closes_early: bool) -> None:
        _install()
        self.closes_early = closes_early
        self._entries: dict[int, tuple[int, weakref.ref[AsyncGenerator[Any, Any]]]] = {}
        self._held: list[tuple[int, AsyncGenerator[Any, Any]]] = []
        self._begun = 0
        self._prune_at = _PRUNE_AT

    def enter(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Add a generator that begins."""
        self._begun += 1
        if not self.closes_early:
            self._held.append((self._begun, generator))
        else:
            self._entries[id(generator)] = (self._begun, weakref.ref(generator))
        if len(self._held) + len(self._entries) > self._prune_at:
            self._held = [held for held in self._held if is_open(held[1])]
            self._entries = {
                key: entry
                for key, entry in self._entries.items()
                if (found := entry[1]()) is not None and is_open(found)
            }
            self._prune_at = max(_PRUNE_AT, 2 * (len(self._held) + len(self._entries)))

    def leave(self, generator: AsyncGenerator[Any, Any]) -> bool:
        """Return whether an abandoned generator is to be closed now; if not, keep it."""
        number, _ = self._entries.pop(id(generator), (0, None))
        if _collecting:
            self._held.append((number, generator))
        return not _collecting

    def take(self) -> list[AsyncGenerator[Any, Any]]:
        """Return the generators that have not ended, in order, and forget them."""
        held, self._held = self._held, []
        entries, self._entries = self._entries, {}
        for number, reference in entries.values():
            if (found := reference()) is not None:
                held.append((number, found))
        return [found for _, found in sorted(held, key=_number) if is_open(found)]

    def clear(self) -> None:
        """Forget all generators."""
        self._held.clear()
        self._entries.clear()


def _number(entry: tuple[int, Any]) -> int:
    return entry[0]


def is_open(generator: AsyncGenerator[Any, Any]) -> bool:
    """Return whether a generator has not ended."""
    return getattr(generator, "ag_frame", None) is not None


def _collected(phase: str, _info: dict[str, int]) -> None:
    global _collecting
    _collecting = phase == "start"


def _install() -> None:
    if _collected not in gc.callbacks:
        gc.callbacks.append(_collected)

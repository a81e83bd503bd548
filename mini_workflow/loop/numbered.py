"""Tasks and futures that are numbered as they are made, and hashed by that number.

asyncio and its users keep them in sets. By default the order of such a set follows memory
addresses; here it is the same on every replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Final
from zlib import crc32

_SPREAD: Final = 0x9E3779B97F4A7C15
_HASH_MASK: Final = (1 << 56) - 1
"""Hashes of one execution follow each other; those of two executions begin far apart, because
asyncio keeps the tasks of all loops in one set."""


class NumberingLoop(asyncio.AbstractEventLoop):
    """A loop that counts what is made on it."""

    def __init__(self, identity: str) -> None:
        self._hash_base = crc32(identity.encode("utf-8", "surrogatepass")) * _SPREAD & _HASH_MASK
        self.created = 0

    def next_hash(self) -> int:
        """The hash of the next task or future."""
        self.created += 1
        return self._hash_base + self.created


class WorkflowFuture(asyncio.Future[Any]):
    """A future whose hash follows the order of creation."""

    __mini_workflow_refused__ = "a future of the workflow"
    __mini_workflow_instead__ = "await it in the workflow, and pass its result"

    def __init__(self, *, loop: NumberingLoop) -> None:
        super().__init__(loop=loop)
        self._mw_hash = loop.next_hash()

    def __hash__(self) -> int:
        return self._mw_hash


class WorkflowTask(asyncio.Task[Any]):
    """An ``asyncio.Task`` whose hash follows the order of creation."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: NumberingLoop,
        name: str | None,
        context: Context | None,
    ) -> None:
        # The hash comes first: the base class enters the task into a set.
        self._mw_hash = loop.next_hash()
        name = name if name is not None else f"Task-{loop.created}"
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._mw_hash


def unseen(future: asyncio.Future[Any]) -> bool:
    """Whether it has failed and nobody has looked at the exception."""
    return bool(getattr(future, "_log_traceback", False))


def hush(future: asyncio.Future[Any]) -> None:
    """Say nothing about the future or task when the garbage collector finds it."""
    # Both attributes are asyncio's own means to this end; no public one exists.
    if unseen(future):
        future._log_traceback = False  # type: ignore[attr-defined]
    if isinstance(future, asyncio.Task):
        future._log_destroy_pending = False  # type: ignore[attr-defined]

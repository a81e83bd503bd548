"""Limits for coroutines: ``runtime.aio.limits``. The calls of `Limits`, to be awaited."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, TypedDict, Unpack

from mini_workflow.core.limit import Limit
from mini_workflow.engine.limits import LimitDescription, LimitHandle, Limits

Wait = Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]
"""Makes a call on a thread of its own, and waits for what it answers."""


class LimitChanges(TypedDict, total=False):
    """What may be changed of a limit: see `LimitHandle.update`."""

    concurrency: int | None
    rate: tuple[int, float | timedelta] | None
    per_key: bool


class AsyncLimitHandle:
    """A handle to a limit of a store, for coroutines: see LimitHandle."""

    def __init__(self, handle: LimitHandle, wait: Wait) -> None:
        self._handle = handle
        self._wait = wait

    @property
    def name(self) -> str:
        """Its name."""
        return self._handle.name

    async def describe(self) -> LimitDescription:
        """Return how it stands: see `LimitHandle.describe`."""
        found: LimitDescription = await self._wait(self._handle.describe)
        return found

    async def update(self, **changes: Unpack[LimitChanges]) -> None:
        """Change what is given: see `LimitHandle.update`."""
        await self._wait(partial(self._handle.update, **changes))

    def __repr__(self) -> str:
        return repr(self._handle)


class AsyncLimits:
    """The limits of a store, for coroutines: see Limits."""

    def __init__(self, limits: Limits, wait: Wait) -> None:
        self._limits = limits
        self._wait = wait

    async def create(self, limit: Limit) -> AsyncLimitHandle:
        """Have a limit be there before it is used: see `Limits.create`."""
        return AsyncLimitHandle(await self._wait(partial(self._limits.create, limit)), self._wait)

    async def get(self, name: str, *, timeout: float | None = None) -> AsyncLimitHandle:  # noqa: ASYNC109 - handed on
        """Return a handle to a limit: see `Limits.get`."""
        found = await self._wait(partial(self._limits.get, name, timeout=timeout))
        return AsyncLimitHandle(found, self._wait)

    async def list(self) -> list[AsyncLimitHandle]:
        """Return all limits that were used or created: see `Limits.list`."""
        return [AsyncLimitHandle(one, self._wait) for one in await self._wait(self._limits.list)]

    def __repr__(self) -> str:
        return repr(self._limits)

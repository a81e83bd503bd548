"""Create, describe and change limits, on any runtime. Each is an execution of a built-in workflow."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from mini_workflow.core.limit import (
    LIMIT_PREFIX,
    Limit,
    check_limit_name,
    limit_id,
    make_limit_plan,
    rate_of,
    text_of_plan,
)
from mini_workflow.core.records import frozen
from mini_workflow.limits.workflow import LIMIT

if TYPE_CHECKING:
    from mini_workflow.engine.client import Client

_KEEP: Final[Any] = object()
"""Stands for an argument that is not given, where None means something."""


@frozen
class KeyCount:
    """The share of one key in a limit: how many slots are held, and how many are waited for."""

    key: str
    held: int
    waiting: int


@frozen
class SlotHolder:
    """An execution that holds slots: its id, the key, and how many."""

    execution_id: str
    key: str
    held: int


@frozen
class LimitDescription:
    """A limit as it stands: what it allows, and how many slots are held and waited for.

    `keys` are the twenty for which most wait, and `holders` the twenty executions that have held slots
    for longest.
    """

    name: str
    concurrency: int | None
    rate: tuple[int, timedelta] | None
    per_key: bool
    held: int
    waiting: int
    keys: tuple[KeyCount, ...]
    holders: tuple[SlotHolder, ...]

    @property
    def allows(self) -> str:
        """What it allows, in words."""
        plan: dict[str, Any] = {"per_key": self.per_key}
        if self.concurrency is not None:
            plan["concurrency"] = self.concurrency
        if self.rate is not None:
            plan["rate"] = [self.rate[0], self.rate[1].total_seconds() * 1000]
        return text_of_plan(plan)


class LimitHandle:
    """A handle to a limit of a store."""

    def __init__(self, name: str, client: Client, timeout: float | None = None) -> None:
        self.name = name
        self._client = client
        self._timeout = timeout

    def describe(self) -> LimitDescription:
        """Return how it stands. Raises ExecutionNotFound if it is not there: nobody has used it."""
        found: dict[str, Any] = self._client.get_execution(limit_id(self.name)).query("describe")
        plan = found["plan"]
        return LimitDescription(
            name=self.name,
            concurrency=plan.get("concurrency"),
            rate=rate_of(plan),
            per_key=bool(plan.get("per_key")),
            held=found["held"],
            waiting=found["waiting"],
            keys=tuple(KeyCount(*entry) for entry in found["keys"]),
            holders=tuple(SlotHolder(*entry) for entry in found["holders"]),
        )

    def update(
        self,
        *,
        concurrency: int | None = _KEEP,
        rate: tuple[int, float | timedelta] | None = _KEEP,
        per_key: bool = _KEEP,
    ) -> None:
        """Change what is given; the rest stays. It counts at once, for those that wait too; slots that are
        held stay held. The values are those of `Limit`, and None is for any number.

        It is so until the code declares other numbers than it did before.

        Raises:
            UsageError: an argument is out of range, or neither would be limited.
            ExecutionNotFound: it is not there.
        """
        now = self.describe()
        plan = make_limit_plan(
            self.name,
            now.concurrency if concurrency is _KEEP else concurrency,
            now.rate if rate is _KEEP else rate,
            now.per_key if per_key is _KEEP else per_key,
        )
        changes = {"concurrency": None, "rate": None, **plan}
        execution = self._client.get_execution(limit_id(self.name))
        execution.update("change", changes, timeout=self._timeout)

    def __repr__(self) -> str:
        return f"<limit {self.name!r}>"


class Limits:
    """The limits of a store: ``runtime.limits``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, limit: Limit) -> LimitHandle:
        """Have a limit be there before it is used; else the first task that needs it sees to that. If it is
        there, and the code has declared other numbers before, it is changed.
        """
        handle = self._client.update_with_start(
            *(LIMIT, limit.name),
            id=limit_id(limit.name),
            update="declare",
            update_args=(limit.plan,),
            if_closed="restart",
        )
        handle.result()
        return LimitHandle(limit.name, self._client)

    def get(self, name: str, *, timeout: float | None = None) -> LimitHandle:
        """Return a handle to a limit, whose changes wait for at most `timeout` seconds until they are taken.
        Raises ExecutionNotFound if nobody has used or created it, UsageError if it is no name.
        """
        check_limit_name(name)
        self._client.get_execution(limit_id(name))
        return LimitHandle(name, self._client, timeout)

    def list(self) -> list[LimitHandle]:
        """Return all limits that were used or created, the newest first."""
        found = self._client.list_executions(workflow=LIMIT)
        return [
            LimitHandle(one.id.removeprefix(LIMIT_PREFIX), self._client)
            for one in found
            if one.closed_at is None
        ]

    def __repr__(self) -> str:
        return "<limits>"


Wait = Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]
"""Makes a call on a thread of its own, and waits for what it answers."""


class LimitChanges(TypedDict, total=False):
    """The changes of a limit: see `LimitHandle.update`."""

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

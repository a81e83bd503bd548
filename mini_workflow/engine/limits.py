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
"""Stands for an argument that is not given, where None is a value."""


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
    """The state of a limit.

    `concurrency` is the number of slots at a time, and `rate` how many may be granted within a time; None
    for any number. `held` and `waiting` count the slots that are held and waited for. `keys` are the twenty
    keys for which most wait, and `holders` the twenty executions that have held slots for longest.
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
        """The concurrency and the rate in words."""
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
        """Return the state of the limit. Raises ExecutionNotFound if nobody has used it yet."""
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
        """Change the given values; the others stay. The change takes effect at once, also for executions that
        wait; held slots stay held. The values are those of `Limit`, and None is for any number.

        The change holds until the code declares other numbers than it did before.

        Raises:
            UsageError: an argument is out of range, or neither would be limited.
            ExecutionNotFound: nobody has used the limit yet.
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
        """Create a limit before it is used; otherwise the first task that needs it does so. A limit that
        exists is changed, if the code has declared other numbers before.
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
        """Return a handle to a limit. Its `update` waits for at most `timeout` seconds for an answer. Raises
        ExecutionNotFound if nobody has used or created the limit, UsageError if the name is not valid.
        """
        check_limit_name(name)
        self._client.get_execution(limit_id(name))
        return LimitHandle(name, self._client, timeout)

    def list(self) -> list[LimitHandle]:
        """Return handles to all limits that were used or created, the newest first."""
        found = self._client.list_executions(workflow=LIMIT)
        return [
            LimitHandle(one.id.removeprefix(LIMIT_PREFIX), self._client)
            for one in found
            if one.closed_at is None
        ]

    def __repr__(self) -> str:
        return "<limits>"


Wait = Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]
"""Makes a call on a thread of its own, and waits for its result."""


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
        """The name of the limit."""
        return self._handle.name

    async def describe(self) -> LimitDescription:
        """Return the state of the limit: see `LimitHandle.describe`."""
        found: LimitDescription = await self._wait(self._handle.describe)
        return found

    async def update(self, **changes: Unpack[LimitChanges]) -> None:
        """Change the given values: see `LimitHandle.update`."""
        await self._wait(partial(self._handle.update, **changes))

    def __repr__(self) -> str:
        return repr(self._handle)


class AsyncLimits:
    """The limits of a store, for coroutines: see Limits."""

    def __init__(self, limits: Limits, wait: Wait) -> None:
        self._limits = limits
        self._wait = wait

    async def create(self, limit: Limit) -> AsyncLimitHandle:
        """Create a limit before it is used: see `Limits.create`."""
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

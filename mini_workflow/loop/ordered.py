"""Give an order to sets that asyncio keeps: tasks and futures hash by number, sets iterate by insertion.

``asyncio.wait``, ``as_completed`` and ``TaskGroup`` keep tasks in a ``set`` and iterate over it, so that
the order in which siblings are cancelled or reported would follow memory addresses. Inside a workflow's
loop the name ``set`` in those modules makes an OrderedSet; any other loop gets the built-in set as
before. The future of ``gather`` hashes by a number in the same way.
"""

from __future__ import annotations

import asyncio.taskgroups
import asyncio.tasks
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context, copy_context
from functools import wraps
from typing import Any, Final, TypeVar
from zlib import crc32

from mini_workflow.loop.ordered_set import OrderedSet

T = TypeVar("T")

# By this function an implementation of tasks leaves asyncio's set, see "Extending" in Python's documentation.
_unregister_task: Callable[[Any], None] = asyncio.tasks._unregister_task  # pyright: ignore[reportPrivateUsage]

_SPREAD: Final = 0x9E3779B97F4A7C15
_HASH_MASK: Final = (1 << 56) - 1


def hash_base(identity: str) -> int:
    """Return the number from which the hashes of one execution's tasks and futures are counted.

    The numbers of two executions are far apart, because asyncio enters the tasks of all loops into one set.
    """
    return crc32(identity.encode("utf-8", "surrogatepass")) * _SPREAD & _HASH_MASK


class WorkflowFuture(asyncio.Future[T]):
    """A future whose hash follows the order of creation. `loop` is a WorkflowLoop."""

    __mini_workflow_refused__ = "a future of the workflow"
    __mini_workflow_instead__ = "await it in the workflow, and pass its result"

    __slots__ = ("_mw_hash",)

    def __init__(self, *, loop: Any) -> None:
        # A call of super() would take longer than this one.
        asyncio.Future.__init__(self, loop=loop)  # pyright: ignore[reportUnknownMemberType]
        self._mw_hash = loop.last_hash = loop.last_hash + 1

    def __hash__(self) -> int:
        return self._mw_hash

    def subject(self) -> tuple[str, str, int] | None:
        """Return the operation of the future: its kind, its name, and its number or 0; None for none."""
        return None


class WorkflowTask(asyncio.Task[Any]):
    """An ``asyncio.Task`` whose hash follows the order of creation. `loop` is a WorkflowLoop."""

    __slots__ = ("_mw_hash", "_numbering", "context")

    def __init__(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        loop: Any,
        name: str | None,
        context: Context | None,
    ) -> None:
        # The hash comes first: the base class enters the task into a set.
        self._mw_hash = loop.last_hash = loop.last_hash + 1
        name = name if name is not None else f"Task-{loop.last_hash - loop.first_hash}"
        self._numbering = loop
        self.context = copy_context() if context is None else context
        super().__init__(coro, loop=loop, name=name, context=self.context)
        # asyncio has one set of the tasks of all loops. Each `asyncio.run` of the process would go through
        # those of all executions in memory. The loop keeps its own, see `install`.
        _unregister_task(self)

    def __hash__(self) -> int:
        return self._mw_hash

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the task. The loop counts cancellations, since some code cancels in every pass."""
        if not self.done():
            self._numbering.cancelled_again(self)
        return super().cancel(msg)


def unseen(future: asyncio.Future[Any]) -> bool:
    """Return whether the future has failed and its exception was not retrieved."""
    return bool(getattr(future, "_log_traceback", False))


def silence(future: asyncio.Future[Any]) -> None:
    """Stop asyncio from logging about the future or task when the garbage collector finds it."""
    # Both attributes are asyncio's own means to this end; no public one exists.
    if unseen(future):
        future._log_traceback = False  # type: ignore[attr-defined]
    if isinstance(future, asyncio.Task):
        future._log_destroy_pending = False  # type: ignore[attr-defined]


_GatheringFuture: type[asyncio.Future[Any]] = getattr(asyncio.tasks, "_GatheringFuture")  # noqa: B009


class NumberedGathering(_GatheringFuture):
    """The future of a ``gather`` in a workflow: its hash follows the order of creation."""

    def __init__(self, children: Any, *, loop: Any) -> None:
        super().__init__(children, loop=loop)  # type: ignore[call-arg]
        self._mw_hash = loop.last_hash = loop.last_hash + 1

    def __hash__(self) -> int:
        return self._mw_hash


def install(in_workflow: Callable[[], bool], refuse: Callable[[str, str], None]) -> None:
    """Replace the names ``set``, ``all_tasks`` and ``_GatheringFuture`` in asyncio's modules. They behave as
    before unless `in_workflow` returns True, or the loop is that of a workflow.

    `refuse` is called for a set of coroutines, which has no order at all.
    """

    def make_set(items: Iterable[Any] = ()) -> set[Any]:
        if not in_workflow():
            return set(items)
        if type(items) in (set, frozenset):
            coroutines = [item for item in items if asyncio.iscoroutine(item)]
            if len(coroutines) > 1:
                for coroutine in coroutines:
                    coroutine.close()
                refuse("waiting for a set of coroutines, which has no order,", "give a list")
        return OrderedSet(items)

    def make_gathering(children: Any, *, loop: Any) -> asyncio.Future[Any]:
        kind: Any = NumberedGathering if hasattr(loop, "last_hash") else _GatheringFuture
        return kind(children, loop=loop)

    registered = asyncio.all_tasks

    @wraps(registered)
    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
        of: Any = asyncio.get_running_loop() if loop is None else loop
        if not hasattr(of, "last_hash"):
            return registered(of)
        return {task for task in of.tasks if not task.done()}

    asyncio.all_tasks = asyncio.tasks.all_tasks = all_tasks
    asyncio.tasks.set = make_set  # type: ignore[attr-defined]
    asyncio.taskgroups.set = make_set  # type: ignore[attr-defined]
    asyncio.tasks._GatheringFuture = make_gathering  # type: ignore[attr-defined]

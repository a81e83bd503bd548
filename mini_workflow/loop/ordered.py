"""Give an order to sets that asyncio keeps: tasks and futures hash by number, sets iterate by insertion.

``asyncio.wait``, ``as_completed`` and ``TaskGroup`` keep tasks in a ``set`` and iterate over it, so that
the order in which siblings are cancelled or reported would follow memory addresses. Inside a workflow's
loop the name ``set`` in those modules makes an OrderedSet; any other loop gets the built-in set as
before. The future of ``gather`` hashes by a number in the same way.
"""

from __future__ import annotations

import asyncio.taskgroups
import asyncio.tasks
from collections.abc import Callable, Coroutine, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextvars import Context, copy_context
from typing import Any, Final, TypeVar
from zlib import crc32

T = TypeVar("T")

_SPREAD: Final = 0x9E3779B97F4A7C15
_HASH_MASK: Final = (1 << 56) - 1


def hash_base(identity: str) -> int:
    """Return the number from which the hashes of one execution's tasks and futures are counted.

    The numbers of two executions are far apart, because asyncio keeps the tasks of all loops in one set.
    """
    return crc32(identity.encode("utf-8", "surrogatepass")) * _SPREAD & _HASH_MASK


class WorkflowFuture(asyncio.Future[T]):
    """A future whose hash follows the order of creation. `loop` is a WorkflowLoop."""

    __mini_workflow_refused__ = "a future of the workflow"
    __mini_workflow_instead__ = "await it in the workflow, and pass its result"

    __slots__ = ("_mw_hash",)

    def __init__(self, *, loop: Any) -> None:
        super().__init__(loop=loop)
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


class OrderedSet(set[T]):
    """A set that iterates, and pops, in the order of insertion."""

    __slots__ = ("_order",)

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._order: dict[T, None] = dict.fromkeys(items)
        super().__init__(self._order)

    def __iter__(self) -> Iterator[T]:
        return iter(self._order)

    def __reduce__(self) -> tuple[Any, ...]:
        return (set, (list(self._order),))

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self._order))}}}" if self._order else "set()"

    def add(self, element: T, /) -> None:
        self._order[element] = None
        super().add(element)

    def discard(self, element: Any, /) -> None:
        self._order.pop(element, None)
        super().discard(element)

    def remove(self, element: T, /) -> None:
        super().remove(element)
        del self._order[element]

    def pop(self) -> T:
        for first in self._order:
            self.remove(first)
            return first
        raise KeyError("pop from an empty set")

    def clear(self) -> None:
        self._order.clear()
        super().clear()

    def copy(self) -> OrderedSet[T]:
        return OrderedSet(self._order)

    def keep_in_step(self, others: Iterable[Iterable[T]]) -> None:
        """Bring the order up to date after the members have changed; new members come from `others`."""
        for element in [e for e in self._order if e not in self]:
            del self._order[element]
        for other in others:
            for element in other:
                if element in self:
                    self._order[element] = None


def _method(name: str) -> Callable[..., Any]:
    """Return a method like ``update``: it changes the members as the built-in does, then the order."""
    builtin = getattr(set, name)

    def method(self: OrderedSet[Any], *others: Iterable[Any]) -> None:
        kept = [list(other) for other in others]
        builtin(self, *kept)
        self.keep_in_step(kept)

    return method


def _members(other: Any) -> list[Any]:
    """Return the members of a set in its order; an empty list for any other object."""
    return [*other] if isinstance(other, AbstractSet) else []  # pyright: ignore[reportUnknownVariableType]


def _in_place(name: str) -> Callable[..., Any]:
    """Return an operator like ``|=``, which takes sets only."""
    builtin = getattr(set, name)

    def method(self: OrderedSet[Any], other: Any) -> Any:
        kept = _members(other)
        if builtin(self, other) is NotImplemented:
            return NotImplemented
        self.keep_in_step([kept])
        return self

    return method


def _operator(in_place: str) -> Callable[..., Any]:
    def method(self: OrderedSet[Any], other: Any) -> Any:
        return getattr(self.copy(), in_place)(other)

    return method


def _reflected(in_place: str) -> Callable[..., Any]:
    def method(self: OrderedSet[Any], other: Any) -> Any:
        if not isinstance(other, AbstractSet):
            return NotImplemented
        return getattr(OrderedSet(_members(other)), in_place)(self)

    return method


def _named(update: str) -> Callable[..., Any]:
    def method(self: OrderedSet[Any], *others: Iterable[Any]) -> Any:
        result = self.copy()
        getattr(result, update)(*others)
        return result

    return method


for _sign in ("or", "sub", "and", "xor"):
    setattr(OrderedSet, f"__i{_sign}__", _in_place(f"__i{_sign}__"))
    setattr(OrderedSet, f"__{_sign}__", _operator(f"__i{_sign}__"))
    setattr(OrderedSet, f"__r{_sign}__", _reflected(f"__i{_sign}__"))
for _plain, _update in (
    ("union", "update"),
    ("difference", "difference_update"),
    ("intersection", "intersection_update"),
    ("symmetric_difference", "symmetric_difference_update"),
):
    setattr(OrderedSet, _update, _method(_update))
    setattr(OrderedSet, _plain, _named(_update))


class OrderedFrozenSet(frozenset[T]):
    """A frozenset that iterates in the order of insertion."""

    __slots__ = ("_order",)

    _order: tuple[T, ...]

    def __new__(cls, items: Iterable[T] = ()) -> OrderedFrozenSet[T]:
        """Make a set of the items, in their order."""
        order = tuple(dict.fromkeys(items))
        ordered = super().__new__(cls, order)
        ordered._order = order
        return ordered

    def __iter__(self) -> Iterator[T]:
        return iter(self._order)

    def __reduce__(self) -> tuple[Any, ...]:
        return (frozenset, (list(self._order),))

    def __repr__(self) -> str:
        return (
            f"frozenset({{{', '.join(map(repr, self._order))}}})" if self._order else "frozenset()"
        )

    def copy(self) -> OrderedFrozenSet[T]:
        return self


def _combined(name: str) -> Callable[..., Any]:
    """Return a method like ``union``: its result has the members of the built-in's result, in order."""
    builtin = getattr(frozenset, name)

    def method(self: OrderedFrozenSet[Any], *others: Any) -> Any:
        kept: list[Any] = [
            other if isinstance(other, AbstractSet) else list(other) for other in others
        ]
        result = builtin(self, *kept)
        if result is NotImplemented:
            return result
        return OrderedFrozenSet(e for part in (self, *kept) for e in part if e in result)

    return method


def _combined_operator(name: str) -> Callable[..., Any]:
    method = _combined(name)

    def operator(self: OrderedFrozenSet[Any], other: Any) -> Any:
        return method(self, other) if isinstance(other, AbstractSet) else NotImplemented

    return operator


for _named_method in ("union", "intersection", "difference", "symmetric_difference"):
    setattr(OrderedFrozenSet, _named_method, _combined(_named_method))
for _sign in ("or", "and", "sub", "xor"):
    setattr(OrderedFrozenSet, f"__{_sign}__", _combined_operator(f"__{_sign}__"))


_GatheringFuture: type[asyncio.Future[Any]] = getattr(asyncio.tasks, "_GatheringFuture")  # noqa: B009


class NumberedGathering(_GatheringFuture):
    """The future of a ``gather`` in a workflow: its hash follows the order of creation."""

    def __init__(self, children: Any, *, loop: Any) -> None:
        super().__init__(children, loop=loop)  # type: ignore[call-arg]
        self._mw_hash = loop.last_hash = loop.last_hash + 1

    def __hash__(self) -> int:
        return self._mw_hash


def install(in_workflow: Callable[[], bool], refuse: Callable[[str, str], None]) -> None:
    """Replace the names ``set`` and ``_GatheringFuture`` in asyncio's modules. They behave as before unless
    `in_workflow` returns True.

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

    asyncio.tasks.set = make_set  # type: ignore[attr-defined]
    asyncio.taskgroups.set = make_set  # type: ignore[attr-defined]
    asyncio.tasks._GatheringFuture = make_gathering  # type: ignore[attr-defined]

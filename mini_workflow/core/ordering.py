"""Sets that keep their order, for the parts of asyncio that walk over a set.

``asyncio.wait``, ``as_completed`` and ``TaskGroup`` keep tasks in a ``set`` and walk over it, so
the order in which siblings are cancelled or reported would follow memory addresses. Inside a
workflow's loop the name ``set`` in those modules gives an OrderedSet; any other loop gets the
built-in set as before.
"""

from __future__ import annotations

import asyncio.taskgroups
import asyncio.tasks
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


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

    def add(self, element: T, /) -> None:
        self._order[element] = None
        super().add(element)

    def discard(self, element: T, /) -> None:
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

    def _keep_in_step(self, others: Iterable[Iterable[T]]) -> None:
        for element in [e for e in self._order if e not in self]:
            del self._order[element]
        for other in others:
            for element in other:
                if element in self:
                    self._order[element] = None


def _in_step(name: str) -> Callable[..., Any]:
    builtin = getattr(set, name)

    def method(self: OrderedSet[Any], *others: Iterable[Any]) -> Any:
        kept = [list(other) for other in others]
        result = builtin(
            self, *(set(k) if name.startswith("__") else k for k in kept)
        )
        self._keep_in_step(kept)  # pyright: ignore[reportPrivateUsage]
        return self if name.startswith("__") else result

    method.__name__ = name
    return method


for _name in (
    "update",
    "difference_update",
    "intersection_update",
    "symmetric_difference_update",
    "__ior__",
    "__isub__",
    "__iand__",
    "__ixor__",
):
    setattr(OrderedSet, _name, _in_step(_name))


def install(in_workflow: Callable[[], bool]) -> None:
    """Shadow the name ``set`` in asyncio's modules while `in_workflow` answers True."""

    def make_set(items: Iterable[Any] = ()) -> set[Any]:
        return OrderedSet(items) if in_workflow() else set(items)

    asyncio.tasks.set = make_set  # type: ignore[attr-defined]
    asyncio.taskgroups.set = make_set  # type: ignore[attr-defined]

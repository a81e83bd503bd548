"""Sets that iterate in the order of insertion, for workflow code: the same on every replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
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
        """Bring the order up to date after the members have changed; new ones come from `others`."""
        for element in [e for e in self._order if e not in self]:
            del self._order[element]
        for other in others:
            for element in other:
                if element in self:
                    self._order[element] = None


def _method(name: str) -> Callable[..., Any]:
    """``update`` and its like: changes the members as the built-in does, then the order."""
    builtin = getattr(set, name)

    def method(self: OrderedSet[Any], *others: Iterable[Any]) -> None:
        kept = [list(other) for other in others]
        builtin(self, *kept)
        self.keep_in_step(kept)

    return method


def _members(other: Any) -> list[Any]:
    """Return the members of a set, in its order; none of what is not a set."""
    return [*other] if isinstance(other, AbstractSet) else []  # pyright: ignore[reportUnknownVariableType]


def _in_place(name: str) -> Callable[..., Any]:
    """``|=`` and its like, which take sets only."""
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
        """Members in the order in which they come."""
        order = tuple(dict.fromkeys(items))
        made = super().__new__(cls, order)
        made._order = order
        return made

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
    """``union`` and its like: the members as the built-in has them, in order."""
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

"""Fact: what events have in common. Records: data that is not changed once it is made.

That it is not is a convention, which the type checker holds the code to. To enforce it at run time
as well would take longer than all else that is done to make such an object, of which each step of
an execution makes a dozen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, dataclass_transform

T = TypeVar("T")


class Fact:
    """Compares and shows events by their fields.

    These methods are shared, because generating them for each of many classes takes a good part
    of the time that importing the library takes.
    """

    __slots__ = ()

    __match_args__: ClassVar[tuple[str, ...]] = ()

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), *(repr(value) for value in self._values())))

    def __repr__(self) -> str:
        pairs = zip(self.__match_args__, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"


@dataclass_transform(frozen_default=True)
def fact(kind: type[T]) -> type[T]:
    """Return a dataclass with slots, whose other methods are those of Fact."""
    return dataclass(slots=True, eq=False, repr=False)(kind)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(kind: type[T]) -> type[T]:
    """Return a dataclass with slots that compares by its fields."""
    return dataclass(slots=True, unsafe_hash=True)(kind)

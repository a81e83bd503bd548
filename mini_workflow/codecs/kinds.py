"""Define a kind of value: how such values are written and read. A table by tag holds all kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mini_workflow.core.records import frozen

if TYPE_CHECKING:
    from mini_workflow.codecs.decoding import Decoder
    from mini_workflow.codecs.encoding import Encoder

Encode = Callable[["Encoder", Any], Any]
Tagged = dict[str, Any]
"""A tree that begins with the tag of its kind: ``{"$": tag, ...}``."""


@frozen
class Kind:
    """The way in which values of one kind become trees, and values again.

    `types` are the classes whose instances are of it, and no instances of subclasses: those that
    cost something to import by name, as ``package.qualname``. A kind without any is found by
    `kind_of`. What people see is the text of `show`, where decoding would load a class; elsewhere
    it is the value.
    """

    types: tuple[type[Any] | str, ...]
    encode: Encode
    decode: Callable[[Decoder, Tagged], Any]
    show: Callable[[Decoder, Tagged], str] | None = None


class Unencodable(Exception):
    """A part cannot be encoded. `place` is where it is, innermost step first."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place: list[str] = []


def short_name(name: object) -> str:
    """Return the name of a class without its module, for people."""
    return str(name).rpartition(":")[2]

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
    """A kind of values, with the functions that encode them as trees and decode them.

    `types` are the exact classes of its values, without subclasses; classes that are expensive to import
    are given by name, as ``package.qualname``. A kind without types is found by `kind_of`. `show` returns
    the text for people, if decoding would load a class; otherwise people see the value.
    """

    types: tuple[type[Any] | str, ...]
    encode: Encode
    decode: Callable[[Decoder, Tagged], Any]
    show: Callable[[Decoder, Tagged], str] | None = None


class Unencodable(Exception):
    """A part cannot be encoded. `place` has the steps to the part, the innermost first."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place: list[str] = []


def short_name(name: object) -> str:
    """Return the name of a class without its module, for people."""
    return str(name).rpartition(":")[2]

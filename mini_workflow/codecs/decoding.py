"""Make values of trees of plain JSON with tags, as `encoding` writes them."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, Final

from mini_workflow.codecs.kinds import Tagged
from mini_workflow.codecs.names import load_class, load_known_class, type_of
from mini_workflow.codecs.pickled import decode_opaque
from mini_workflow.codecs.signing import ValueSigner
from mini_workflow.codecs.table import KINDS
from mini_workflow.errors import PayloadNotReadable
from mini_workflow.loop.ordered_set import OrderedFrozenSet, OrderedSet

_ORDERED: Final[dict[type[Any], type[Any]]] = {set: OrderedSet, frozenset: OrderedFrozenSet}
_ATOMS: Final = frozenset({str, int, float, bool, type(None)})


class Decoder:
    """Makes values from trees, which it does not change. No two values share a part.

    Raises PayloadNotReadable, PythonVersionMismatch or SignatureInvalid. A damaged tree may raise
    any other exception.
    """

    __slots__ = ("_ordered", "_read_tagged", "_signer", "_trust", "load_class")

    load_class: Callable[[str], type[Any]]
    """Finds the class that a value names. Raises PayloadNotReadable."""

    def __init__(
        self, signer: ValueSigner | None, *, ordered: bool = False, trust: bool = True
    ) -> None:
        self._signer = signer
        self._ordered = ordered
        self._trust = trust
        self._read_tagged = _load_tagged
        self.load_class = load_class if trust else load_known_class

    @classmethod
    def for_people(cls) -> Decoder:
        """Return a decoder for people to read values: it imports nothing and runs only code of Python. Values
        with a class become `Shown`; all others are themselves.
        """
        decoder = cls(None, trust=False)
        decoder._read_tagged = _show_tagged
        decoder.load_class = _builtin_exception
        return decoder

    def decode(self, tree: Any) -> Any:
        """Return the value of a tree."""
        kind = type_of(tree)
        if kind is dict:
            if "$" in tree:
                return self._read_tagged(self, tree)
            decode = self.decode
            return {
                key: item if type(item) in _ATOMS else decode(item) for key, item in tree.items()
            }
        if kind is list:
            return self.items(tree)
        return tree

    def items(self, trees: list[Any]) -> list[Any]:
        """Return the values of a list of trees."""
        decode = self.decode
        return [item if type(item) in _ATOMS else decode(item) for item in trees]

    def pairs(self, trees: list[Any]) -> dict[Any, Any]:
        """Return the dict of a list of pairs of trees."""
        return {self.decode(key): self.decode(item) for key, item in trees}

    def members(self, kind: type[Any], tagged: Tagged) -> Any:
        """Return a set of that kind; ordered ones keep the stored order."""
        if self._ordered:
            kind = _ORDERED[kind]
        return kind(self.items(tagged["v"]))

    def load_opaque(self, tagged: Tagged) -> Any:
        """Return a pickled value. Raises PayloadNotReadable unless it may be loaded."""
        if not self._trust and self._signer is None:
            raise PayloadNotReadable(
                "a stored value is pickled, and loading it may run any code: if you trust its origin, "
                "give --trust, or trust=True"
            )
        return decode_opaque(tagged, self._signer)


def _load_tagged(decoder: Decoder, tagged: Tagged) -> Any:
    kind = KINDS.get(tagged["$"])
    if kind is None:
        raise PayloadNotReadable(
            f"a stored value has the unknown tag {tagged['$']!r}: it was written by a newer version "
            "of mini-workflow, so upgrade this process"
        )
    return kind.decode(decoder, tagged)


def _show_tagged(decoder: Decoder, tagged: Tagged) -> Any:
    kind = KINDS.get(tagged["$"])
    if kind is None:
        return Shown(f"<of an unknown kind: {tagged['$']!r}>")
    return kind.decode(decoder, tagged) if kind.show is None else Shown(kind.show(decoder, tagged))


class Shown:
    """Stands for a value whose class is not loaded: `text` describes the stored value for people."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _builtin_exception(name: str) -> type[Any]:
    module, _, qualname = name.partition(":")
    found: Any = vars(builtins).get(qualname) if module == "builtins" else None
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    raise PayloadNotReadable(f"{name!r} is not loaded for looking at it")

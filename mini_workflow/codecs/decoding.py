"""Trees of plain JSON with tags, as `encoding` makes them, back to values."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any, Final

from mini_workflow.codecs import exceptions, objects, scalars
from mini_workflow.codecs.names import load_factory, type_of
from mini_workflow.codecs.opaque import DILL, PICKLE, decode_opaque
from mini_workflow.codecs.signing import Signer
from mini_workflow.errors import PayloadNotReadable
from mini_workflow.loop.ordered import OrderedFrozenSet, OrderedSet

_ORDERED: Final[dict[type[Any], type[Any]]] = {set: OrderedSet, frozenset: OrderedFrozenSet}
_ATOMS: Final = frozenset({str, int, float, bool, type(None)})


class Decoder:
    """Makes values from trees, which it leaves alone; no two values share a part.

    Raises PayloadNotReadable, PythonVersionMismatch or SignatureInvalid. A damaged tree may raise
    any other exception.
    """

    __slots__ = ("_ordered", "_signer")

    def __init__(self, signer: Signer | None, *, ordered: bool = False) -> None:
        self._signer = signer
        self._ordered = ordered

    def decode(self, tree: Any) -> Any:
        """The value of a tree."""
        kind = type_of(tree)
        if kind is dict:
            if "$" in tree:
                return self._tagged(tree)
            decode = self.decode
            return {
                key: item if type(item) in _ATOMS else decode(item) for key, item in tree.items()
            }
        if kind is list:
            return self.items(tree)
        return tree

    def items(self, trees: list[Any]) -> list[Any]:
        """The values of a list of trees."""
        decode = self.decode
        return [item if type(item) in _ATOMS else decode(item) for item in trees]

    def pairs(self, trees: list[Any]) -> dict[Any, Any]:
        """The dict of a list of pairs of trees."""
        return {self.decode(key): self.decode(item) for key, item in trees}

    def members(self, kind: type[Any], tagged: dict[str, Any]) -> Any:
        """A set of that kind."""
        if self._ordered:
            kind = _ORDERED[kind]
        return kind(self.items(tagged["v"]))

    def _tagged(self, tagged: dict[str, Any]) -> Any:
        tag = tagged["$"]
        decode = _DECODERS.get(tag)
        if decode is not None:
            return decode(self, tagged)
        scalar = scalars.scalar_decoder(tag)
        if scalar is not None:
            return scalar(tagged.get("v"))
        if tag in (PICKLE, DILL):
            return decode_opaque(tagged, self._signer)
        raise PayloadNotReadable(
            f"a stored value has the unknown tag {tag!r}: it was written by a newer version of "
            "mini-workflow, so upgrade this process"
        )


def _decode_default_dict(decoder: Decoder, tagged: dict[str, Any]) -> Any:
    name = tagged["factory"]
    factory = None if name is None else load_factory(name)
    return collections.defaultdict(factory, decoder.pairs(tagged["v"]))


def _decode_exception(decoder: Decoder, tagged: dict[str, Any]) -> BaseException:
    error = exceptions.rebuild_exception(tagged["class"], tagged["v"], decoder.decode)
    if "cause" in tagged:
        error.__cause__ = decoder.decode(tagged["cause"])
    return error


_DECODERS: Final[dict[str, Callable[[Decoder, dict[str, Any]], Any]]] = {
    "tuple": lambda decoder, tagged: tuple(decoder.items(tagged["v"])),
    "set": lambda decoder, tagged: decoder.members(set, tagged),
    "frozenset": lambda decoder, tagged: decoder.members(frozenset, tagged),
    "slice": lambda decoder, tagged: slice(*decoder.items(tagged["v"])),
    "dict": lambda decoder, tagged: decoder.pairs(tagged["v"]),
    "OrderedDict": lambda decoder, tagged: collections.OrderedDict(decoder.pairs(tagged["v"])),
    "Counter": lambda decoder, tagged: collections.Counter(decoder.pairs(tagged["v"])),
    "defaultdict": _decode_default_dict,
    "deque": lambda decoder, tagged: collections.deque(
        decoder.items(tagged["v"]), tagged["maxlen"]
    ),
    "datetime": lambda decoder, tagged: scalars.decode_moment(tagged, decoder.decode),
    "time": lambda decoder, tagged: scalars.decode_moment(tagged, decoder.decode),
    "enum": lambda decoder, tagged: objects.decode_enum(tagged, decoder.decode),
    "namedtuple": lambda decoder, tagged: objects.decode_named_tuple(tagged, decoder.decode),
    "dataclass": lambda decoder, tagged: objects.decode_dataclass(tagged, decoder.decode),
    "model": lambda decoder, tagged: objects.decode_model(tagged, decoder.decode),
    "exception": _decode_exception,
}

"""Trees of plain JSON with tags, as `encoding` makes them, back to values."""

from __future__ import annotations

import builtins
import collections
from collections.abc import Callable
from typing import Any, Final

from mini_workflow.codecs import exceptions, objects, scalars
from mini_workflow.codecs.names import load_class, load_factory, load_known_class, type_of
from mini_workflow.codecs.pickled import DILL, PICKLE, decode_opaque, show_opaque
from mini_workflow.codecs.signing import ValueSigner
from mini_workflow.errors import PayloadNotReadable
from mini_workflow.loop.ordered import OrderedFrozenSet, OrderedSet

_ORDERED: Final[dict[type[Any], type[Any]]] = {set: OrderedSet, frozenset: OrderedFrozenSet}
_ATOMS: Final = frozenset({str, int, float, bool, type(None)})


class Decoder:
    """Makes values from trees, which it leaves alone; no two values share a part.

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
        """Return one that makes what people can look at: it imports nothing and runs no code but
        Python's own. Values of the library's own kinds are themselves; what has a class is `Shown`.
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

    def members(self, kind: type[Any], tagged: dict[str, Any]) -> Any:
        """Return a set of that kind."""
        if self._ordered:
            kind = _ORDERED[kind]
        return kind(self.items(tagged["v"]))

    def load_opaque(self, tagged: dict[str, Any]) -> Any:
        """Return a pickled value. Raises PayloadNotReadable unless it may be loaded."""
        if not self._trust and self._signer is None:
            raise PayloadNotReadable(
                "a stored value is pickled, and loading it may run any code: say that you trust "
                "where it comes from (--trust, or trust=True)"
            )
        return decode_opaque(tagged, self._signer)


def _load_tagged(decoder: Decoder, tagged: dict[str, Any]) -> Any:
    tag = tagged["$"]
    decode = _DECODERS.get(tag)
    if decode is not None:
        return decode(decoder, tagged)
    scalar = scalars.scalar_decoder(tag)
    if scalar is not None:
        return scalar(tagged.get("v"))
    if tag in (PICKLE, DILL):
        return decoder.load_opaque(tagged)
    raise PayloadNotReadable(
        f"a stored value has the unknown tag {tag!r}: it was written by a newer version of "
        "mini-workflow, so upgrade this process"
    )


def _show_tagged(decoder: Decoder, tagged: dict[str, Any]) -> Any:
    tag = tagged["$"]
    if tag in (PICKLE, DILL):
        return Shown(show_opaque(tagged))
    show = _SHOWN.get(tag)
    if show is not None:
        return Shown(show(decoder, tagged))
    if tag not in _DECODERS and scalars.scalar_decoder(tag) is None:
        return Shown(f"<of an unknown kind: {tag!r}>")
    return _load_tagged(decoder, tagged)


def _decode_default_dict(decoder: Decoder, tagged: dict[str, Any]) -> Any:
    name = tagged["factory"]
    factory = None if name is None else load_factory(name, decoder.load_class)
    return collections.defaultdict(factory, decoder.pairs(tagged["v"]))


def _decode_exception(decoder: Decoder, tagged: dict[str, Any]) -> BaseException:
    error = exceptions.rebuild_exception(
        tagged["class"], tagged["v"], decoder.decode, decoder.load_class
    )
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
    "enum": lambda decoder, tagged: objects.decode_enum(tagged, decoder.decode, decoder.load_class),
    "namedtuple": lambda decoder, tagged: objects.decode_named_tuple(
        tagged, decoder.decode, decoder.load_class
    ),
    "dataclass": lambda decoder, tagged: objects.decode_dataclass(
        tagged, decoder.decode, decoder.load_class
    ),
    "model": lambda decoder, tagged: objects.decode_model(
        tagged, decoder.decode, decoder.load_class
    ),
    "exception": _decode_exception,
}


class Shown:
    """Stands for a value whose class is not loaded: `text` is what is stored of it, for people."""

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


def _short(name: object) -> str:
    return str(name).rpartition(":")[2]


def _call(decoder: Decoder, tagged: dict[str, Any]) -> str:
    """Return a value as the call that would make it."""
    fields = {**tagged["v"], **tagged.get("more", {}), **tagged.get("extra", {})}
    parts = (f"{name}={decoder.decode(item)!r}" for name, item in fields.items())
    return f"{_short(tagged['class'])}({', '.join(parts)})"


def _member(decoder: Decoder, tagged: dict[str, Any]) -> str:
    name = _short(tagged["class"])
    return f"{name}.{tagged['name']}" if "name" in tagged else f"{name}({tagged.get('v')!r})"


def _raised(decoder: Decoder, tagged: dict[str, Any]) -> str:
    args = (repr(decoder.decode(item)) for item in tagged["v"]["args"])
    return f"{_short(tagged['class'])}({', '.join(args)})"


def _default_dict(decoder: Decoder, tagged: dict[str, Any]) -> str:
    return f"defaultdict({_short(tagged['factory'])}, {decoder.pairs(tagged['v'])!r})"


_SHOWN: Final[dict[str, Callable[[Decoder, dict[str, Any]], str]]] = {
    "enum": _member,
    "namedtuple": _call,
    "dataclass": _call,
    "model": _call,
    "exception": _raised,
    "defaultdict": _default_dict,
}

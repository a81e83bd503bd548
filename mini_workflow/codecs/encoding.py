"""Values as trees of plain JSON, with tags where JSON has no word.

``{"$": "tuple", "v": [1, 2]}`` is the tuple ``(1, 2)``. A dict of the user's own that has the key
``$`` is written as a list of pairs under the tag ``dict``, so a tag is never mistaken.
"""

from __future__ import annotations

import collections
import datetime as dt
import json
from collections.abc import Callable
from math import isfinite
from typing import Any, Final

from mini_workflow.class_names import name_of
from mini_workflow.codecs import exceptions, objects, scalars
from mini_workflow.codecs.decoding import Decoder
from mini_workflow.codecs.diagnose import find_culprit, why_not
from mini_workflow.codecs.forbidden import Refused, instead_of, refusal
from mini_workflow.codecs.names import factory_name, is_local, type_of
from mini_workflow.codecs.pickled import encode_opaque
from mini_workflow.codecs.picklers import type_name
from mini_workflow.codecs.scalars import MAX_PLAIN_INT_BITS
from mini_workflow.codecs.signing import ValueSigner
from mini_workflow.loop.ordered import OrderedFrozenSet, OrderedSet

MAX_DEPTH: Final = 100
"""How deep containers may be nested in each other."""

Encode = Callable[["Encoder", Any], Any]
_ENCODERS_REMEMBERED: Final = 4096


class Unencodable(Exception):
    """A part cannot be encoded. `place` is where it is, innermost step first."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place: list[str] = []


class Encoder:
    """Makes the tree of one value. Raises Unencodable.

    With `check_text`, text that UTF-8 cannot say is found where it is. With `describe`, the tree is
    for comparison only: parts that cannot be encoded are told by their class, and `describe` says what
    stands for a value of a known kind that cannot be told by its parts.
    """

    __slots__ = ("_active", "_check_text", "_describe", "_signer")

    def __init__(
        self,
        signer: ValueSigner | None,
        *,
        check_text: bool = False,
        describe: Callable[[object], Any] | None = None,
    ) -> None:
        self._signer = signer
        self._describe = describe
        self._check_text = check_text
        self._active: set[int] = set()

    def encode(self, value: Any) -> Any:
        """Return the tree of a value."""
        kind = type_of(value)
        if kind is str:
            return self._checked(value) if self._check_text else value
        if kind is bool or value is None:
            return value
        if kind is int:
            if value.bit_length() <= MAX_PLAIN_INT_BITS:
                return value
            return scalars.encode_int(value)
        if kind is float:
            return value if isfinite(value) else scalars.encode_float(value)
        encode = _encoders.get(kind) or _remember(kind)
        identity = id(value)
        active = self._active
        if identity in active:
            raise Unencodable("contains itself; a value has to be a tree: store a name or an index")
        if len(active) >= MAX_DEPTH:
            raise Unencodable(
                f"is nested more than {MAX_DEPTH} levels deep; flatten it, for example into a list"
            )
        active.add(identity)
        try:
            return encode(self, value)
        finally:
            active.discard(identity)

    def decode(self, tree: Any) -> Any:
        """Return the value of a tree that this encoder made."""
        return Decoder(self._signer).decode(tree)

    def part(self, value: Any, step: str) -> Any:
        """Return the tree of a part, which is reached from the whole by `step`."""
        try:
            return self.encode(value)
        except Unencodable as stop:
            if self._describe is not None:
                return {"$": type_name(value)}
            stop.place.append(step)
            raise

    def items(self, values: Any) -> list[Any]:
        """Return the trees of the items of a sequence."""
        trees: list[Any] = []
        for item in values:
            try:
                trees.append(self.encode(item))
            except Unencodable as stop:
                stop.place.append(f"[{len(trees)}]")
                raise
        return trees

    def pairs(self, value: dict[Any, Any]) -> list[list[Any]]:
        """Return the trees of keys and values, in order."""
        return [
            [self.part(key, f".keys()[{index}]"), self.part(item, _step(key))]
            for index, (key, item) in enumerate(value.items())
        ]

    def opaque(self, value: object) -> Any:
        """Return the tree of a value that is of a known kind, but cannot be told by its parts."""
        return self.pickled(value) if self._describe is None else self._describe(value)

    def pickled(self, value: object) -> Any:
        """Return the tree of a value that JSON has no word for at all."""
        noun = refusal(type(value))
        if noun is not None:
            raise Unencodable(_refused(value, noun))
        try:
            return encode_opaque(value, self._signer)
        except Exception as error:
            step, culprit, cause = find_culprit(value, self._fault, error)
            if isinstance(cause, Refused) and refusal(type_of(culprit)) is not None:
                stop = Unencodable(_refused(culprit, cause.noun))
            else:
                problem, remedy = why_not(culprit, cause)
                stop = Unencodable(
                    f"cannot be stored: it is of type {type_name(culprit)} and {problem}; "
                    f"{remedy or 'return the data that is needed from it instead'}"
                )
            stop.place.append(step)
            raise stop from error

    def _fault(self, value: Any) -> Exception | None:
        try:
            encode_opaque(value, None)
        except Exception as error:
            return error
        return None

    def _checked(self, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Unencodable(
                f"is text with a lone surrogate ({value[error.start]!r} at {error.start}), which "
                "UTF-8 cannot say; encode it with errors='surrogatepass' and return the bytes"
            ) from None
        return value


def _refused(value: object, noun: str) -> str:
    instead = instead_of(type(value), "return the data that is needed from it instead")
    return f"is {noun} ({type_name(value)}), which must not be stored; {instead}"


def _step(key: Any) -> str:
    return f"[{json.dumps(key, ensure_ascii=False)}]" if isinstance(key, str) else f"[{key!r}]"


def _encode_list(encoder: Encoder, value: list[Any]) -> Any:
    return encoder.items(value)


def _encode_dict(encoder: Encoder, value: dict[Any, Any]) -> Any:
    tree: dict[str, Any] = {}
    for key, item in value.items():
        if type(key) is not str or key == "$":
            return {"$": "dict", "v": encoder.pairs(value)}
        try:
            tree[encoder.encode(key)] = encoder.encode(item)
        except Unencodable as stop:
            stop.place.append(_step(key))
            raise
    return tree


def _encode_tuple(encoder: Encoder, value: tuple[Any, ...]) -> Any:
    return {"$": "tuple", "v": encoder.items(value)}


def _encode_set(encoder: Encoder, value: set[Any] | frozenset[Any]) -> Any:
    trees = [encoder.part(item, f"{{{item!r}}}") for item in value]
    # In a fixed order, so that equal sets have equal trees in every process.
    trees.sort(key=lambda tree: json.dumps(tree, sort_keys=True))
    return {"$": "frozenset" if isinstance(value, frozenset) else "set", "v": trees}


def _encode_slice(encoder: Encoder, value: slice) -> Any:
    return {"$": "slice", "v": encoder.items((value.start, value.stop, value.step))}


def _encode_ordered_dict(encoder: Encoder, value: dict[Any, Any]) -> Any:
    if vars(value):
        return encoder.opaque(value)
    return {"$": type(value).__name__, "v": encoder.pairs(value)}


def _encode_default_dict(encoder: Encoder, value: collections.defaultdict[Any, Any]) -> Any:
    factory: Any = value.default_factory
    name = None if factory is None else factory_name(factory)
    if factory is not None and name is None:
        return encoder.opaque(value)
    return {"$": "defaultdict", "factory": name, "v": encoder.pairs(value)}


def _encode_deque(encoder: Encoder, value: collections.deque[Any]) -> Any:
    return {"$": "deque", "maxlen": value.maxlen, "v": encoder.items(value)}


def _encode_moment(encoder: Encoder, value: dt.datetime | dt.time) -> Any:
    return scalars.encode_moment(value, lambda zone: encoder.part(zone, ".tzinfo"))


def _encode_zone(encoder: Encoder, value: Any) -> Any:
    return scalars.encode_zone(value) or encoder.opaque(value)


def _encode_exception(encoder: Encoder, value: BaseException) -> Any:
    state = exceptions.exception_state(value, encoder.encode, encoder.decode)
    if state is None:
        tagged = encoder.opaque(value)
        try:
            again = encoder.decode(tagged)
        except Exception as error:
            raise Unencodable(f"is {_unloadable(value, error)}") from error
        if str(again) != str(value):
            raise Unencodable(f"is {_unloadable(value, 'its message changes')}")
        return tagged
    tagged: dict[str, Any] = {"$": "exception", "class": name_of(type(value)), "v": state}
    if value.__cause__ is not None:
        tagged["cause"] = encoder.part(value.__cause__, ".__cause__")
    return tagged


def _unloadable(value: BaseException, problem: object) -> str:
    return (
        f"an exception that cannot be rebuilt ({type_name(value)}: {problem}); make its arguments "
        "values that can be stored, or return its text instead"
    )


_encoders: dict[type[Any], Encode] = {
    list: _encode_list,
    dict: _encode_dict,
    tuple: _encode_tuple,
    set: _encode_set,
    frozenset: _encode_set,
    OrderedSet: _encode_set,
    OrderedFrozenSet: _encode_set,
    slice: _encode_slice,
    dt.datetime: _encode_moment,
    dt.time: _encode_moment,
    collections.deque: _encode_deque,
    collections.OrderedDict: _encode_ordered_dict,
    collections.Counter: _encode_ordered_dict,
    collections.defaultdict: _encode_default_dict,
}
_BUILTIN: Final = dict(_encoders)


def _remember(kind: type[Any]) -> Encode:
    encode = _decide(kind)
    if is_local(kind):
        return encode  # it would be kept alive
    if len(_encoders) >= _ENCODERS_REMEMBERED:
        _encoders.clear()
        _encoders.update(_BUILTIN)
    _encoders[kind] = encode
    return encode


def _decide(kind: type[Any]) -> Encode:
    scalar = scalars.scalar_encoder(kind)
    if scalar is not None:
        return lambda _encoder, value: scalar(value)
    if kind.__module__.partition(".")[0] == "zoneinfo" and kind.__name__ == "ZoneInfo":
        return _encode_zone
    by_parts = objects.object_encoder(kind)
    if by_parts is not None:
        return lambda encoder, value: by_parts(value, encoder.part)
    if issubclass(kind, BaseException):
        return _encode_exception
    return Encoder.pickled

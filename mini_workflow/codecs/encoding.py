"""Write values as trees of plain JSON, with tags for values that JSON does not have.

``{"$": "tuple", "v": [1, 2]}`` is the tuple ``(1, 2)``. A dict of the user that has the key ``$`` is written
as a list of pairs under the tag ``dict``, so that tags are unambiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, Final

from mini_workflow.codecs.containers import step_to
from mini_workflow.codecs.decoding import Decoder
from mini_workflow.codecs.forbidden import Refused, instead_of, refusal
from mini_workflow.codecs.kinds import Encode, Unencodable
from mini_workflow.codecs.names import is_local, type_of
from mini_workflow.codecs.pickled import encode_opaque
from mini_workflow.codecs.picklers import type_name
from mini_workflow.codecs.scalars import MAX_PLAIN_INT_BITS
from mini_workflow.codecs.signing import ValueSigner
from mini_workflow.codecs.table import KINDS, kind_of

MAX_DEPTH: Final = 100
"""The depth to which containers may be nested."""

_ENCODERS_REMEMBERED: Final = 4096

_encode_int: Final = KINDS["int"].encode
_encode_float: Final = KINDS["float"].encode


class Encoder:
    """Makes the tree of one value. Raises Unencodable.

    With `check_text`, the place of text that UTF-8 cannot express is found. With `describe`, the tree is for
    comparison only: parts that cannot be encoded are described by their class, and `describe` returns the
    tree of a value whose kind is known but whose parts do not suffice.
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
            return _encode_int(self, value)
        if kind is float:
            return value if isfinite(value) else _encode_float(self, value)
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
        """Return the tree of a part. `step` leads from the whole to the part, for the path in errors."""
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
            [self.part(key, f".keys()[{index}]"), self.part(item, step_to(key))]
            for index, (key, item) in enumerate(value.items())
        ]

    def opaque(self, value: object) -> Any:
        """Return the tree of a value whose kind is known, but whose parts do not suffice to rebuild it."""
        return self.pickled(value) if self._describe is None else self._describe(value)

    def pickled(self, value: object) -> Any:
        """Return the tree of a value without a kind of its own, pickled. Raises Unencodable."""
        noun = refusal(type(value))
        if noun is not None:
            raise Unencodable(_refused(value, noun))
        try:
            return encode_opaque(value, self._signer)
        except Exception as error:
            from mini_workflow.codecs.diagnose import find_culprit, why_not

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
                "UTF-8 cannot express; encode it with errors='surrogatepass' and return the bytes"
            ) from None
        return value


def _refused(value: object, noun: str) -> str:
    instead = instead_of(type(value), "return the data that is needed from it instead")
    return f"is {noun} ({type_name(value)}), which must not be stored; {instead}"


_OF_LISTS: Final[dict[type[Any], Encode]] = {list: Encoder.items}
"""Lists have no tag, since JSON has lists."""

_encoders: dict[type[Any], Encode] = dict(_OF_LISTS)


def _remember(kind: type[Any]) -> Encode:
    encode = kind_of(kind).encode
    if is_local(kind):
        return encode  # the cache would keep the class alive
    if len(_encoders) >= _ENCODERS_REMEMBERED:
        _encoders.clear()
        _encoders.update(_OF_LISTS)
    _encoders[kind] = encode
    return encode

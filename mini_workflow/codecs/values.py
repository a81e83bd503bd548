"""Write values as readable, typed JSON, and read them with their types.

Values that JSON has are written as such; all others are tagged (see `encoding`). Most values are plain,
and take a short way: one check, one call of the C encoder.
"""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from mini_workflow.codecs.decoding import Decoder
from mini_workflow.codecs.encoding import MAX_DEPTH, Encoder, Unencodable
from mini_workflow.codecs.names import type_of
from mini_workflow.codecs.scalars import MAX_PLAIN_INT_BITS
from mini_workflow.codecs.signing import ValueSigner
from mini_workflow.core.payload import EMPTY, Payload, text_at_hand
from mini_workflow.errors import PayloadNotReadable, SerializationError, ValueNotSerializable

_MAX_INT: Final = 1 << MAX_PLAIN_INT_BITS
_ATOMS: Final = frozenset({str, int, float, bool, type(None)})
_TRUE: Final = Payload(text="true")
_FALSE: Final = Payload(text="false")

_quote: Final[Callable[[str], str]] = json.encoder.encode_basestring
_DECODER: Final = json.JSONDecoder()
_scan: Final[Callable[[str, int], tuple[Any, int]]] = cast(Any, _DECODER).scan_once
_ENCODER: Final = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)


def _make_dumps() -> Callable[[Any], str]:
    # The C encoder is made once. JSONEncoder.encode would make one for every value.
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _ENCODER.encode
    encode = make(None, _ENCODER.default, _quote, None, ":", ",", False, False, False)
    return lambda tree: "".join(encode(tree, 0))


_dumps: Final = _make_dumps()


def _is_plain(value: Any, room: int) -> bool:
    """Return whether JSON can express this list or dict, apart from numbers.

    Numbers that JSON lacks (a NaN, an infinity, an integer of thousands of digits) make the C encoder raise
    ValueError. `room` is the number of further levels that are allowed.
    """
    if room <= 0:
        return False
    items: Iterable[Any] = value
    if type(value) is dict:
        for key in items:
            if type(key) is not str or key == "$":
                return False
        items = cast(dict[str, Any], value).values()
    for item in items:
        kind = type_of(item)
        if kind not in _ATOMS and (
            (kind is not dict and kind is not list) or not _is_plain(item, room - 1)
        ):
            return False
    return True


def encode_value(value: object, path: str = "value", signer: ValueSigner | None = None) -> Payload:
    """Encode a value as it is now. A later change of the value has no effect.

    `path` names the root in errors. With a `signer`, parts that have to be pickled are signed. Raises
    ValueNotSerializable, whose `path` is that of the part that cannot be encoded.
    """
    kind = type(value)
    if kind is str:
        text = _quote(value)  # pyright: ignore[reportArgumentType]
        if text.isascii():
            return Payload(text)
    elif value is None:
        return EMPTY
    elif kind is bool:
        return _TRUE if value else _FALSE
    elif kind is int and -_MAX_INT < value < _MAX_INT:  # pyright: ignore[reportOperatorIssue]
        return Payload(repr(value))
    try:
        if (kind is dict or kind is list) and _is_plain(value, MAX_DEPTH):
            try:
                text = _dumps(value)
            except ValueError:
                text = _dumps(Encoder(signer).encode(value))
        else:
            text = _dumps(Encoder(signer).encode(value))
        if not text.isascii():
            text.encode()
        return Payload(text)
    except Unencodable as stop:
        raise _not_serializable(path, stop) from stop.__cause__
    except UnicodeEncodeError:
        pass
    except RecursionError as error:
        raise ValueNotSerializable(
            f"{path} cannot be encoded: it is nested too deeply for the stack that is left; "
            "flatten it, or encode it from a shallower call",
            path=path,
        ) from error
    except Exception as error:
        # Another thread changes the value, or code of the value fails.
        raise ValueNotSerializable(
            f"{path} cannot be encoded ({type(error).__name__}: {error}); pass a copy that nothing "
            "else changes",
            path=path,
        ) from error
    try:
        Encoder(signer, check_text=True).encode(value)
    except Unencodable as stop:
        raise _not_serializable(path, stop) from None
    raise ValueNotSerializable(
        f"{path} contains text that UTF-8 cannot express: pass it as bytes", path=path
    )


def _not_serializable(root: str, stop: Unencodable) -> ValueNotSerializable:
    path = root + "".join(reversed(stop.place))
    return ValueNotSerializable(f"{path} {stop.problem}", path=path)


def decode_value(
    payload: Payload,
    signer: ValueSigner | None = None,
    *,
    ordered: bool = False,
    trust: bool = True,
) -> Any:
    """Return the value of a payload, with its types. Every call makes a new value.

    With a `signer`, pickled parts that it did not sign are refused before they are read. With `ordered`,
    sets keep the stored order. Without `trust` no module is imported, and only signed parts are unpickled.
    Raises PayloadNotReadable, PythonVersionMismatch or SignatureInvalid.
    """
    # The text is used if the payload has it, otherwise the tree.
    text = text_at_hand(payload)
    if text is not None and '"$"' not in text:
        value: Any
        try:
            value, end = _scan(text, 0)
        except (StopIteration, ValueError, RecursionError):
            pass  # read again below, for the error message
        else:
            if end == len(text):
                return value
    return _decoded(payload, lambda: Decoder(signer, ordered=ordered, trust=trust))


def show_value(payload: Payload) -> Any:
    """Return the value for people to read. Objects are shown by the name of their class and their fields.

    Imports nothing and runs only code of Python. Raises PayloadNotReadable.
    """
    return _decoded(payload, Decoder.for_people)


def _decoded(payload: Payload, make: Callable[[], Decoder]) -> Any:
    text = text_at_hand(payload)
    try:
        if text is None:
            return make().decode(payload.tree)
        tree, end = _DECODER.raw_decode(text)
        if end != len(text):
            raise PayloadNotReadable("a stored value has something after its end")
        if '"$"' not in text:
            return tree
        return make().decode(tree)
    except SerializationError:
        raise
    except RecursionError as error:
        raise PayloadNotReadable(
            "a stored value is nested too deeply for the stack that is left"
        ) from error
    except Exception as error:
        raise PayloadNotReadable(
            f"a stored value is damaged: {type(error).__name__}: {error}"
        ) from error

"""Write values without parts that JSON does not have: numbers, bytes, times, paths.

Types of modules that are expensive to import are known by name, and imported when a value is decoded.
"""

from __future__ import annotations

import base64
import datetime as dt
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.codecs.kinds import Kind, Tagged
from mini_workflow.codecs.names import type_of

if TYPE_CHECKING:
    from mini_workflow.codecs.decoding import Decoder
    from mini_workflow.codecs.encoding import Encoder

MAX_EXPONENT: Final = 10_000
"""The largest exponent of a stored fraction, up or down, since each adds a digit to a whole number. The
library itself writes fractions without exponents."""

MAX_DIGITS: Final = 200_000
"""Characters that a stored fraction may have. Longer ones take seconds to read, since decimal conversion is
quadratic."""

MAX_SCALAR: Final = 4_300
"""Characters that a stored float, or the exponent of a decimal, may have."""

MAX_PLAIN_INT_BITS: Final = 2048
"""Integers with more bits are written in hexadecimal, since Python limits the decimal conversion."""


def _encode_bytes(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode("ascii")


def _decode_bytes(plain: str) -> bytes:
    return base64.b64decode(plain, validate=True)


def _encode_complex(value: complex) -> list[str]:
    return [repr(value.real), repr(value.imag)]


def _decode_complex(plain: list[str]) -> complex:
    return complex(_decode_float(plain[0]), _decode_float(plain[1]))


def _encode_timedelta(value: dt.timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _timezone_arguments(zone: dt.timezone) -> tuple[Any, ...]:
    reduced: Any = zone.__reduce__()
    return reduced[1]


def _encode_timezone(value: dt.timezone) -> list[Any]:
    offset, *name = _timezone_arguments(value)
    return [_encode_timedelta(offset), *name]


def _decode_timezone(plain: list[Any]) -> dt.timezone:
    offset, *name = plain
    zone = dt.timezone(_decode_timedelta(offset), *name)
    return dt.UTC if not name and zone == dt.UTC else zone


def _encode_range(value: range) -> list[int]:
    return [value.start, value.stop, value.step]


def _lazy(module: str, name: str) -> Callable[[Any], Any]:
    def decode(plain: Any) -> Any:
        return getattr(importlib.import_module(module), name)(plain)

    return decode


def _decode_int(plain: str) -> int:
    return int(_text(plain, None), 16)  # hexadecimal: linear in its length


def _decode_float(plain: str) -> float:
    return float(_text(plain, MAX_SCALAR))


def _decode_fraction(plain: str) -> Any:
    _, mark, exponent = _text(plain, MAX_DIGITS).lower().partition("e")
    if mark and (len(exponent) > 9 or abs(int(exponent)) > MAX_EXPONENT):
        raise ValueError(f"a fraction with the exponent {exponent[:20]} is refused")
    return _lazy("fractions", "Fraction")(plain)


def _decode_timedelta(plain: list[int]) -> dt.timedelta:
    if len(plain) > 3 or any(type(part) is not int for part in plain):
        raise ValueError("a timedelta is days, seconds and microseconds, as whole numbers")
    return dt.timedelta(*plain)


_zone: Final = _lazy("zoneinfo", "ZoneInfo")


def _text(plain: object, longest: int | None) -> str:
    """Return the text of a scalar. Raises ValueError if it is no text, or longer than `longest`."""
    if not isinstance(plain, str):
        raise ValueError(f"a text is expected, and there is a {type(plain).__name__}")
    if longest is not None and len(plain) > longest:
        raise ValueError(
            f"a number of {len(plain):,} characters is refused: {longest:,} are the most"
        )
    return plain


def _encode_moment(encoder: Encoder, value: dt.datetime | dt.time) -> Tagged:
    """Return the tree of a datetime or a time, with its zone."""
    zone = value.tzinfo
    tagged: Tagged = {"$": type(value).__name__}
    if zone is dt.UTC or (type(zone) is dt.timezone and len(_timezone_arguments(zone)) == 1):
        tagged["v"] = value.isoformat()
    else:
        tagged["v"] = value.replace(tzinfo=None).isoformat()
        if zone is not None:
            tagged["zone"] = encoder.part(zone, ".tzinfo")
    if value.fold:
        tagged["fold"] = 1
    return tagged


def _decode_moment(decoder: Decoder, tagged: Tagged) -> dt.datetime | dt.time:
    kind = dt.datetime if tagged["$"] == "datetime" else dt.time
    value = kind.fromisoformat(tagged["v"])
    if "zone" in tagged:
        value = value.replace(tzinfo=decoder.decode(tagged["zone"]))
    return value.replace(fold=1) if tagged.get("fold") else value


def _encode_zone(encoder: Encoder, value: Any) -> Any:
    # A zone that was made from a file has no name.
    return encoder.opaque(value) if value.key is None else {"$": "ZoneInfo", "v": value.key}


def _scalar(
    tag: str,
    type_: type[Any] | str,
    to_plain: Callable[[Any], Any],
    from_plain: Callable[[Any], Any],
) -> dict[str, Kind]:
    """Return a kind whose values are converted to one value that JSON has."""

    def encode(encoder: Encoder, value: Any) -> Tagged:
        return {"$": tag, "v": to_plain(value)}

    def decode(decoder: Decoder, tagged: Tagged) -> Any:
        return from_plain(tagged.get("v"))

    return {tag: Kind((type_,), encode, decode)}


def _lone(tag: str, value: Any) -> dict[str, Kind]:
    """Return a kind with a single value."""

    def encode(encoder: Encoder, value: Any) -> Tagged:
        return {"$": tag}

    def decode(decoder: Decoder, tagged: Tagged) -> Any:
        return value

    return {tag: Kind((type_of(value),), encode, decode)}


SCALARS: Final[dict[str, Kind]] = {
    **_scalar("int", int, hex, _decode_int),
    **_scalar("float", float, repr, _decode_float),
    **_scalar("bytes", bytes, _encode_bytes, _decode_bytes),
    **_scalar("bytearray", bytearray, _encode_bytes, lambda plain: bytearray(_decode_bytes(plain))),
    **_scalar("complex", complex, _encode_complex, _decode_complex),
    **_scalar("range", range, _encode_range, lambda plain: range(*plain)),
    **_scalar("date", dt.date, dt.date.isoformat, dt.date.fromisoformat),
    **_scalar("timedelta", dt.timedelta, _encode_timedelta, _decode_timedelta),
    **_scalar("timezone", dt.timezone, _encode_timezone, _decode_timezone),
    **_scalar("Decimal", "decimal.Decimal", str, _lazy("decimal", "Decimal")),
    **_scalar("Fraction", "fractions.Fraction", str, _decode_fraction),
    **_scalar("UUID", "uuid.UUID", str, _lazy("uuid", "UUID")),
    **_scalar("PosixPath", "pathlib.PosixPath", str, _lazy("pathlib", "PosixPath")),
    **_scalar("WindowsPath", "pathlib.WindowsPath", str, _lazy("pathlib", "WindowsPath")),
    **_scalar("PurePosixPath", "pathlib.PurePosixPath", str, _lazy("pathlib", "PurePosixPath")),
    **_scalar(
        "PureWindowsPath", "pathlib.PureWindowsPath", str, _lazy("pathlib", "PureWindowsPath")
    ),
    **_lone("Ellipsis", ...),
    **_lone("NotImplemented", NotImplemented),
    "ZoneInfo": Kind(
        ("zoneinfo.ZoneInfo",), _encode_zone, lambda _decoder, tagged: _zone(tagged["v"])
    ),
    "datetime": Kind((dt.datetime,), _encode_moment, _decode_moment),
    "time": Kind((dt.time,), _encode_moment, _decode_moment),
}
"""The kinds of scalars by tag. The tags `int` and `float` are only for numbers that JSON cannot express."""

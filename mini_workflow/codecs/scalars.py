"""Values without parts that JSON has no word for, each as a tag and plain JSON.

Types of modules that cost something to import are known by name and imported when one is decoded.
"""

from __future__ import annotations

import base64
import datetime as dt
import importlib
from collections.abc import Callable
from typing import Any, Final

MAX_EXPONENT: Final = 10_000
"""How large an exponent a stored fraction may have, up or down: each adds a digit to a whole number.
The library itself writes fractions without any."""

MAX_DIGITS: Final = 200_000
"""Characters that a stored fraction may have: longer ones take seconds to read, since decimal
conversion is quadratic."""

MAX_SCALAR: Final = 4_300
"""Characters that a stored float, or the exponent of a decimal, may have."""

MAX_PLAIN_INT_BITS: Final = 2048
"""Integers longer than this are written in hexadecimal; Python limits the decimal conversion."""


def encode_int(value: int) -> dict[str, Any]:
    """Return an integer that is too long for decimal notation."""
    return {"$": "int", "v": hex(value)}


def encode_float(value: float) -> dict[str, Any]:
    """Return a float that JSON cannot say: not a number, or an infinity."""
    return {"$": "float", "v": repr(value)}


def _encode_bytes(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode("ascii")


def _decode_bytes(plain: str) -> bytes:
    return base64.b64decode(plain, validate=True)


def _encode_complex(value: complex) -> list[str]:
    return [repr(value.real), repr(value.imag)]


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


def _text(plain: object, longest: int | None) -> str:
    """Return the text that must stand there, if it is not longer than that. Raises ValueError."""
    if not isinstance(plain, str):
        raise ValueError(f"a text is expected, and there is a {type(plain).__name__}")
    if longest is not None and len(plain) > longest:
        raise ValueError(
            f"a number of {len(plain):,} characters is refused: {longest:,} are the most"
        )
    return plain


_ENCODERS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "builtins.bytes": ("bytes", _encode_bytes),
    "builtins.bytearray": ("bytearray", _encode_bytes),
    "builtins.complex": ("complex", _encode_complex),
    "builtins.range": ("range", _encode_range),
    "datetime.date": ("date", dt.date.isoformat),
    "datetime.timedelta": ("timedelta", _encode_timedelta),
    "datetime.timezone": ("timezone", _encode_timezone),
    "decimal.Decimal": ("Decimal", str),
    "fractions.Fraction": ("Fraction", str),
    "uuid.UUID": ("UUID", str),
}

_DECODERS: Final[dict[str, Callable[[Any], Any]]] = {
    "int": _decode_int,
    "float": _decode_float,
    "bytes": _decode_bytes,
    "bytearray": lambda plain: bytearray(_decode_bytes(plain)),
    "complex": lambda plain: complex(_decode_float(plain[0]), _decode_float(plain[1])),
    "range": lambda plain: range(*plain),
    "date": dt.date.fromisoformat,
    "timedelta": _decode_timedelta,
    "timezone": _decode_timezone,
    "ZoneInfo": _lazy("zoneinfo", "ZoneInfo"),
    "Decimal": _lazy("decimal", "Decimal"),
    "Fraction": _decode_fraction,
    "UUID": _lazy("uuid", "UUID"),
    "PurePosixPath": _lazy("pathlib", "PurePosixPath"),
    "PureWindowsPath": _lazy("pathlib", "PureWindowsPath"),
    "PosixPath": _lazy("pathlib", "PosixPath"),
    "WindowsPath": _lazy("pathlib", "WindowsPath"),
    "Ellipsis": lambda _plain: ...,
    "NotImplemented": lambda _plain: NotImplemented,
}


def scalar_encoder(kind: type[Any]) -> Callable[[Any], dict[str, Any]] | None:
    """Return the function that encodes values of exactly this class, or None if it
    is not a scalar.
    """
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name in _ENCODERS:
        tag, to_plain = _ENCODERS[name]
        return lambda value: {"$": tag, "v": to_plain(value)}
    if kind.__module__.partition(".")[0] == "pathlib" and kind.__name__ in _DECODERS:
        return lambda value: {"$": kind.__name__, "v": str(value)}
    if kind is type(...):
        return lambda _value: {"$": "Ellipsis"}
    if kind is type(NotImplemented):
        return lambda _value: {"$": "NotImplemented"}
    return None


def scalar_decoder(tag: str) -> Callable[[Any], Any] | None:
    """Return the function that decodes what is under this tag, or None if it is not a scalar's."""
    return _DECODERS.get(tag)


def encode_moment(value: dt.datetime | dt.time, recurse: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a datetime or a time; its zone goes along to the type."""
    zone = value.tzinfo
    tagged: dict[str, Any] = {"$": type(value).__name__}
    if zone is dt.UTC or (type(zone) is dt.timezone and len(_timezone_arguments(zone)) == 1):
        tagged["v"] = value.isoformat()
    else:
        tagged["v"] = value.replace(tzinfo=None).isoformat()
        if zone is not None:
            tagged["zone"] = recurse(zone)
    if value.fold:
        tagged["fold"] = 1
    return tagged


def encode_zone(value: Any) -> dict[str, Any] | None:
    """Return a ZoneInfo, or None if it was made from a file and has no name."""
    return None if value.key is None else {"$": "ZoneInfo", "v": value.key}


def decode_moment(tagged: dict[str, Any], recurse: Callable[[Any], Any]) -> dt.datetime | dt.time:
    """Return what `encode_moment` encoded."""
    kind = dt.datetime if tagged["$"] == "datetime" else dt.time
    value = kind.fromisoformat(tagged["v"])
    if "zone" in tagged:
        value = value.replace(tzinfo=recurse(tagged["zone"]))
    return value.replace(fold=1) if tagged.get("fold") else value

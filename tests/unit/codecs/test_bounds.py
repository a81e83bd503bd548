"""A stored value of a few bytes cannot hold the process: what would take long is refused."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from mini_workflow.codecs.standard import StandardCodec
from mini_workflow.core.payload import Payload
from mini_workflow.errors import PayloadNotReadable

CODEC = StandardCodec()


@pytest.mark.parametrize("decode", [CODEC.decode, CODEC.show])
@pytest.mark.parametrize(
    "tree",
    [
        {"$": "Fraction", "v": "1e30000000"},
        {"$": "Fraction", "v": "1E-30000000"},
        {"$": "Fraction", "v": "1e" + "9" * 1_000_000},
        {"$": "Fraction", "v": "9" * 3_000_000},
        {"$": "float", "v": "9" * 1_000_000},
        {"$": "float", "v": ["nan"]},
        {"$": "complex", "v": ["9" * 1_000_000, "0"]},
        {"$": "int", "v": 5},
        {"$": "timedelta", "v": [1e300, 0, 0]},
        {"$": "timedelta", "v": [10**400, 0, 0]},
        {"$": "timedelta", "v": [0] * 7},
        {"$": "timezone", "v": [[10**400, 0, 0]]},
    ],
    ids=lambda tree: str(tree)[:40] if isinstance(tree, dict) else None,
)
def test_a_number_that_would_take_long_is_refused(decode: Any, tree: dict[str, Any]) -> None:
    with pytest.raises(PayloadNotReadable):
        decode(Payload(tree=tree))


@pytest.mark.parametrize("opening", ['{"$":"tuple","v":[', "[", '{"a":'])
def test_what_is_nested_without_end_is_refused(opening: str) -> None:
    with pytest.raises(PayloadNotReadable):
        CODEC.decode(Payload(text=opening * 200_000))


@pytest.mark.parametrize("digits", ["1" * 100_000, "[" + "1" * 100_000 + "]"])
def test_a_plain_number_that_is_too_long_is_refused(digits: str) -> None:
    with pytest.raises(PayloadNotReadable):
        CODEC.decode(Payload(text=digits))


@pytest.mark.parametrize(
    "value",
    [
        Fraction(1, 3),
        Fraction(10**3_000, 7),
        Decimal("1E+999999"),
        Decimal("-0.00"),
        1 << 100_000,
        -(1 << 5_000),
        float("inf"),
        complex(1.5, float("inf")),
        dt.timedelta.max,
        dt.timedelta.min,
        dt.timezone(dt.timedelta(hours=-3), "x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_library_writes_it_reads(value: Any) -> None:
    assert CODEC.decode(CODEC.encode(value, "value")) == value

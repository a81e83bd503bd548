"""Write arrays as literals of Postgres, since psycopg takes four times as long to send lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def texts(values: Iterable[str | None]) -> str:
    """Return the literal of a text[]."""
    return "{" + ",".join(map(_quoted, values)) + "}"


def numbers(values: Iterable[int | None]) -> str:
    """Return the literal of a bigint[]."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def flags(values: Iterable[bool]) -> str:
    """Return the literal of a boolean[]."""
    return "{" + ",".join(["t" if value else "f" for value in values]) + "}"


def read_numbers(literal: Any) -> list[int | None]:
    """Return the elements of a bigint[] that the driver has read; none for NULL."""
    return list(literal or ())


def _quoted(value: str | None) -> str:
    if value is None:
        return "NULL"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

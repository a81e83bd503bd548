"""Compute the W3C trace context of an execution, its runs and its attempts.

Each identifier is derived from facts of the history, so that every process computes the same one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Final, NamedTuple

HEADER: Final = "traceparent"
"""The name of the header with the trace context of the caller that started an execution or sent a message."""

_FORM: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
"""Source: W3C Trace Context, traceparent."""

_NONE: Final = re.compile("0+")


class TraceContext(NamedTuple):
    """A place in a trace: the trace id (32 hexadecimal digits), the span id (16), and the flags, of which the
    lowest says that the trace is recorded. An empty `span` means that the trace begins here.
    """

    trace: str
    span: str
    flags: int = 1

    def __str__(self) -> str:
        return f"00-{self.trace}-{self.span}-{self.flags:02x}"


def read_traceparent(text: str | None) -> TraceContext | None:
    """Return the trace context in a traceparent; None if the text is no traceparent."""
    found = _FORM.match(text or "")
    if found is None or _NONE.fullmatch(found[1]) or _NONE.fullmatch(found[2]):
        return None
    return TraceContext(found[1], found[2], int(found[3], 16))


def started_by(execution_id: str, headers: Mapping[str, str] | None) -> TraceContext:
    """Return the trace context of the caller that started an execution with these headers."""
    given = read_traceparent((headers or {}).get(HEADER))
    return given or TraceContext(sha256(execution_id.encode()).hexdigest()[:32], "")


def inside(execution_id: str, headers: Mapping[str, str] | None, what: str) -> TraceContext:
    """Return the trace context of a part of the execution. `what` differs for each part."""
    trace, span, flags = started_by(execution_id, headers)
    text = f"{execution_id}:{what}"
    own = sha256((f"{span}:{text}" if span else text).encode()).hexdigest()[:16]
    return TraceContext(trace, own, flags)


def traceparent(
    execution_id: str, seq: int, attempt: int, headers: Mapping[str, str] | None = None
) -> str:
    """Return the trace context of an attempt."""
    return str(inside(execution_id, headers, f"{seq}:{attempt}"))

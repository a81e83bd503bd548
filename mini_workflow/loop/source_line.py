"""Finds the user's own line: in the running stack, and where a suspended coroutine waits."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, Final

_LIBRARY: Final = str(Path(__file__).parents[1]) + os.sep
_STANDARD_LIBRARY: Final = str(Path(linecache.__file__).parent) + os.sep
_OUTERMOST: Final = frozenset(
    {(_LIBRARY + "loop/loop.py", "drain"), (_LIBRARY + "engine/engine_role.py", "_work")}
)
"""What runs the code of workflows, by file and function, on whatever thread."""


@lru_cache(1024)
def is_user_code(filename: str) -> bool:
    """Return whether a file is neither this library's nor the standard library's."""
    if filename.startswith(_STANDARD_LIBRARY):
        return "site-packages" in filename
    return not filename.startswith((_LIBRARY, "<frozen"))


def describe_frame(frame: FrameType) -> str:
    """Return a frame as ``file:line in function``."""
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"


def user_frame(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame of user code in a workflow's turn, from `frame` outwards, or None.

    This library and the standard library do not count; nor does what called the loop or the engine.
    """
    while frame is not None and not is_user_code(frame.f_code.co_filename):
        if (frame.f_code.co_filename, frame.f_code.co_name) in _OUTERMOST:
            return None
        frame = frame.f_back
    return frame


def user_line() -> str:
    """Return where the running workflow code is, as a clause to append to a
    message; may be empty.
    """
    frame = user_frame(sys._getframe(1))  # pyright: ignore[reportPrivateUsage] documented, for this
    return f" (at {describe_frame(frame)})" if frame is not None else ""


def line_of(clause: str) -> str:
    """Return the place that such a clause names, as ``file:line in function``; may be empty."""
    return clause.removeprefix(" (at ").removesuffix(")")


def waiting_line(coroutine: Any) -> str:
    """Return where a suspended coroutine waits in user code, as ``file:line in function``."""
    found = ""
    while coroutine is not None:
        # Only the frame of user code: to look at one makes an object that stays while the code waits.
        code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "ag_code", None)
        if code is not None and is_user_code(code.co_filename):
            frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
            found = found if frame is None else describe_frame(frame)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)
    return found


def predicate_text(predicate: Callable[[], bool]) -> str:
    """Return the text of a condition: its name, or what stands behind the ``lambda:``."""
    name = getattr(predicate, "__name__", "") or type(predicate).__name__
    code = getattr(predicate, "__code__", None)
    if name != "<lambda>" or code is None:
        return name
    places = [p for p in code.co_positions() if p[0] == p[1] and None not in p]
    lines = {place[0] for place in places}
    if len(lines) != 1:
        return ""
    (line,) = lines
    columns = [p[2:] for p in places if p[2] != p[3]]
    text = linecache.getline(code.co_filename, line or 0).encode()
    begin = min((low or 0 for low, _ in columns), default=0)
    end = max((high or 0 for _, high in columns), default=0)
    return text[begin:end].decode(errors="replace").strip()

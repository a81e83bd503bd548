"""Find the line of user code that runs now, or at which a suspended coroutine waits."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import CodeType, CoroutineType, FrameType
from typing import Any, Final

_LIBRARY: Final = str(Path(__file__).parents[1]) + os.sep
_STANDARD_LIBRARY: Final = str(Path(linecache.__file__).parent) + os.sep
_OUTERMOST: Final = frozenset(
    {(_LIBRARY + "loop/loop.py", "drain"), (_LIBRARY + "engine/engine_role.py", "_work")}
)
"""The functions that run the code of workflows, by file and name."""


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

    Frames of this library and of the standard library are passed over. The search ends at the loop and the
    engine, whose callers are no code of the workflow.
    """
    while frame is not None and not is_user_code(frame.f_code.co_filename):
        if (frame.f_code.co_filename, frame.f_code.co_name) in _OUTERMOST:
            return None
        frame = frame.f_back
    return frame


def user_line() -> str:
    """Return the running line of workflow code as a clause to append to a message; empty for none."""
    frame = user_frame(sys._getframe(1))  # pyright: ignore[reportPrivateUsage] documented, for this
    return f" (at {describe_frame(frame)})" if frame is not None else ""


def line_of(clause: str) -> str:
    """Return the place in a clause of `user_line`, as ``file:line in function``; empty for none."""
    return clause.removeprefix(" (at ").removesuffix(")")


def waiting_line(coroutine: Any) -> str:
    """Return the line of user code where a suspended coroutine waits, as ``file:line in function``; empty if
    there is none.
    """
    found = ""
    while coroutine is not None:
        # Only frames of user code are read, since reading one makes an object that stays in memory.
        if type(coroutine) is CoroutineType:
            code = coroutine.cr_code
            if is_user_code(code.co_filename) and (frame := coroutine.cr_frame) is not None:
                found = _described(code, frame)
            coroutine = coroutine.cr_await
            continue
        code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "ag_code", None)
        if code is not None and is_user_code(code.co_filename):
            frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
            found = found if frame is None else describe_frame(frame)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)
    return found


_KEPT: Final = 1024
_PLACES: Final[dict[tuple[str, CodeType, int], str]] = {}
"""Descriptions of frames by file, code and instruction. Equal code may be of two files."""


def _described(code: CodeType, frame: FrameType) -> str:
    """Return the same as `describe_frame`. Many executions wait at the same line."""
    key = code.co_filename, code, frame.f_lasti
    known = _PLACES.get(key)
    if known is None:
        if len(_PLACES) >= _KEPT:
            _PLACES.clear()
        known = _PLACES[key] = describe_frame(frame)
    return known


def predicate_text(predicate: Callable[[], bool]) -> str:
    """Return the text of a condition: its name, or the source behind the ``lambda:``."""
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

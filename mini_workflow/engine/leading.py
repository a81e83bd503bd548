"""Decide which thread may lead the engine, and hold back Ctrl-C while a thread does."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable
from threading import get_ident, main_thread
from types import FrameType
from typing import Any, Final

from mini_workflow.loop.running import running_loop
from mini_workflow.task import CURRENT

_C: Final = importlib.import_module("_signal")
_GET_HANDLER: Final[Callable[[int], Any]] = _C.getsignal
_SET_HANDLER: Final[Callable[[int, Any], Any]] = _C.signal
"""The functions of the C module: those of `signal` make enums of their arguments, which takes longer than the
rest."""

_SIGNALS: Final = sorted(
    int(number)
    for number in signal.valid_signals()
    if number not in {getattr(signal, "SIGKILL", None), getattr(signal, "SIGSTOP", None)}
)
_PLAIN: Final = frozenset({None, _C.SIG_DFL, _C.SIG_IGN, signal.default_int_handler})
"""The handlers of a signal that Python code does not handle, and Python's own for Ctrl-C: the very
objects that the C module has, since others that are equal would take longer to find."""
_ENGINE: Final = tuple(
    f"mini_workflow.{part}."
    for part in ("engine", "stores", "runners", "runtimes", "codecs", "core")
)
"""The beginnings of the names of modules whose calls may hold locks."""
NO_HOOKS: Final = (None, None)
"""The hooks that `sys.get_asyncgen_hooks` returns on a thread that runs no event loop."""


def runs_a_loop() -> bool:
    """Return whether an event loop runs on the calling thread, of asyncio or of another library: each
    sets the hooks of asynchronous generators.
    """
    return running_loop() is not None or sys.get_asyncgen_hooks() != NO_HOOKS


def is_main() -> bool:
    """Return whether the calling thread is the one on which signal handlers run."""
    return get_ident() == main_thread().ident


def may_lead(*, in_main: bool) -> bool:
    """Return whether the calling thread, which waits for an answer, may do the engine's work meanwhile.
    `in_main` is the answer of `is_main`.

    False on an event loop, since other coroutines wait for it, in a task, since its time would pass, and deep
    in a recursion, where workflow code would have less stack than elsewhere. In the main thread False if a
    signal has a handler other than Python's own for Ctrl-C: it may use the runtime, or raise.
    """
    if runs_a_loop() or CURRENT.get(None) is not None or _is_deep():
        return False
    if not in_main:
        return True
    try:
        return _PLAIN.issuperset(map(_GET_HANDLER, _SIGNALS))
    except TypeError:  # a handler that has no hash
        return False


def is_inside_a_call() -> bool:
    """Return whether the code that calls this module's user is a signal handler, or another callback, in the
    middle of a call of the library on the main thread. That call may hold locks, and goes on only once the
    handler has returned. The code of a task does not count: it is called between two steps of its runner.
    """
    if not is_main() or CURRENT.get(None) is not None:
        return False
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and _is_engine(frame):
        frame = frame.f_back
    while frame is not None and not _is_engine(frame):
        frame = frame.f_back
    return frame is not None


def _is_engine(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(_ENGINE)


def _is_deep() -> bool:
    try:
        sys._getframe(sys.getrecursionlimit() // 4)  # pyright: ignore[reportPrivateUsage]
    except ValueError:
        return False
    return True


class HeldInterrupt:
    """A block of the main thread that holds Ctrl-C back until its end.

    A second Ctrl-C within the block raises KeyboardInterrupt at once, if `insist` returns that it may.
    """

    def __init__(self, insist: Callable[[], bool]) -> None:
        self._insist = insist
        self._count = 0
        self._holds = False

    def __enter__(self) -> None:
        self._count = 0
        self._holds = _GET_HANDLER(signal.SIGINT) is signal.default_int_handler
        if self._holds:
            _SET_HANDLER(signal.SIGINT, self._hold)

    def __exit__(self, *_error: object) -> None:
        if self._holds:
            _SET_HANDLER(signal.SIGINT, signal.default_int_handler)
            if self._count:
                raise KeyboardInterrupt

    def _hold(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1 and self._insist():
            raise KeyboardInterrupt

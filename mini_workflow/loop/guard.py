"""Refuses, while workflow code runs, what replay cannot repeat: sockets, threads, processes, sleep.

Python announces such calls as audit events; a hook turns them into an error when they come from
a workflow. Older Pythons do not announce ``time.sleep`` (before 3.13) and the start of a thread
(before 3.12), and none announces a new event loop: there the announcement is added.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

_TASK: Final = "do it in a task: await ctx.task(...)"

ADVICE: Final[dict[str, tuple[str, str]]] = {
    "time.sleep": ("time.sleep()", "use await ctx.sleep(...)"),
    "asyncio.new_event_loop": ("starting another event loop", "await the coroutine"),
    "socket.__new__": ("opening a socket", _TASK),
    "socket.connect": ("connecting a socket", _TASK),
    "socket.getaddrinfo": ("a name lookup", _TASK),
    "socket.gethostbyname": ("a name lookup", _TASK),
    "subprocess.Popen": ("starting a process", _TASK),
    "os.system": ("os.system()", _TASK),
    "os.exec": ("os.exec()", _TASK),
    "os.fork": ("os.fork()", _TASK),
    "os.forkpty": ("os.forkpty()", _TASK),
    "os.spawn": ("os.spawn()", _TASK),
    "os.posix_spawn": ("os.posix_spawn()", _TASK),
    "_thread.start_new_thread": ("starting a thread", _TASK),
    "_thread.start_joinable_thread": ("starting a thread", _TASK),
}
"""Audit event -> what it is called in an error, and what to use instead."""


def install(refuse: Callable[[str, str], None]) -> None:
    """From now on call ``refuse(what, instead)`` at each such event; it raises or returns."""
    advice = ADVICE

    def hook(event: str, _arguments: tuple[Any, ...]) -> None:
        if event in advice:
            refuse(*advice[event])

    sys.addaudithook(hook)
    # A loop that is only refused its sockets is left half-made, and complains when it is collected.
    asyncio.new_event_loop = asyncio.events.new_event_loop = _announced(
        "asyncio.new_event_loop", asyncio.events.new_event_loop
    )
    if sys.version_info < (3, 13):
        time.sleep = _announced("time.sleep", time.sleep)
    if sys.version_info < (3, 12):
        # What threading.Thread calls; it has no public name.
        name = "_start_new_thread"
        setattr(threading, name, _announced("_thread.start_new_thread", getattr(threading, name)))


def _announced(event: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def announced(*args: Any) -> Any:
        sys.audit(event, *args)
        return function(*args)

    announced.__name__ = function.__name__
    announced.__qualname__ = function.__qualname__
    announced.__module__ = function.__module__
    announced.__doc__ = function.__doc__
    return announced

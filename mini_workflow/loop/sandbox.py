"""Refuse calls of workflow code that a replay cannot repeat: sockets, threads, processes, sleep.

There are two ways to such calls. The methods of a loop that a workflow cannot use are refused by name.
All others raise audit events of Python, and a hook turns an audit event from a workflow into an error.
Older Pythons raise none for ``time.sleep`` (before 3.13) and the start of a thread (before 3.12), and no
Python raises one for a new event loop, for work given to a thread that is there already, and for a process
that multiprocessing spawns. There this module adds the audit event.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import asyncio.mixins
import concurrent.futures
import importlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import wraps
from typing import Any, Final, NoReturn, Protocol, TypeVar


class Refuses(Protocol):
    """A loop that can refuse a call."""

    def refuse(self, what: str, instead: str) -> NoReturn:
        """Raise NotAllowedInWorkflow."""
        ...


L = TypeVar("L", bound=Refuses)

_TASK: Final = "do it in a task: await ctx.task(...)"
_CONNECTION: Final = "opening a connection"
_SERVER: Final = "opening a server"
_SOCKET: Final = "using a socket"
_PIPE: Final = "using a pipe"
_WATCHING: Final = "watching a file descriptor"
_PROCESS: Final = "starting a process"
_SIGNALS: Final = "handling signals of the operating system"
_THREAD: Final = "running code in a thread (asyncio.to_thread, run_in_executor)"

_REFUSED: Final[dict[str, str]] = {
    "run_in_executor": _THREAD,
    "set_default_executor": _THREAD,
    "shutdown_default_executor": _THREAD,
    "getaddrinfo": "a name lookup",
    "getnameinfo": "a name lookup",
    "create_connection": _CONNECTION,
    "create_unix_connection": _CONNECTION,
    "create_server": _SERVER,
    "create_unix_server": _SERVER,
    "create_datagram_endpoint": _SOCKET,
    "connect_accepted_socket": _SOCKET,
    "connect_read_pipe": _PIPE,
    "connect_write_pipe": _PIPE,
    "start_tls": _SOCKET,
    "sendfile": _SOCKET,
    "sock_recv": _SOCKET,
    "sock_recv_into": _SOCKET,
    "sock_recvfrom": _SOCKET,
    "sock_recvfrom_into": _SOCKET,
    "sock_sendto": _SOCKET,
    "sock_sendall": _SOCKET,
    "sock_connect": _SOCKET,
    "sock_accept": _SOCKET,
    "sock_sendfile": _SOCKET,
    "add_reader": _WATCHING,
    "remove_reader": _WATCHING,
    "add_writer": _WATCHING,
    "remove_writer": _WATCHING,
    "subprocess_exec": _PROCESS,
    "subprocess_shell": _PROCESS,
    "add_signal_handler": _SIGNALS,
    "remove_signal_handler": _SIGNALS,
}

_NEEDLESS: Final[dict[str, str]] = {
    "run_until_complete": "running a loop",
    "run_forever": "running a loop",
    "stop": "stopping the loop",
    "close": "closing the loop",
    "set_task_factory": "a task factory",
    "set_exception_handler": "an exception handler of the loop",
    "shutdown_asyncgens": "closing all asynchronous generators",
}
"""The methods whose work the engine does itself."""


def refuse_the_rest(loop: type[L]) -> type[L]:
    """Give a class of loops a refusing method for each one that a workflow cannot use."""
    for name, what in _REFUSED.items():
        setattr(loop, name, _refused(name, what, _TASK))
    for name, what in _NEEDLESS.items():
        setattr(loop, name, _refused(name, what, "the engine does that"))
    return loop


def _refused(name: str, what: str, instead: str) -> Callable[..., NoReturn]:
    def method(self: Refuses, *_args: Any, **_kwargs: Any) -> NoReturn:
        self.refuse(what, instead)

    method.__name__ = name
    return method


ADVICE: Final[dict[str, tuple[str, str]]] = {
    "time.sleep": ("time.sleep()", "use await ctx.sleep(...)"),
    "asyncio.new_event_loop": ("starting another event loop", "await the coroutine"),
    "socket.__new__": ("opening a socket", _TASK),
    "socket.connect": ("connecting a socket", _TASK),
    "socket.sendto": (_SOCKET, _TASK),
    "socket.sendmsg": (_SOCKET, _TASK),
    "socket.getaddrinfo": ("a name lookup", _TASK),
    "socket.gethostbyname": ("a name lookup", _TASK),
    "socket.gethostbyaddr": ("a name lookup", _TASK),
    "socket.getnameinfo": ("a name lookup", _TASK),
    # These use a connection that is open already, as a pool keeps it.
    "http.client.send": ("sending an HTTP request", _TASK),
    "smtplib.send": ("sending mail", _TASK),
    "imaplib.send": ("reading a mailbox", _TASK),
    "poplib.putline": ("reading a mailbox", _TASK),
    "ftplib.sendcmd": ("transferring a file", _TASK),
    "sqlite3.connect": ("opening a database", _TASK),
    "builtins.input": ("input()", "wait for a signal: await ctx.wait_for_signal(...)"),
    "subprocess.Popen": ("starting a process", _TASK),
    "os.system": ("os.system()", _TASK),
    "os.exec": ("os.exec()", _TASK),
    "os.fork": ("os.fork()", _TASK),
    "os.forkpty": ("os.forkpty()", _TASK),
    "os.spawn": ("os.spawn()", _TASK),
    "os.posix_spawn": ("os.posix_spawn()", _TASK),
    "_thread.start_new_thread": ("starting a thread", _TASK),
    "_thread.start_joinable_thread": ("starting a thread", _TASK),
    "concurrent.futures.Future": ("giving work to another thread, process or event loop", _TASK),
    "_posixsubprocess.fork_exec": (_PROCESS, _TASK),
}
"""For each audit event the words for it in an error, and the remedy."""


def install(
    refuse: Callable[[str, str], None], outside: Callable[[], AbstractContextManager[None]]
) -> None:
    """Call ``refuse(what, instead)`` at each such audit event from now on; it raises or returns.

    Log records are handled in ``outside()``, because a logging handler may connect or start a thread,
    which no replay has to repeat.
    """

    class Announced(str):
        """The name of an audit event. A dict that looks it up compares it, and the comparison refuses."""

        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, event: object) -> bool:
            if not str.__eq__(self, event):
                return False
            refuse(*ADVICE[str(self)])
            return True

    # The hook is called with every audit event in every thread, many times in each step. So it is a
    # function in C, which runs Python only for the events of ADVICE.
    hook: Any = {Announced(event): None for event in ADVICE}.get
    sys.addaudithook(hook)
    handle = logging.Logger.handle

    @wraps(handle)
    def handle_outside(self: logging.Logger, record: logging.LogRecord) -> None:
        with outside():
            handle(self, record)

    logging.Logger.handle = handle_outside
    # A loop whose sockets are refused would be left half-made, and warn when it is collected.
    asyncio.new_event_loop = asyncio.events.new_event_loop = _announced(
        "asyncio.new_event_loop", asyncio.events.new_event_loop
    )
    # Each executor makes one for the work that it is given, and so does asyncio for another loop.
    given: Any = concurrent.futures.Future
    given.__init__ = _announced("concurrent.futures.Future", given.__init__)
    # The base of locks, queues and the like, which has no public name.
    bound: Any = getattr(asyncio.mixins, "_LoopBoundMixin")  # noqa: B009
    bound._get_loop = _refusing_what_is_shared(bound._get_loop, refuse)
    with suppress(ImportError):  # Windows has no such module
        spawning = importlib.import_module("_posixsubprocess")
        name = "fork_exec"
        setattr(spawning, name, _announced("_posixsubprocess.fork_exec", getattr(spawning, name)))
    if sys.version_info < (3, 13):
        time.sleep = _announced("time.sleep", time.sleep)
    if sys.version_info < (3, 12):
        # threading.Thread calls this function, which has no public name.
        name = "_start_new_thread"
        setattr(threading, name, _announced("_thread.start_new_thread", getattr(threading, name)))


def _refusing_what_is_shared(
    get_loop: Callable[[Any], Any], refuse: Callable[[str, str], None]
) -> Callable[[Any], Any]:
    """Return the method by which a lock, a queue and the like find their loop. It refuses those for which
    code of another loop has waited.
    """

    @wraps(get_loop)
    def refusing(self: Any) -> Any:
        try:
            return get_loop(self)
        except RuntimeError:
            what = f"waiting for a {type(self).__name__} that other code waits for too"
            refuse(what, "make it in the workflow function")
            raise

    return refusing


def _announced(event: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def announced(*args: Any) -> Any:
        sys.audit(event, *args)
        return function(*args)

    announced.__name__ = function.__name__
    announced.__qualname__ = function.__qualname__
    announced.__module__ = function.__module__
    announced.__doc__ = function.__doc__
    return announced

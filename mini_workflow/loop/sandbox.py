"""The part of a loop's interface that a workflow cannot have: every method says what to use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

from mini_workflow.errors import MiniWorkflowError, NotAllowedInWorkflow
from mini_workflow.loop.numbered import NumberingLoop
from mini_workflow.loop.source_line import user_line

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
"""What the engine does itself."""


class RefusingLoop(NumberingLoop):
    """Refuses everything; subclasses define what is possible."""

    fault: MiniWorkflowError | None = None
    """Why the workflow cannot go on, or None."""

    dead = False
    """Whether the execution has been dropped from memory."""

    def refuse(self, what: str, instead: str) -> NoReturn:
        """Record that the workflow did what it must not, and raise the error at that place."""
        error = NotAllowedInWorkflow(
            f"{what} is not allowed in a workflow, because a replay cannot repeat it; {instead}"
            f"{user_line()}"
        )
        if not self.dead and self.fault is None:
            self.fault = error
        raise error


def _refused(name: str, what: str, instead: str) -> Callable[..., NoReturn]:
    def method(self: RefusingLoop, *_args: Any, **_kwargs: Any) -> NoReturn:
        self.refuse(what, instead)

    method.__name__ = name
    return method


for _name, _what in _REFUSED.items():
    setattr(RefusingLoop, _name, _refused(_name, _what, _TASK))
for _name, _what in _NEEDLESS.items():
    setattr(RefusingLoop, _name, _refused(_name, _what, "the engine does that"))

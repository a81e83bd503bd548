"""Run a worker and the page in a process that is started anew whenever the code changes."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.cli.commands.doctor import examine
from mini_workflow.cli.commands.run import prepare_logging, until_stopped
from mini_workflow.cli.failures import UNAVAILABLE, Failed
from mini_workflow.cli.output import note, say
from mini_workflow.cli.session import Session
from mini_workflow.engine.client import Client
from mini_workflow.engine.description import Description
from mini_workflow.engine.watchdog import DEFAULT_LIMIT
from mini_workflow.errors import (
    ExecutionPaused,
    MiniWorkflowError,
    StoreUnavailable,
    UnknownWorkflow,
    UsageError,
)
from mini_workflow.testing.replaying import replay
from mini_workflow.workflow import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

BLOCKED: Final = 100
"""The number of blocked executions that are tried with the code as it is now."""

MOST_OPENED: Final = 5
"""Pages of failed executions that are opened until the code changes: all of a fan-out may fail at once."""

GRACE: Final = 15.0
"""Seconds after which the process is killed if it has not ended: a little more than tasks get to end."""

EXTRA: Final = (
    "dev needs the packages of the pages, and watchfiles: run pip install 'mini-workflow[cli,ui]'"
)


def supervise(
    command: Sequence[str], variables: dict[str, str], listening: socket.socket, folder: Path
) -> None:
    """Run a command that serves the socket, and start it anew whenever a Python file in the folder changes.

    Returns after Ctrl-C or SIGTERM. The command gets one more argument, ``SOCKET,PIPE``, with the
    numbers of two open files. A command that ends by itself, for example because the code cannot be
    imported, is started again at the next change. `variables` are added to its environment.
    """
    changes: SimpleQueue[AbstractSet[str] | None] = SimpleQueue()

    def stop(_number: int, _frame: FrameType | None) -> None:
        changes.put(None)

    before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    ending = threading.Event()
    watching = threading.Thread(
        target=_watch, args=(folder, ending, changes), name="mini-workflow-watch", daemon=True
    )
    watching.start()
    try:
        child = _Child(command, variables, listening)
        try:
            while (changed := changes.get()) is not None:
                note(f"{', '.join(sorted(changed))} changed: the code is started anew")
                child.end()
                for name in changed:
                    _forget_compiled(folder / name)
                child = _Child(command, variables, listening)
        finally:
            child.end()
    finally:
        ending.set()
        watching.join()
        for number, handler in before.items():
            signal.signal(number, handler)


def _forget_compiled(source: Path) -> None:
    """Remove the compiled file of a module.

    Python recognizes a change by the second and the size of the source; a change that keeps both
    would go unnoticed.
    """
    if source.suffix == ".py":
        Path(cache_from_source(str(source))).unlink(missing_ok=True)


def _watch(
    folder: Path, ending: threading.Event, changes: SimpleQueue[AbstractSet[str] | None]
) -> None:
    from watchfiles import PythonFilter, watch

    found = watch(
        folder, watch_filter=PythonFilter(), stop_event=ending, rust_timeout=200, debounce=400
    )
    for batch in found:
        changes.put({os.path.relpath(path, folder) for _, path in batch})


class _Child:
    """The process that serves. It ends when its pipe is closed, also because its supervisor has died."""

    def __init__(
        self, command: Sequence[str], variables: dict[str, str], listening: socket.socket
    ) -> None:
        theirs, self._ours = os.pipe()
        handed = [listening.fileno(), theirs]
        try:
            self._process = subprocess.Popen(
                [*command, ",".join(map(str, handed))],
                pass_fds=handed,
                env={**os.environ, **variables},
                # Ctrl-C reaches the supervisor alone, which then ends this process.
                start_new_session=True,
            )
        finally:
            os.close(theirs)

    def end(self) -> None:
        """Ask the process to end, and kill it after `GRACE` seconds."""
        os.close(self._ours)
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(
    session: Session, modules: tuple[str, ...], handed: str, url: str, *, opens: bool = False
) -> None:
    """Run executions and serve the page, in the process that `supervise` starts anew after each change.

    Returns after Ctrl-C, or when the other end of the pipe is closed. `handed` has the numbers of
    the socket and the pipe; with `opens` a browser shows the executions that fail. Raises UsageError.
    """
    import uvicorn

    from mini_workflow.ui import app

    number, pipe = map(int, handed.split(","))
    listening = socket.socket(fileno=number)
    prepare_logging()
    logging.getLogger().handlers[0].addFilter(Addresses(url, open_page if opens else None))
    session.import_modules(*modules)
    known = REGISTRY.names()
    if not known:
        raise UsageError("no workflow is defined: name the modules that define workflows")
    blocked = _blocked(session)
    with until_stopped() as stop, session.backend.server({"default": 0}) as runtime:
        say(f"serving {session.backend.name}: {', '.join(known)}")
        for line in continue_blocked(runtime, blocked):
            say(line)
        sys.stdout.flush()
        site: Any = app(runtime, name=session.backend.place, doctor=lambda: examine(session))
        config = uvicorn.Config(site, log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        serving = threading.Thread(
            target=server.run, kwargs={"sockets": [listening]}, name="mini-workflow-page"
        )
        serving.start()

        def end() -> None:
            os.read(pipe, 1)
            stop.request()

        threading.Thread(target=end, name="mini-workflow-pipe", daemon=True).start()
        stop.wait()
        server.should_exit = True
        serving.join()


def _blocked(session: Session) -> list[Description]:
    """Return the executions that are blocked already; none if there is no store yet."""
    try:
        with session.backend.reader() as client:
            found: list[Description] = client.list_executions(status="blocked", limit=BLOCKED)
            return found
    except StoreUnavailable:
        return []


def continue_blocked(client: Client, blocked: Sequence[Description]) -> Iterator[str]:
    """Resume the executions that fit today's code, and leave alone those that a person has paused.

    Returns a line for each: why it was blocked, or why it still is.
    """
    for one in blocked:
        if one.blocked_kind == ExecutionPaused.__name__:
            continue
        execution = client.get_execution(one.id)
        try:
            if one.workflow not in REGISTRY.names():
                raise UnknownWorkflow(f"no module that was imported defines {one.workflow!r}")
            found = replay(execution.recording(), codec=client.codec, turn_timeout=DEFAULT_LIMIT)
            if found.fault is not None:
                raise found.fault
            if execution.describe().status == "blocked":
                execution.resume()
        except MiniWorkflowError as error:
            yield f"{one.id} ({one.workflow}) is still blocked: {error}"
        else:
            yield f"{one.id} ({one.workflow}) goes on. It was blocked: {one.blocked_reason}"


class Addresses(logging.Filter):
    """A filter that adds the page's address to log records of failed and blocked executions.

    `show` opens the page in a browser: once for each failure, and at most MOST_OPENED times.
    """

    def __init__(self, url: str, show: Callable[[str], object] | None = None) -> None:
        super().__init__()
        self._url = url
        self._shows = show
        self._opened = 0
        self._blocked: set[tuple[str, str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the address to a record of an execution that has failed or is blocked. Keep all records."""
        name = getattr(record, "execution_id", None)
        said = record.getMessage()
        has_failed = "] failed" in said
        if name and (has_failed or record.levelno >= logging.ERROR):
            address = f"{self._url}executions/{name}"
            record.msg, record.args = f"{said}  {address}", ()
            # A failure is logged once, but a block again at each resume that does not help.
            if has_failed or (name, said) not in self._blocked:
                self._blocked.add((name, said))
                self._show(address)
        return True

    def _show(self, address: str) -> None:
        if self._shows is not None and self._opened < MOST_OPENED:
            self._opened += 1
            self._shows(address)


def open_page(address: str) -> None:
    """Open a page in the user's browser, on a thread of its own; print the address if there is none."""

    def show() -> None:
        if not webbrowser.open(address):
            note(f"no browser can be started here: open {address}")

    threading.Thread(target=show, name="mini-workflow-browser", daemon=True).start()


def has_window() -> bool:
    """Return whether the output is a terminal, and a browser would open in a window of its own."""
    windows = sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return sys.stdout.isatty() and windows


def check_extra() -> None:
    """Raise Failed unless all packages are installed, and the system can hand a socket to a process."""
    if os.name != "posix":
        raise Failed(
            "dev needs a system that hands sockets to processes, such as Linux or macOS: use "
            "`mini-workflow worker` and `mini-workflow ui` here"
        )
    for name in ("jinja2", "starlette", "uvicorn", "watchfiles"):
        if find_spec(name) is None:
            raise Failed(f"{EXTRA} ({name} is missing)", UNAVAILABLE)

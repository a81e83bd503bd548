"""Control one worker process: start it, send to it, receive from it, and report how it ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Protocol, cast
from weakref import WeakSet

from mini_workflow.errors import UsageError
from mini_workflow.runners.processes import protocol as frames
from mini_workflow.runners.processes.child import serve
from mini_workflow.runners.processes.protocol import Frame, Kind
from mini_workflow.runners.processes.worker_config import Factory
from mini_workflow.threads import NoThread, has_begun, join_thread, start_thread
from mini_workflow.workflow import Workflow

START_TIMEOUT: Final = 60.0
"""Seconds that a worker has to become ready; then it is killed."""
EXIT_GRACE: Final = 2.0
"""Seconds that a worker has to end, after it was told to or has closed its end of the pipe."""
SMALL_FRAME: Final = 32 * 1024
"""Bytes that always fit into the buffer of a pipe whose other end waits for them."""

GUARD_HINT: Final = (
    "A worker imports the main script again: start the runtime of a script behind"
    " `if __name__ == '__main__':`. The worker's output on stderr says more"
)


class Sent(Protocol):
    """An attempt that notes whether it was sent."""

    sent: bool


class WorkerUnfit(Exception):
    """A worker ended before it was ready; the message says why."""


def check_main() -> None:
    """Raise UsageError where workers cannot import the main script, or would start workers for ever."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(f"worker processes cannot be started while one is starting. {GUARD_HINT}.")
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is not None and getattr(main, "__spec__", None) is None and not Path(path).exists():
        raise UsageError(
            f"a worker process imports the main script again, and {path} does not exist. Save the"
            " program in a file, or run its tasks on threads (workers=0)."
        )
    name = getattr(getattr(main, "__spec__", None), "name", "__main__.py" if path else "")
    if (not path or name.endswith(".__main__")) and any(
        isinstance(value, Workflow) and cast("Any", value).handler.__module__ == "__main__"
        for value in list(vars(main).values())
    ):
        how = f"python -m {name.removesuffix('.__main__')}" if path else "python -c, or a notebook"
        raise UsageError(
            f"a worker process cannot import the definitions of this program, because it runs as {how}."
            " Move its workflows, and all that their tasks use, to a module, or run its tasks on threads"
            " (workers=0)."
        )


class Worker:
    """A started process with two channels.

    One carries sync attempts and all outcomes: the worker reads it on its main thread, between two
    attempts. The other carries async attempts, cancellations and results of writes, which the worker
    reads at any time.
    """

    def __init__(self, number: int, factory: Factory) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=True)
        their_control, our_control = context.Pipe(duplex=False)
        self._work: Final[Connection] = ours
        self._control: Final[Connection] = our_control
        self._outbox: Final[SimpleQueue[tuple[Connection, bytes, Sent | None] | None]] = (
            SimpleQueue()
        )
        self._writer: threading.Thread | None = None
        # A channel must not be closed while another thread writes to it: the file descriptor
        # could belong to something else by then.
        self._lock: Final = threading.Lock()
        self._how: str | None = None
        self._number: Final = number
        self.process: Final = context.Process(
            target=serve, args=(theirs, their_control, factory), name=f"mini-workflow-{number}"
        )
        try:
            self.process.start()
        except BaseException:
            ours.close()
            our_control.close()
            raise
        finally:
            theirs.close()
            their_control.close()
        self.pid: Final = self.process.pid or 0
        _LIVE.add(self)

    def wait_until_ready(self) -> None:
        """Wait until the worker is ready. Raises WorkerUnfit when it ends before, or is not ready within
        START_TIMEOUT seconds.
        """
        try:
            if not self._work.poll(START_TIMEOUT):
                self.kill()
                raise WorkerUnfit(f"it was not ready within {START_TIMEOUT:g} s")
            frame = self.receive()
        except (EOFError, OSError):
            raise WorkerUnfit(f"{self.end()} before it was ready. {GUARD_HINT}") from None
        if frame.kind != Kind.READY:
            raise WorkerUnfit(f"its start failed with {frame.sealed.decode()}")

    def receive(self) -> Frame:
        """Return the next frame. Raises EOFError or OSError when the worker is gone."""
        return frames.read(self._work.recv_bytes())

    def send(self, data: bytes, attempt: Sent | None = None) -> None:
        """Send to the worker's main thread, which waits for it. Does not block, and does not raise."""
        if len(data) <= SMALL_FRAME:
            with self._lock:
                _write(self._work, data, attempt)
        else:
            self._post(self._work, data, attempt)

    def send_aside(self, data: bytes, attempt: Sent | None = None) -> None:
        """Send to the worker's loop, which may be busy. Does not block, and does not raise."""
        self._post(self._control, data, attempt)

    def kill(self) -> None:
        """Kill the process; harmless when it has ended."""
        with suppress(ValueError):  # it has ended and was closed
            self.process.kill()

    def end(self) -> str:
        """Wait EXIT_GRACE seconds for the end of the process, kill it if need be, and close the channels.
        Returns a clause about how it ended.
        """
        if self._how is not None:
            return self._how
        self.process.join(EXIT_GRACE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        self.process.close()
        with self._lock:
            self._outbox.put(None)
            writer = self._writer
            self._work.close()
        join_thread(writer)
        self._control.close()
        name = f"worker process {self.pid}"
        if code is not None and code < 0:
            self._how = f"{name} was ended by {_signal_name(-code)}"
        else:
            self._how = f"{name} exited with code {code}"
        return self._how

    def forget(self) -> None:
        """Close this process's copies of the channels, in a process forked from the engine's."""
        self._work.close()
        self._control.close()

    def _post(self, channel: Connection, data: bytes, attempt: Sent | None) -> None:
        with self._lock:
            if self._how is not None:
                return
            if not has_begun(self._writer):
                self._writer = threading.Thread(
                    target=self._write_all, name=f"mini-workflow-to-{self._number}", daemon=True
                )
                try:
                    start_thread(self._writer)
                except NoThread:
                    _write(channel, data, attempt)
                    return
            self._outbox.put((channel, data, attempt))

    def _write_all(self) -> None:
        while (entry := self._outbox.get()) is not None:
            _write(*entry)


def _write(channel: Connection, data: bytes, attempt: Sent | None) -> None:
    if attempt is not None:
        attempt.sent = True
    try:
        channel.send_bytes(data)
    except OSError:
        # The worker is gone; the thread that reads from it finds that out as well.
        if attempt is not None:
            attempt.sent = False


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"


_LIVE: Final[WeakSet[Worker]] = WeakSet()


def _forget_all() -> None:
    for worker in list(_LIVE):
        worker.forget()


# A process forked from the engine's would keep the channels open, and the workers would not see
# that the engine has died.
os.register_at_fork(after_in_child=_forget_all)

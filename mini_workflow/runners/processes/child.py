"""Run tasks in a worker process: sync ones one at a time on its main thread, async ones on a loop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextvars import Context
from itertools import groupby
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Final, NoReturn

from mini_workflow.attempts import CLOSING, Deadlines, broken, cancelled, failed
from mini_workflow.core.streams import StreamWrite
from mini_workflow.ports import TaskOutcome, TaskRequest
from mini_workflow.runners.attempts import was_stopped
from mini_workflow.runners.loop_monitor import LoopMonitor, task_name
from mini_workflow.runners.processes import protocol as frames
from mini_workflow.runners.processes.heartbeats import Heartbeats
from mini_workflow.runners.processes.protocol import Frame, Key, Kind
from mini_workflow.runners.processes.worker_config import Factory, Seal, WorkerConfig
from mini_workflow.stream_buffer import Result, StreamBuffer
from mini_workflow.task import CURRENT, CurrentTask

EARLY_CANCELLATIONS: Final = 1_000
"""The number of cancellations that are kept for attempts that have not arrived yet, since they come through
the other channel."""
ORPHANED: Final = 70
"""The exit code of a worker whose engine is gone."""


def serve(work: Connection, control: Connection, factory: Factory) -> None:
    """Run a worker: return when the engine says so, end the process when the engine is gone."""
    # Ctrl-C is for the engine, which ends its workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A process that a task forks must not keep the engine from seeing that this one has died.
    os.register_at_fork(after_in_child=lambda: _drop(work, control))
    try:
        config = factory()
    except Exception as error:
        work.send_bytes(frames.plain(Kind.UNFIT, f"{type(error).__name__}: {error}"))
        raise
    _Worker(work, control, config).run()


def _expire(item: Heartbeats | LoopMonitor) -> None:
    if isinstance(item, Heartbeats):
        item.flush()
    else:
        item.look()


def _drop(*connections: Connection) -> None:
    for connection in connections:
        connection.close()


def _orphaned() -> NoReturn:
    os._exit(ORPHANED)


class SentChunks:
    """A buffer that sends batches of chunks to the engine, and waits for their results. Another thread reads
    the results, and calls `stored`.
    """

    def __init__(self, send: Callable[[bytes], None], seal: Seal) -> None:
        self._send: Final = send
        self._seal: Final = seal
        self._number = 0
        self._answers: Final[SimpleQueue[tuple[int, list[Result]]]] = SimpleQueue()
        self.buffer: Final = StreamBuffer(self._append)

    def stored(self, number: int, results: list[Result]) -> None:
        """Take the results of the writes that were sent with that number."""
        self._answers.put((number, results))

    def _append(self, writes: Sequence[StreamWrite]) -> list[Result]:
        parts: dict[int, list[int]] = {}
        for _, group in groupby(range(len(writes)), lambda index: _key_of(writes[index])):
            self._number += 1
            indexes = parts[self._number] = list(group)
            part = [writes[index] for index in indexes]
            self._send(frames.chunks(self._number, part, self._seal))
        found: dict[int, Result] = {}
        while parts:
            number, results = self._answers.get()
            found.update(zip(parts.pop(number), results, strict=True))
        return [found[index] for index in range(len(writes))]


def _key_of(write: StreamWrite) -> Key:
    return (write.execution_id, write.source, write.attempt)


class _Worker:
    def __init__(self, work: Connection, control: Connection, config: WorkerConfig) -> None:
        self._work: Final = work
        self._control: Final = control
        self._config: Final = config
        self._sending: Final = threading.Lock()
        self._current: tuple[Key, CurrentTask] | None = None  # the sync attempt
        self._running: Final[dict[Key, tuple[asyncio.Task[None], CurrentTask]]] = {}
        self._early: Final[dict[Key, str]] = {}  # and the reasons
        self._later: Final = Deadlines(_expire, "mini-workflow-heartbeats")
        self._loop: Final = asyncio.new_event_loop()
        self._loop_thread: Final = threading.Thread(
            target=self._run_loop, name="mini-workflow-async", daemon=True
        )
        self._monitor: Final = LoopMonitor(self._later, lambda: bool(self._running), self._warn)
        self._leaving = False
        self._chunks: Final = SentChunks(self._send, config.seal)

    def run(self) -> None:
        self._loop_thread.start()
        self._send(frames.plain(Kind.READY))
        while True:
            try:
                frame = frames.read(self._work.recv_bytes())
            except (EOFError, OSError):
                _orphaned()
            if frame.kind == Kind.BYE:
                break
            self._send(frames.from_outcome(self._execute(frame), self._config.seal))
        self._leaving = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join()
        self._chunks.buffer.close(0)
        self._later.close()
        self._config.flush()

    def _send(self, data: bytes) -> None:
        try:
            with self._sending:
                self._work.send_bytes(data)
        except OSError:
            _orphaned()

    def _warn(self, text: str) -> None:
        self._send(frames.plain(Kind.WARNING, text))

    def _execute(self, frame: Frame) -> TaskOutcome:
        try:
            request = frames.to_request(frame, self._config.unseal)
        except Exception as error:
            return _refused(frame, error)
        current, heartbeats = self._begin(request)
        current.on_await = lambda: self._send(frames.awaits(frame.key, self._config.seal))
        self._current = (frame.key, current)
        if (reason := self._early.get(frame.key)) is not None:
            current.cancel(reason)
        token = CURRENT.set(current)
        try:
            return self._config.execute(request)
        except BaseException as error:
            return broken(request, error, current.details)
        finally:
            CURRENT.reset(token)
            self._current = None
            heartbeats.stop()

    def _begin(self, request: TaskRequest) -> tuple[CurrentTask, Heartbeats]:
        def send(details: str | None) -> None:
            self._send(frames.heartbeat(request.key, details, self._config.seal))

        heartbeats = Heartbeats(request, send, self._later)
        current = CurrentTask(request, heartbeats)
        current.sink = self._chunks.buffer
        return current, heartbeats

    def _run_loop(self) -> None:
        loop = self._loop
        loop.add_reader(self._control.fileno(), self._on_control)
        while not self._leaving:
            try:
                loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                # asyncio lets these two through when code that a task has started raises them. The
                # other tasks go on.
                continue
        loop.set_exception_handler(lambda _loop, _context: None)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    def _on_control(self) -> None:
        try:
            frame = frames.read(self._control.recv_bytes())
        except (EOFError, OSError):
            _orphaned()
        if frame.kind == Kind.RUN_ASYNC:
            try:
                request = frames.to_request(frame, self._config.unseal)
            except Exception as error:
                self._send(frames.from_outcome(_refused(frame, error), self._config.seal))
                return
            if request.key in self._early:
                self._send(frames.from_outcome(cancelled(request), self._config.seal))
                return
            current, heartbeats = self._begin(request)
            # A context of its own, so that tasks do not see each other's variables.
            work = self._execute_async(request, current, heartbeats)
            name = task_name(current)
            task = asyncio.Task(work, loop=self._loop, name=name, context=Context())
            self._running[request.key] = (task, current)
            self._monitor.watch(self._loop, self._loop_thread.ident or 0)
        elif frame.kind == Kind.STORED:
            self._chunks.stored(*frames.to_results(frame, self._config.unseal))
        elif frame.kind == Kind.CANCEL:
            reason = frames.to_text(frame, self._config.unseal)
            if (running := self._running.get(frame.key)) is not None:
                task, current = running
                current.tell(reason)
                if reason != CLOSING:
                    task.cancel()
            else:
                # Kept before the look at the sync attempt, which looks here once it has begun.
                self._early[frame.key] = reason
                if (sync := self._current) is not None and sync[0] == frame.key:
                    sync[1].tell(reason)
                    self._early.pop(frame.key, None)
                if len(self._early) > EARLY_CANCELLATIONS:
                    del self._early[next(iter(self._early))]

    async def _execute_async(
        self, request: TaskRequest, current: CurrentTask, heartbeats: Heartbeats
    ) -> None:
        CURRENT.set(current)
        try:
            outcome = await self._config.execute_async(request)
        except asyncio.CancelledError:
            outcome = was_stopped(current)
        except BaseException as error:
            outcome = broken(request, error, current.details)
        heartbeats.stop()
        self._running.pop(request.key, None)
        self._send(frames.from_outcome(outcome, self._config.seal))


def _refused(frame: Frame, error: Exception) -> TaskOutcome:
    return failed(TaskRequest(*frame.key, name="", payload=b""), frames.unreadable(error))

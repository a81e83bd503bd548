"""Write the chunks that tasks write to streams to the store, many at a time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Literal, Protocol

from mini_workflow.core.streams import StreamWrite
from mini_workflow.errors import (
    ExecutionNotFound,
    MiniWorkflowError,
    RuntimeClosed,
    StoreError,
    StoreRefused,
    StreamFull,
    UsageError,
)
from mini_workflow.heartbeat_buffer import HeartbeatBuffer
from mini_workflow.loop.running import running_loop
from mini_workflow.ports import Answer
from mini_workflow.ports.streams import MAXIMUM_CHUNKS, MAXIMUM_STREAM_BYTES, MAXIMUM_STREAMS
from mini_workflow.threads import BufferThread

log = logging.getLogger("mini_workflow.engine")

Key = tuple[str, int, int]
"""An attempt: execution id, number of the task, attempt."""

Result = Answer | Literal["refused"]
"""The result of a write: "refused" if the store cannot keep such a body."""

Append = Callable[[Sequence[StreamWrite]], Sequence[Result]]
"""Stores writes: see `StreamStore.append`."""

PAUSE: Final = 0.05
"""Seconds between two batches, unless a writer waits for one. Our own bound: at most twenty commits a second,
for any number of chunks."""

AT_ONCE: Final = 500
"""The most chunks of one batch. Our own bound."""

ROOM: Final = 4 * 1024 * 1024
"""Bytes that may wait before a writer has to wait too. Our own bound."""

FIRST_RETRY: Final = 0.1
LAST_RETRY: Final = 2.0
"""Seconds before a batch is tried again after the store has failed: twice as many each time, from the first
to the last. Our own bounds."""

CLOSING_WITHIN: Final = 5.0
"""Seconds that a buffer has to write the rest when it is closed. Our own bound."""

REFUSALS: Final = (StoreRefused, UnicodeEncodeError, OverflowError)
"""The errors that a store raises because of a value, not because of its own condition."""


class StreamSink(Protocol):
    """The target of the writes and heartbeats of attempts. All methods may be called on any thread."""

    def write(self, write: StreamWrite, *, may_wait: bool) -> None:
        """Take a write. With `may_wait`, wait while too many bytes are waiting already.

        Raises the error of an earlier write of the same attempt that was not stored: StreamFull,
        ExecutionNotFound or StoreError.
        """
        ...

    def flush(self, key: Key) -> None:
        """Wait until the writes of an attempt so far are durable. Raises like `write`."""
        ...

    async def drain(self, key: Key) -> None:
        """Wait like `flush`, without blocking the running event loop."""
        ...

    def forget(self, key: Key) -> None:
        """Forget an attempt that has ended and writes no more."""
        ...

    def heard(self, key: Key, details: str | None) -> None:
        """Take a heartbeat of an attempt, with its last details as JSON text. Does not wait."""
        ...

    def over(self, key: Key) -> None:
        """Forget the heartbeats of an attempt that has ended. Does not wait."""
        ...


class StreamBuffer:
    """A StreamSink with one thread, which is started with the first write and stores the waiting writes of
    all attempts together. If the store fails, it tries again until the buffer is closed, or `tries` times
    in all.

    `notify` is called after each batch with the ids of its executions. Heartbeats of attempts go to
    `heartbeats`; without it they are dropped. `pause` are the seconds between two batches.
    """

    def __init__(
        self,
        append: Append,
        notify: Callable[[set[str]], None] = lambda executions: None,
        *,
        pause: float = PAUSE,
        tries: int | None = None,
        heartbeats: HeartbeatBuffer | None = None,
    ) -> None:
        self._append: Final = append
        self._heartbeats: Final = heartbeats
        self._notify: Final = notify
        self._pause: Final = pause
        self._tries: Final = tries
        self._thread: Final = BufferThread("mini-workflow-streams", self._run)
        self._changed: Final = self._thread.changed
        self._waiting: deque[_Item] = deque()
        self._size = 0
        self._taken = 0  # the number of writes so far
        self._settled = 0  # the number of writes whose result is known
        self._urgent = 0  # a writer waits until so many are settled
        self._last: dict[Key, int] = {}  # the number of the last write of each attempt
        self._errors: dict[Key, Exception] = {}
        self._ended = False  # whether the thread has ended, so that nothing is stored any more
        self._callbacks: list[tuple[int, Callable[[], None]]] = []

    # For writers

    def write(self, write: StreamWrite, *, may_wait: bool) -> None:
        """See `StreamSink.write`. Raises RuntimeClosed if the buffer is closed."""
        key = _key(write)
        with self._changed:
            while may_wait and self._size > ROOM and not self._thread.closed:
                self._hurry(self._taken)
                self._changed.wait()
            self._check(key)
            self._put([_Item(write)])
            self._last[key] = self._taken

    def relay(self, writes: Sequence[StreamWrite], done: Callable[[list[Result]], None]) -> None:
        """Take writes from another buffer, and call `done` with their results when they are durable, on the
        thread of this buffer. Does not wait. `done` is not called if this buffer is closed before.
        """
        relay = _Relay(len(writes), done)
        with self._changed:
            if not self._thread.closed:
                self._put([_Item(write, relay) for write in writes])
                self._hurry(self._taken)

    def flush(self, key: Key) -> None:
        """See `StreamSink.flush`. Raises UsageError on the thread of an event loop."""
        if running_loop() is not None:
            raise UsageError(
                "flush() of a stream would block the event loop: write"
                " `await current_task().stream(...).drain()` instead"
            )
        with self._changed:
            last = self._last.get(key, 0)
            if last > self._settled:
                self._hurry(last)
                self._changed.wait_for(lambda: self._settled >= last or self._is_over())
            self._check(key, last)

    async def drain(self, key: Key) -> None:
        """See `StreamSink.drain`."""
        import asyncio

        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        def tell() -> None:
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(settle)

        with self._changed:
            last = self._last.get(key, 0)
            if last > self._settled and not self._is_over():
                self._callbacks.append((last, tell))
                self._hurry(last)
            else:
                done.set_result(None)
        await done
        with self._changed:
            self._check(key, last)

    def forget(self, key: Key) -> None:
        """See `StreamSink.forget`."""
        with self._changed:
            self._last.pop(key, None)
            self._errors.pop(key, None)

    def heard(self, key: Key, details: str | None) -> None:
        """See `StreamSink.heard`."""
        if self._heartbeats is not None:
            self._heartbeats.heard(key, details)

    def over(self, key: Key) -> None:
        """See `StreamSink.over`."""
        if self._heartbeats is not None:
            self._heartbeats.over(key)

    def close(self, timeout: float = CLOSING_WITHIN) -> None:
        """Store the rest, with one try, and end the thread. Wait at most `timeout` seconds for that. May be
        called again.
        """
        self._thread.close(timeout)
        if self._heartbeats is not None:
            self._heartbeats.close(timeout)

    # With the lock held

    def _put(self, items: Sequence[_Item]) -> None:
        self._waiting.extend(items)
        self._taken += len(items)
        self._size += sum(len(item.write.body) for item in items)
        self._thread.wake()

    def _hurry(self, until: int) -> None:
        self._urgent = max(self._urgent, until)
        self._changed.notify_all()

    def _is_over(self) -> bool:
        return self._ended or (self._thread.closed and not self._thread.has_begun)

    def _check(self, key: Key, last: int = 0) -> None:
        error = self._errors.pop(key, None)
        if error is not None:
            raise error  # only once, so that the task may handle the error and go on
        if self._settled < last or (self._thread.closed and not last):
            raise RuntimeClosed("the runtime was closed before a chunk of a stream was stored")

    def _take(self) -> list[_Item]:
        batch: list[_Item] = []
        while self._waiting and len(batch) < AT_ONCE:
            batch.append(self._waiting.popleft())
        return batch

    def _settle(self, batch: list[_Item], results: Sequence[Result | Exception]) -> None:
        for item, result in zip(batch, results, strict=True):
            error = result if isinstance(result, Exception) else _error(item.write, result)
            if error is not None and item.relay is None:
                self._errors.setdefault(_key(item.write), error)
        self._settled += len(batch)
        self._size -= sum(len(item.write.body) for item in batch)
        self._changed.notify_all()

    # On the thread

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._thread.closed)
                    batch = self._take()
                if not batch:
                    return
                self._do(batch)
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._thread.closed or self._urgent > self._settled, self._pause
                    )
        finally:
            with self._changed:
                self._thread.closed = self._ended = True
                callbacks, self._callbacks = self._callbacks, []
                self._changed.notify_all()
            for _, tell in callbacks:
                tell()

    def _do(self, batch: list[_Item]) -> None:
        writes = [item.write for item in batch]
        results = self._results(writes)
        with self._changed:
            self._settle(batch, results)
            done = [tell for number, tell in self._callbacks if number <= self._settled]
            self._callbacks = [entry for entry in self._callbacks if entry[0] > self._settled]
        for tell in done:
            tell()
        for item, result in zip(batch, results, strict=True):
            if item.relay is not None:
                item.relay.add("refused" if isinstance(result, Exception) else result)
        try:
            self._notify({write.execution_id for write in writes})
        except Exception:
            log.exception("the readers of streams could not be notified of new chunks")

    def _results(self, writes: list[StreamWrite]) -> Sequence[Result | Exception]:
        tried, pause = 0, FIRST_RETRY
        while True:
            tried += 1
            try:
                return self._append(writes)
            except REFUSALS as error:
                if len(writes) == 1:
                    log.error("the store refused a chunk of a stream: %s", error)
                    return ["refused"]
                # The store refuses one of the writes. Each is tried alone.
                return [result for write in writes for result in self._results([write])]
            except StoreError as error:
                problem: Exception = error
            except Exception as error:
                log.exception("chunks of streams could not be stored")
                return [error] * len(writes)
            with self._changed:
                if self._thread.closed or tried == self._tries:
                    return [problem] * len(writes)
                if tried == 1:
                    log.warning(
                        "the store failed, so chunks of streams wait to be stored: %s", problem
                    )
                self._changed.wait_for(lambda: self._thread.closed, pause)
            pause = min(LAST_RETRY, pause * 2)


class _Relay:
    """Collects the results of writes for another buffer."""

    __slots__ = ("_done", "_missing", "_results")

    def __init__(self, missing: int, done: Callable[[list[Result]], None]) -> None:
        self._missing = missing
        self._done = done
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        self._results.append(result)
        if len(self._results) == self._missing:
            self._done(self._results)


class _Item:
    """A waiting write, and the relay that gets its result, if it comes from another buffer."""

    __slots__ = ("relay", "write")

    def __init__(self, write: StreamWrite, relay: _Relay | None = None) -> None:
        self.write = write
        self.relay = relay


def _key(write: StreamWrite) -> Key:
    return (write.execution_id, write.source, write.attempt)


def _error(write: StreamWrite, result: Result) -> MiniWorkflowError | None:
    """Return the error for the writer, or None if the write was stored."""
    name, stream = write.execution_id, write.stream
    match result:
        case "full":
            return StreamFull(
                f"stream {stream!r} of execution {name!r} has no room for another chunk: a stream has "
                f"at most {MAXIMUM_CHUNKS:,} chunks and {MAXIMUM_STREAM_BYTES:,} bytes, and an "
                f"execution {MAXIMUM_STREAMS} streams; write fewer and larger chunks"
            )
        case "missing":
            return ExecutionNotFound(
                f"execution {name!r} does not exist any more: a chunk of its stream {stream!r} was not "
                "stored",
                execution_id=name,
            )
        case "refused":
            return StoreRefused(f"the store cannot keep a chunk of stream {stream!r} of {name!r}")
        case _:
            return None

"""Write chunks to streams from the code of a task."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from mini_workflow.core.codec import Codec
from mini_workflow.core.streams import (
    MAXIMUM_RUN_CHUNKS,
    StreamWrite,
    check_chunk,
    check_stream,
)
from mini_workflow.errors import StreamFull
from mini_workflow.loop.running import running_loop
from mini_workflow.ports import TaskRequest
from mini_workflow.stream_buffer import Key, StreamSink


class TaskStreams:
    """The streams of one attempt, made when its code uses the first one."""

    def __init__(self, request: TaskRequest, codec: Codec, sink: StreamSink) -> None:
        self.request: Final = request
        self.codec: Final = codec
        self.sink: Final = sink
        self.numbers: Final = count(1)

    @property
    def key(self) -> Key:
        """The key of the attempt."""
        return self.request.key

    def close(self) -> None:
        """Wait until all chunks of the attempt, which has ended, are durable. Raises like `flush`."""
        try:
            self.sink.flush(self.key)
        finally:
            self.sink.forget(self.key)

    async def close_async(self) -> None:
        """Wait like `close`, without blocking the running event loop."""
        try:
            await self.sink.drain(self.key)
        finally:
            self.sink.forget(self.key)


class TaskStream:
    """A stream that a task writes to, on any thread; ``current_task().stream(name)`` returns it."""

    __slots__ = ("_streams", "name")

    def __init__(self, name: str, streams: TaskStreams) -> None:
        check_stream(name)
        self.name = name
        self._streams = streams

    def write(self, value: Any) -> None:
        """Write a chunk. It is stored soon, together with others, and at the latest when the attempt ends,
        whose outcome waits for that.

        The call returns at once; but a sync task waits while 4 MiB are not stored yet.

        Raises:
            ValueNotSerializable: the value cannot be encoded.
            ChunkTooLarge: the encoded value takes more than 256 KiB.
            StreamFull: the stream had no room for an earlier chunk of this attempt.
            ExecutionNotFound, StoreError: an earlier chunk of this attempt could not be stored.
            RuntimeClosed: the runtime was closed.
        """
        streams = self._streams
        request = streams.request
        body = streams.codec.encode(value, f"chunk of stream {self.name!r}").text
        check_chunk(self.name, body)
        write = StreamWrite(
            request.execution_id,
            self.name,
            request.seq,
            request.attempt,
            next(streams.numbers),
            body,
        )
        streams.sink.write(write, may_wait=running_loop() is None)

    def flush(self) -> None:
        """Wait until all chunks that this attempt has written are stored, so that they survive a crash.

        In an inline task the call does nothing, since its chunks are stored with the turn. Raises like
        `write` for earlier chunks, and UsageError on the thread of an event loop.
        """
        self._streams.sink.flush(self._streams.key)

    async def drain(self) -> None:
        """Wait like `flush`, in an async task. Raises like `write` for earlier chunks."""
        await self._streams.sink.drain(self._streams.key)


class InlineSink:
    """A StreamSink that collects the writes of an inline task, which are stored with its turn."""

    def __init__(self, writes: list[StreamWrite]) -> None:
        self._writes = writes

    def write(self, write: StreamWrite, *, may_wait: bool) -> None:
        """See `StreamSink.write`. Raises StreamFull."""
        if len(self._writes) >= MAXIMUM_RUN_CHUNKS:
            raise StreamFull(
                f"an inline task may write at most {MAXIMUM_RUN_CHUNKS:,} chunks, which are stored "
                "together: leave out inline=True"
            )
        self._writes.append(write)

    def flush(self, key: Key) -> None:
        """See `StreamSink.flush`. Does nothing, since the chunks are stored with the turn."""

    async def drain(self, key: Key) -> None:
        """See `StreamSink.drain`."""

    def forget(self, key: Key) -> None:
        """See `StreamSink.forget`."""

    def heard(self, key: Key, details: str | None) -> None:
        """See `StreamSink.heard`. Does nothing, since nothing shows an inline task while it runs."""

    def over(self, key: Key) -> None:
        """See `StreamSink.over`."""

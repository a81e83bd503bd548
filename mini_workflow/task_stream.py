"""TaskStream: a stream that the code of a task writes to."""

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
    """The streams of one attempt, made when its code asks for the first."""

    def __init__(self, request: TaskRequest, codec: Codec, sink: StreamSink) -> None:
        self.request: Final = request
        self.codec: Final = codec
        self.sink: Final = sink
        self.numbers: Final = count(1)

    @property
    def key(self) -> Key:
        """The attempt."""
        return self.request.key

    def close(self) -> None:
        """Wait until all is durable: the attempt has ended. Raises as `TaskStream.flush`."""
        try:
            self.sink.flush(self.key)
        finally:
            self.sink.forget(self.key)

    async def close_async(self) -> None:
        """Do the same on the running event loop."""
        try:
            await self.sink.drain(self.key)
        finally:
            self.sink.forget(self.key)


class TaskStream:
    """A stream that a task writes to; ``current_task().stream(name)`` gives it. Any thread."""

    __slots__ = ("_streams", "name")

    def __init__(self, name: str, streams: TaskStreams) -> None:
        check_stream(name)
        self.name = name
        self._streams = streams

    def write(self, value: Any) -> None:
        """Write a chunk. It is stored soon, together with others: at the latest when the attempt ends,
        whose outcome waits for that.

        Returns at once; a sync task waits where 4 MiB are not stored yet.

        Raises:
            ValueNotSerializable: the value cannot be encoded.
            ChunkTooLarge: it takes more than 256 KiB, encoded.
            StreamFull: an earlier chunk of this attempt was not kept, for want of room.
            ExecutionNotFound, StoreError: an earlier chunk of it was not kept.
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
        """Wait until all that this attempt has written is stored: it survives a crash then.

        In an inline task it does nothing: what that writes is stored with its turn. Raises what
        `write` raises for earlier chunks, and UsageError on the thread of an event loop.
        """
        self._streams.sink.flush(self._streams.key)

    async def drain(self) -> None:
        """Wait for the same in an async task. Raises what `write` raises for earlier chunks."""
        await self._streams.sink.drain(self._streams.key)


class InlineSink:
    """A StreamSink that collects the writes of an inline task: they are stored with its turn."""

    def __init__(self, writes: list[StreamWrite]) -> None:
        self._writes = writes

    def write(self, write: StreamWrite, *, may_wait: bool) -> None:
        """See `StreamSink.write`. Raises StreamFull."""
        if len(self._writes) >= MAXIMUM_RUN_CHUNKS:
            raise StreamFull(
                f"an inline task may write {MAXIMUM_RUN_CHUNKS:,} chunks, which are stored together: "
                "drop inline=True"
            )
        self._writes.append(write)

    def flush(self, key: Key) -> None:
        """See `StreamSink.flush`: nothing is to be waited for."""

    async def drain(self, key: Key) -> None:
        """See `StreamSink.drain`."""

    def forget(self, key: Key) -> None:
        """See `StreamSink.forget`."""

    def heard(self, key: Key, details: str | None) -> None:
        """See `StreamSink.heard`: nobody sees an inline task while it runs."""

    def over(self, key: Key) -> None:
        """See `StreamSink.over`."""

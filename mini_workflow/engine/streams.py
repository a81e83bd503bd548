"""Read the streams of an execution while they are written."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.core.codec import Codec
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import frozen
from mini_workflow.core.streams import check_stream
from mini_workflow.engine.transport import Pauses
from mini_workflow.errors import UsageError
from mini_workflow.ports import StoredChunk, StreamPage
from mini_workflow.waiting import blocking_wait

if TYPE_CHECKING:
    from mini_workflow.engine.client import Client

PAGE: Final = 500
"""Chunks that are read at a time. Our own bound."""


@frozen
class Chunk:
    """A value that one call has written to a stream. `offset` is its place in the stream: give it as `after`
    to go on behind this chunk. `source` is the number of the task that has written it, or 0 for the
    workflow itself, and `attempt` the attempt of the task, or the run of the workflow.

    `restarts` is True for the first chunk of an attempt that begins anew after an earlier attempt had
    written: the earlier chunks of the same source do not count any more.
    """

    offset: int
    value: Any
    source: int
    attempt: int
    restarts: bool = False


class ExecutionStream:
    """A stream of an execution, to be read; ``execution.stream(name)`` returns it.

    ``for chunk in stream`` and ``async for chunk in stream`` give a Chunk at a time, wait for more, and
    end when the execution has closed and all of its chunks were given. Each loop begins at
    `after` again.

    Both raise ExecutionNotFound, PayloadNotReadable, StoreError and RuntimeClosed. A blocked execution
    has not closed: they wait for it to go on.
    """

    def __init__(
        self, execution_id: str, name: str, after: int, client: Client, codec: Codec
    ) -> None:
        check_stream(name)
        if type(after) is not int or after < 0:
            raise UsageError(f"after={after!r}: give the offset of a chunk, or 0 for the beginning")
        self.execution_id: Final = execution_id
        self.name: Final = name
        self.after: Final = after
        self._client = client
        self._codec = codec
        self._decode = codec.decode

    def for_people(self) -> ExecutionStream:
        """Return the same stream with values to look at, without their classes: that runs no code from
        the store, and imports nothing by a stored name.
        """
        other = ExecutionStream(self.execution_id, self.name, self.after, self._client, self._codec)
        other._decode = self._codec.show
        return other

    def __iter__(self) -> Iterator[Chunk]:
        after, changed = self.after, threading.Event()
        with ExitStack() as stack:
            pauses: Pauses | None = None
            while True:
                page = self._page(after)
                if page.chunks:
                    yield from map(self._chunk, page.chunks)
                    after = page.chunks[-1].offset
                if page.over:
                    return
                if page.chunks:
                    if pauses is not None:
                        pauses.reset()
                elif pauses is None:
                    # Then it looks once more: from here on it hears of changes.
                    changes = self._client.changes(self.execution_id, changed.set)
                    pauses = stack.enter_context(changes)
                else:
                    _wait(changed, pauses.take())

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        loop, after, changed = asyncio.get_running_loop(), self.after, asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(changed.set)

        with ExitStack() as stack:
            pauses: Pauses | None = None
            while True:
                # Reading blocks, and so may decoding: both are done on another thread.
                chunks, over = await asyncio.to_thread(self._decoded_page, after)
                for chunk in chunks:
                    yield chunk
                    after = chunk.offset
                if over:
                    return
                if chunks:
                    if pauses is not None:
                        pauses.reset()
                elif pauses is None:
                    pauses = stack.enter_context(self._client.changes(self.execution_id, wake))
                else:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), pauses.take())
                    changed.clear()

    def read(self, limit: int | None = None) -> list[Chunk]:
        """Return the chunks that are there now behind `after`, without waiting. Of each task only the chunks
        of its last attempt are returned. At most `limit` chunks are read, by default all.

        Raises the errors of iterating.
        """
        found: list[Chunk] = []
        after, read = self.after, 0
        while limit is None or read < limit:
            page = self._page(after, PAGE if limit is None else min(PAGE, limit - read))
            if not page.chunks:
                break
            for one in page.chunks:
                if one.restarts:
                    found = [other for other in found if other.source != one.source]
                found.append(self._chunk(one))
            after = page.chunks[-1].offset
            read += len(page.chunks)
        return found

    def _page(self, after: int, limit: int = PAGE) -> StreamPage:
        page = self._client.read_stream(self.execution_id, self.name, after, limit)
        if not page.chunks and not after and not page.over:
            self._client.head(self.execution_id)  # raises if there is no such execution
        return page

    def _decoded_page(self, after: int) -> tuple[list[Chunk], bool]:
        page = self._page(after)
        return list(map(self._chunk, page.chunks)), page.over

    def _chunk(self, one: StoredChunk) -> Chunk:
        value = self._decode(Payload(text=one.body))
        return Chunk(one.offset, value, one.source, one.attempt, one.restarts)

    def __repr__(self) -> str:
        return f"<stream {self.name!r} of execution {self.execution_id!r}>"


class AsyncExecutionStream:
    """A stream of an execution, for coroutines: what `ExecutionStream` does."""

    def __init__(self, stream: ExecutionStream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._stream.__aiter__()

    async def read(self, limit: int | None = None) -> list[Chunk]:
        """Return the chunks that are there now: see `ExecutionStream.read`."""
        return await asyncio.to_thread(self._stream.read, limit)

    def __repr__(self) -> str:
        return repr(self._stream)


def _wait(changed: threading.Event, seconds: float) -> None:
    """Wait for a change. Raises UsageError where that would hold up async tasks."""
    refused: list[BaseException] = []

    def refuse(error: BaseException) -> None:
        refused.append(error)
        changed.set()

    with blocking_wait(refuse):
        changed.wait(seconds)
        changed.clear()
    if refused:
        raise refused[0]

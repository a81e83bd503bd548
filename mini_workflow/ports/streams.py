"""Declare a store of streams: chunks beside the histories, each with an offset of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

from mini_workflow.core.records import record
from mini_workflow.core.streams import StreamWrite
from mini_workflow.errors import UsageError

MAXIMUM_STREAMS: Final = 100
"""Streams that one execution may have. Our own bound."""

MAXIMUM_CHUNKS: Final = 1_000_000
"""Chunks that one stream may have. Our own bound."""

MAXIMUM_STREAM_BYTES: Final = 256 * 1024 * 1024
"""Bytes of encoded chunks that one stream may have. Our own bound."""

Answer = Literal["kept", "known", "full", "missing"]
"""The answer to a write. kept: it is stored. known: it was there, or came too late. full: there is no room.
missing: there is no such execution."""


@record
class StoredChunk:
    """A chunk as it was kept: its `offset` in the stream, from 1, and its `body`, as text. `source` is the
    sequence number of the task that wrote it, and `attempt` its attempt. `restarts` says that it is the first
    chunk of its attempt, and that attempts before have written to the stream.
    """

    offset: int
    source: int
    attempt: int
    restarts: bool
    body: str


@record
class StreamPage:
    """Chunks in the order of their offsets. `over` says that the execution has closed, and that there
    are no chunks behind these which it wrote before that.
    """

    chunks: list[StoredChunk]
    over: bool


class StreamStore(Protocol):
    """The streams of executions. All methods may be called on any thread, and raise StoreError when
    the store cannot do its part.

    Chunks of a stream have offsets that begin at 1 and rise. They are given in the order in which
    chunks can be read: nothing can be read later with a lower offset than what could be read before.

    The writes of a source have positions (attempt, number), compared in this order. One that is not
    behind the last one kept of its source in that stream is "known", and changes nothing. So a write that
    comes again is kept once, and the writes of an attempt are dropped once the next attempt has written.

    A backend of owners (`Backend`) keeps the `chunks` of a `Commit` in the same step as the rest of it, by
    the same rules but without bounds, and none of an item that is answered False. Streams belong
    to an execution, in all of its runs and after its end. A store that deletes an execution calls
    `remove`, unless it removes the rows in the step that removes the execution.
    """

    def append(self, writes: Sequence[StreamWrite], *, bounded: bool = True) -> list[Answer]:
        """Keep writes, of any executions, in their order; one answer each. Durable on return.

        Writes that are "full" or "missing" change nothing, and the others are kept all the same. If the call
        raises, any number of them from the first one on may have been kept: the caller does it again.
        `bounded` writes are "full" where the stream has MAXIMUM_CHUNKS chunks, or would have more than
        MAXIMUM_STREAM_BYTES bytes, or would be one more than MAXIMUM_STREAMS. Raises StoreRefused for
        a body that this store cannot keep.
        """
        ...

    def read(self, execution_id: str, stream: str, after: int, limit: int) -> StreamPage:
        """Return the first chunks behind the offset `after`, at most `limit` of them, which is 1 or
        more. Empty, and not over, for an execution or a stream that does not exist.

        The cost does not depend on how many chunks stand before.
        """
        ...

    def names(self, execution_id: str) -> list[str]:
        """Return the names of the execution's streams that have chunks, in order."""
        ...

    def remove(self, execution_id: str) -> None:
        """Remove all streams of an execution, which is deleted, or will not write any more. Harmless if
        there are none. Offsets begin at 1 again if the execution writes all the same.
        """
        ...


class NoStreams:
    """Stands in for the streams of a store that keeps none: reading and writing raise UsageError."""

    def append(self, writes: Sequence[StreamWrite], *, bounded: bool = True) -> list[Answer]:
        """See `StreamStore.append`."""
        raise _none()

    def read(self, execution_id: str, stream: str, after: int, limit: int) -> StreamPage:
        """See `StreamStore.read`."""
        raise _none()

    def names(self, execution_id: str) -> list[str]:
        """See `StreamStore.names`."""
        raise _none()

    def remove(self, execution_id: str) -> None:
        """See `StreamStore.remove`. There is nothing to remove."""


NO_STREAMS: Final = NoStreams()


def _none() -> UsageError:
    return UsageError(
        "this store keeps no streams. Use a backend that has a StreamStore, such as those of "
        "the library's own runtimes."
    )

"""Write chunks to streams from a run. Streams stand beside the history.

A write is no event. It is numbered by the last event before it, so that a replay gives it the same
number, and a store recognizes a repeated write.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.core.records import record
from mini_workflow.core.validation import shown
from mini_workflow.errors import ChunkTooLarge, InvalidIdentifier, StreamFull

if TYPE_CHECKING:
    from mini_workflow.core.recorder import Recorder

STREAM_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\-]{0,63}")
"""Names that a stream may have: safe in object keys and on command lines. Our own bound."""

MAXIMUM_CHUNK: Final = 256 * 1024
"""Bytes that one encoded chunk may take. Our own bound: larger values are results, not chunks."""

MAXIMUM_RUN_CHUNKS: Final = 10_000
"""Chunks that the workflow of one run may write, with its inline tasks. Our own bound: they are
written with its turns. Tasks have the room of the store."""

WORKFLOW: Final = 0
"""The source of the chunks that a workflow writes itself. The source of a task's chunks is its number."""

_AT_ONE_EVENT: Final = 1 << 20
"""More chunks than can be written between two events."""


@record
class StreamWrite:
    """A chunk on its way to a stream of an execution: `body` is the encoded value, as JSON text.

    The writes of a `source` (a task, by its number, or the workflow, `WORKFLOW`) have rising positions
    (attempt, number), by which a store recognizes a write that is repeated or too late. The attempt of
    the workflow's own writes is the number of the run.
    """

    execution_id: str
    stream: str
    source: int
    attempt: int
    number: int
    body: str


def check_stream(name: Any) -> None:
    """Raise InvalidIdentifier unless `name` can be the name of a stream."""
    if not isinstance(name, str) or STREAM_NAME.fullmatch(name) is None:
        raise InvalidIdentifier(
            f"{shown(name)} cannot be the name of a stream: use 1 to 64 letters, digits and '_', '-', '.', "
            "':', '@', beginning with a letter, a digit or '_'"
        )


def check_chunk(stream: str, body: str) -> None:
    """Raise ChunkTooLarge if the encoded value takes more than MAXIMUM_CHUNK bytes."""
    size = len(body) if body.isascii() else len(body.encode())
    if size > MAXIMUM_CHUNK:
        raise ChunkTooLarge(
            f"a chunk of stream {stream!r} takes {size:,} bytes encoded; at most "
            f"{MAXIMUM_CHUNK:,} are allowed: write it in parts, or return it as a result",
            path=f"chunk of stream {stream!r}",
        )


class WorkflowStream:
    """A stream that a workflow writes to; `Context.stream` returns it."""

    __slots__ = ("_recorder", "_run", "name")

    def __init__(self, name: str, recorder: Recorder, run: int) -> None:
        check_stream(name)
        self.name = name
        self._recorder = recorder
        self._run = run

    def write(self, value: Any) -> None:
        """Write a chunk. Readers get it once the turn is committed, exactly once.

        Raises:
            ValueNotSerializable: the value cannot be encoded.
            ChunkTooLarge: the encoded value takes more than 256 KiB.
            StreamFull: the run has written 10,000 chunks.
        """
        if self._recorder.may_start():
            streams_of(self._recorder).write(self.name, value, self._run)


class Streams:
    """The writes of one run to streams whose turn is not committed yet."""

    __slots__ = ("_last", "_recorder", "_same", "_written", "out")

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._written = 0
        self._last = -1
        self._same = 0
        self.out: list[StreamWrite] = []
        """The writes since the last call of `take`."""

    def write(self, stream: str, value: Any, run: int) -> None:
        """Write a chunk, unless a replay repeats it. `run` is the number of the run."""
        recorder = self._recorder
        name = recorder.execution_id
        body = recorder.codec.encode(value, f"chunk of stream {stream!r}").text
        check_chunk(stream, body)
        if self._written >= MAXIMUM_RUN_CHUNKS:
            raise StreamFull(
                f"the workflow of execution {name!r} has written {MAXIMUM_RUN_CHUNKS:,} chunks in this "
                "run, the most that are allowed: write in tasks, or call ctx.continue_as_new()"
            )
        self._written += 1
        length = recorder.state.length
        self._same = self._same + 1 if length == self._last else 0
        self._last = length
        recorded = recorder.recorded
        if recorded is None or recorded.ended():
            number = length * _AT_ONE_EVENT + self._same
            self.out.append(StreamWrite(name, stream, WORKFLOW, run, number, body))

    def take(self) -> tuple[StreamWrite, ...]:
        """Return the writes since the last call."""
        out, self.out = self.out, []
        return tuple(out)


def streams_of(recorder: Recorder) -> Streams:
    """Return the streams of a recorder's run, made at the first call."""
    if recorder.streams is None:
        recorder.streams = Streams(recorder)
    return recorder.streams

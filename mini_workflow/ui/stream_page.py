"""Show the streams of an execution as text, while they are written."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from mini_workflow.core.records import frozen
from mini_workflow.engine.execution import Execution
from mini_workflow.engine.streams import Chunk
from mini_workflow.errors import MiniWorkflowError, UsageError

CHUNKS: Final = 500
"""Chunks of a stream that stand in a page; what follows comes live, or on the next page."""

STREAMS: Final = 20
"""Streams of an execution that a page has."""


@frozen
class StreamPart:
    """A stream on a page: its name, its text from an offset on, and the offset behind that; `more` if the
    stream goes on there.
    """

    name: str
    text: str
    after: int
    more: bool

    @classmethod
    def of(cls, execution: Execution[Any], name: str, after: int = 0) -> StreamPart:
        """Read a part of a stream. Raises InvalidIdentifier or UsageError."""
        chunks = execution.stream(name, after).for_people().read(CHUNKS)
        text = "".join(map(text_of, chunks))
        last = chunks[-1].offset if chunks else after
        more = bool(chunks) and bool(execution.stream(name, last).for_people().read(1))
        return cls(name, text, last, more)


def streams_of(execution: Execution[Any]) -> list[StreamPart]:
    """Return the streams of an execution; none where the store keeps none."""
    try:
        names = execution.stream_names()
    except UsageError:
        return []
    return [StreamPart.of(execution, name) for name in names[:STREAMS]]


def text_of(chunk: Chunk) -> str:
    """Return a chunk as text: a text as it is, another value on a line of its own."""
    begins = f"\n[attempt {chunk.attempt} begins anew]\n" if chunk.restarts else ""
    value = chunk.value if isinstance(chunk.value, str) else f"{chunk.value!r}\n"
    return begins + value


async def lines_of_stream(execution: Execution[Any], name: str, after: int) -> AsyncIterator[str]:
    """Return the chunks behind an offset as server-sent events, until the execution has closed; a browser
    whose connection was cut goes on behind the last one that it has got.
    """
    yield "retry: 2000\n\n"
    try:
        async for chunk in execution.stream(name, after).for_people():
            yield f"id: {chunk.offset}\ndata: {json.dumps(text_of(chunk))}\n\n"
    except MiniWorkflowError as error:
        yield f"event: over\ndata: {json.dumps(str(error))}\n\n"
        return
    yield 'event: over\ndata: ""\n\n'

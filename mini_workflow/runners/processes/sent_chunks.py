"""SentChunks: sends the chunks that tasks in a worker process write to the engine, which stores them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from queue import SimpleQueue
from typing import Final

from mini_workflow.core.streams import StreamWrite
from mini_workflow.runners.processes import protocol as frames
from mini_workflow.runners.processes.protocol import Key
from mini_workflow.runners.processes.worker_config import Seal
from mini_workflow.stream_buffer import Result, StreamBuffer


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
        for _, group in groupby(range(len(writes)), lambda index: _key(writes[index])):
            self._number += 1
            indexes = parts[self._number] = list(group)
            part = [writes[index] for index in indexes]
            self._send(frames.chunks(self._number, part, self._seal))
        found: dict[int, Result] = {}
        while parts:
            number, results = self._answers.get()
            found.update(zip(parts.pop(number), results, strict=True))
        return [found[index] for index in range(len(writes))]


def _key(write: StreamWrite) -> Key:
    return (write.execution_id, write.source, write.attempt)

"""StreamBuffer: many writes to one commit, in their order, and none of them lost or kept twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from mini_workflow.errors import (
    ExecutionNotFound,
    RuntimeClosed,
    StoreRefused,
    StoreUnavailable,
    StreamFull,
    UsageError,
)
from mini_workflow.ports import StreamWrite
from mini_workflow.stream_buffer import Result, StreamBuffer
from tests.waiting import WAIT, eventually


def write(number: int, source: int = 1, body: str = "1", attempt: int = 1) -> StreamWrite:
    return StreamWrite("a", "s", source, attempt, number, body)


class Store:
    """Takes batches, one at a time, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[StreamWrite]] = []
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.answer: Callable[[StreamWrite], Result] = lambda write: "kept"
        self.errors: list[Exception] = []

    def append(self, writes: Sequence[StreamWrite]) -> list[Result]:
        self.began.release()
        assert self.go.acquire(timeout=WAIT)
        if self.errors:
            raise self.errors.pop(0)
        self.batches.append(list(writes))
        return [self.answer(write) for write in writes]

    def let(self, times: int = 1_000) -> None:
        for _ in range(times):
            self.go.release()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def buffer(store: Store) -> Iterator[StreamBuffer]:
    made = StreamBuffer(store.append)
    yield made
    store.let()
    made.close(WAIT)


def key(source: int = 1) -> tuple[str, int, int]:
    return ("a", source, 1)


def test_what_comes_while_a_batch_is_stored_is_one_batch(
    store: Store, buffer: StreamBuffer
) -> None:
    buffer.write(write(1), may_wait=True)
    assert store.began.acquire(timeout=WAIT)
    for number in range(2, 100):
        buffer.write(write(number), may_wait=True)
        buffer.write(write(number, source=2), may_wait=True)
    store.let()
    buffer.flush(key())
    buffer.flush(key(2))
    assert [len(batch) for batch in store.batches] == [1, 196]
    assert [one.number for batch in store.batches for one in batch if one.source == 1] == [
        *range(1, 100)
    ]


def test_a_store_that_fails_is_tried_again(store: Store, buffer: StreamBuffer) -> None:
    store.errors = [StoreUnavailable("busy"), StoreUnavailable("busy")]
    store.let()
    for number in range(1, 4):
        buffer.write(write(number), may_wait=True)
    buffer.flush(key())
    kept = [one.number for batch in store.batches for one in batch]
    assert kept == [1, 2, 3]


def test_a_store_that_fails_too_often_is_an_error_of_the_attempts(store: Store) -> None:
    buffer = StreamBuffer(store.append, tries=2)
    store.errors = [StoreUnavailable("gone") for _ in range(2)]
    store.let()
    buffer.write(write(1), may_wait=True)
    with pytest.raises(StoreUnavailable, match="gone"):
        buffer.flush(key())
    buffer.write(write(2), may_wait=True)
    buffer.flush(key())
    buffer.close(WAIT)


@pytest.mark.parametrize(
    ("answer", "error"),
    [("full", StreamFull), ("missing", ExecutionNotFound), ("refused", StoreRefused)],
)
def test_what_is_not_kept_is_an_error_of_its_attempt_alone(
    store: Store, buffer: StreamBuffer, answer: Result, error: type[Exception]
) -> None:
    store.answer = lambda write: answer if write.source == 1 else "kept"
    store.let()
    for source in (1, 2):
        buffer.write(write(1, source), may_wait=True)
    buffer.flush(key(2))
    with pytest.raises(error):
        buffer.flush(key(1))
    # It was told: whoever handles that may go on.
    store.answer = lambda write: "kept"
    for source in (1, 2):
        buffer.write(write(2, source), may_wait=True)
        buffer.flush(key(source))


def test_what_the_store_cannot_keep_does_not_take_the_others_with_it(
    store: Store, buffer: StreamBuffer
) -> None:
    buffer.write(write(1, source=3), may_wait=True)
    assert store.began.acquire(timeout=WAIT)
    # These two are one batch: it is refused, and then the first of them alone.
    buffer.write(write(1), may_wait=True)
    buffer.write(write(1, source=2), may_wait=True)
    store.let(1)
    assert store.began.acquire(timeout=WAIT)
    store.errors = [StoreRefused("one of them"), StoreRefused("this one")]
    store.let()
    buffer.flush(key(2))
    with pytest.raises(StoreRefused):
        buffer.flush(key(1))
    assert [one.source for batch in store.batches for one in batch] == [3, 2]


def test_a_late_close_ends_whoever_waits(store: Store, buffer: StreamBuffer) -> None:
    buffer.write(write(1), may_wait=True)
    assert store.began.acquire(timeout=WAIT)
    errors: list[BaseException] = []

    def flush() -> None:
        try:
            buffer.flush(key())
        except BaseException as error:
            errors.append(error)

    waiting = threading.Thread(target=flush)
    waiting.start()
    store.errors = [StoreUnavailable("busy")] * 3
    closing = threading.Thread(target=buffer.close, args=(WAIT,))
    closing.start()
    eventually(lambda: buffer._thread.closed)
    store.let()
    for thread in (waiting, closing):
        thread.join(WAIT)
        assert not thread.is_alive()
    assert [type(error) for error in errors] == [StoreUnavailable]
    with pytest.raises(RuntimeClosed):
        buffer.write(write(2), may_wait=True)


def test_a_writer_waits_where_much_is_waiting(store: Store, buffer: StreamBuffer) -> None:
    large = "1" * 1_500_000
    for number in range(1, 5):
        buffer.write(write(number, body=large), may_wait=number < 4)
    entered: list[int] = []

    def more() -> None:
        buffer.write(write(5, body=large), may_wait=True)
        entered.append(5)

    waiting = threading.Thread(target=more)
    waiting.start()
    buffer.write(write(1, source=2), may_wait=False)  # one that must not wait does not
    assert entered == []
    store.let()
    waiting.join(WAIT)
    assert entered == [5]
    buffer.flush(key())


def test_coroutines_wait_without_blocking(store: Store, buffer: StreamBuffer) -> None:
    async def use() -> None:
        buffer.write(write(1), may_wait=False)
        draining = asyncio.create_task(buffer.drain(key()))
        await asyncio.sleep(0)
        assert not draining.done()
        with pytest.raises(UsageError, match="drain"):
            buffer.flush(key())
        store.let()
        await asyncio.wait_for(draining, WAIT)
        await buffer.drain(key())

    asyncio.run(use())
    assert [one.number for batch in store.batches for one in batch] == [1]


def test_a_relay_is_told_the_results_together(store: Store, buffer: StreamBuffer) -> None:
    store.answer = lambda write: "full" if write.number == 2 else "kept"
    told: list[list[Result]] = []
    done = threading.Event()

    def tell(results: list[Result]) -> None:
        told.append(results)
        done.set()

    buffer.relay([write(1), write(2), write(3)], tell)
    store.let()
    assert done.wait(WAIT)
    assert told == [["kept", "full", "kept"]]


def test_what_waits_is_stored_at_the_close(store: Store) -> None:
    buffer = StreamBuffer(store.append, pause=3_600.0)
    store.let()
    buffer.write(write(1), may_wait=True)
    buffer.flush(key())
    buffer.write(write(2), may_wait=True)
    buffer.close(WAIT)
    assert [one.number for batch in store.batches for one in batch] == [1, 2]

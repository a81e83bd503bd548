"""90: streams, which executions and their tasks write to beside the history."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mini_workflow import (
    Chunk,
    ChunkTooLarge,
    Context,
    ExecutionNotFound,
    InvalidIdentifier,
    RetryPolicy,
    UsageError,
    ValueNotSerializable,
    current_task,
    workflow,
)
from mini_workflow.core.streams import MAXIMUM_CHUNK
from tests.behaviours.stage import Background, Stage, gate, go_through
from tests.waiting import WAIT


def values(chunks: list[Chunk]) -> list[Any]:
    return [chunk.value for chunk in chunks]


def say(*words: Any) -> None:
    stream = current_task().stream("words")
    for word in words:
        stream.write(word)


async def say_async(*words: Any) -> None:
    stream = current_task().stream("words")
    for word in words:
        stream.write(word)
        await stream.drain()


@workflow("behaviours.speaker")
async def speaker(ctx: Context, name: str) -> str:
    words = ctx.stream("words")
    words.write({"hello": name})
    await ctx.task(say, 1, 2)
    words.write((3, b"three"))
    await ctx.task(say, 4, inline=True)
    await ctx.task(say_async, 5, 6)
    words.write("bye")
    return name


def test_90_what_is_written_is_read_in_order(runtime: Stage) -> None:
    """Workflow, tasks, async and inline tasks write to one stream; reading ends with the execution."""
    execution = runtime.start(speaker, "Ada")
    chunks = list(execution.stream("words"))
    assert values(chunks) == [{"hello": "Ada"}, 1, 2, (3, b"three"), 4, 5, 6, "bye"]
    assert [chunk.source for chunk in chunks] == [0, 1, 1, 0, 2, 3, 3, 0]
    offsets = [chunk.offset for chunk in chunks]
    assert offsets == sorted(set(offsets))
    assert not any(chunk.restarts for chunk in chunks)
    assert execution.result(WAIT) == "Ada"
    assert list(execution.stream("words")) == chunks
    assert execution.stream("words").read() == chunks
    assert execution.stream_names() == ["words"]
    assert not any(
        "bye" in str(event) for event in execution.history() if "Completed" not in str(event)
    )


def test_90_reading_goes_on_behind_an_offset(runtime: Stage) -> None:
    """Any offset will do, live and after the end."""
    execution = runtime.start(speaker, "Ada")
    execution.result(WAIT)
    chunks = list(execution.stream("words"))
    for index, chunk in enumerate(chunks):
        assert list(execution.stream("words", after=chunk.offset)) == chunks[index + 1 :]
    assert execution.stream("words", after=chunks[2].offset).read(2) == chunks[3:5]
    assert list(execution.stream("words", after=chunks[-1].offset + 5)) == []


@workflow("behaviours.slow_speaker")
async def slow_speaker(ctx: Context) -> None:
    def speak() -> None:
        say("one", "two")
        current_task().stream("words").flush()
        go_through("middle")
        say("three")

    await ctx.task(speak)


def test_90_chunks_are_read_while_the_attempt_runs(runtime: Stage) -> None:
    """What was flushed is there before the attempt ends, here and elsewhere."""
    execution = runtime.start(slow_speaker)
    gate("middle").wait_until_reached()
    assert values(execution.stream("words").read()) == ["one", "two"]
    with runtime.beside() as other:
        reader = iter(other.get_execution(execution.id).stream("words"))
        assert [next(reader).value, next(reader).value] == ["one", "two"]
        third = Background(lambda: next(reader).value)
        gate("middle").open()
        assert third.get() == "three"
        assert list(reader) == []


def test_90_coroutines_read(runtime: Stage) -> None:
    """``async for`` reads along, through `runtime.aio` and on a plain handle."""

    async def read() -> tuple[list[Any], list[Any], list[Any]]:
        execution = await runtime.aio.start_execution(speaker, "Ada")
        stream = execution.stream("words")
        along = [chunk.value async for chunk in stream]
        plain = runtime.get_execution(execution.id).stream("words", after=2)
        return along, [chunk.value async for chunk in plain], values(await stream.read())

    along, rest, all_of_it = asyncio.run(read())
    assert along == all_of_it == [{"hello": "Ada"}, 1, 2, (3, b"three"), 4, 5, 6, "bye"]
    assert rest == along[2:]


@workflow("behaviours.stammerer")
async def stammerer(ctx: Context) -> str:
    def stammer() -> str:
        attempt = current_task().attempt
        say("a", f"{attempt}")
        if attempt < 3:
            raise ConnectionError("cut off")
        say("end")
        return "said"

    ctx.stream("words").write("first")
    return await ctx.task(stammer, retry=RetryPolicy(max_attempts=3, initial=0.01, jitter="none"))


def test_90_an_attempt_that_is_made_again_begins_anew(runtime: Stage) -> None:
    """A live reader is told at which chunk; who reads afterwards gets the last attempt's alone."""
    execution = runtime.start(stammerer)
    chunks = list(execution.stream("words"))
    assert execution.result(WAIT) == "said"
    assert values(chunks) == ["first", "a", "1", "a", "2", "a", "3", "end"]
    restarts = [(chunk.value, chunk.attempt) for chunk in chunks if chunk.restarts]
    assert restarts == [("a", 2), ("a", 3)]
    assert values(execution.stream("words").read()) == ["first", "a", "3", "end"]


@workflow("behaviours.interrupted")
async def interrupted(ctx: Context) -> int:
    words = ctx.stream("words")
    for number in range(4):
        words.write(number)
        words.write(f"{number} again")
        await ctx.wait_for_signal("go on")
        words.write(f"{number} done")
    return 4


def test_90_a_reopened_runtime_doubles_nothing(runtime: Stage) -> None:
    """Whatever is replayed was written before."""
    execution = runtime.start(interrupted)
    for _ in range(4):
        execution.signal("go on")
        runtime.reopen()
        execution = runtime.again(execution)
    assert execution.result(WAIT) == 4
    expected = [word for n in range(4) for word in (n, f"{n} again", f"{n} done")]
    assert values(list(execution.stream("words"))) == expected


@workflow("behaviours.stream_generations")
async def generations(ctx: Context, left: int) -> int:
    ctx.stream("words").write(left)
    await ctx.task(say, f"task {left}")
    if left:
        ctx.continue_as_new(left - 1)
    return ctx.info.run


def test_90_the_next_run_goes_on_in_the_stream(runtime: Stage) -> None:
    """`continue_as_new` keeps it."""
    execution = runtime.start(generations, 2)
    chunks = list(execution.stream("words"))
    assert values(chunks) == [2, "task 2", 1, "task 1", 0, "task 0"]
    assert [chunk.attempt for chunk in chunks if chunk.source == 0] == [1, 2, 3]
    assert execution.result(WAIT) == 3


FAILS: set[str] = set()


@workflow("behaviours.failing_speaker")
async def failing_speaker(ctx: Context) -> str:
    def work() -> str:
        say("tried")
        if FAILS:
            raise ValueError("it fails")
        return "done"

    ctx.stream("words").write("begun")
    await ctx.task(say, "prepared")
    return await ctx.task(work)


def test_90_what_is_run_again_writes_behind(runtime: Stage) -> None:
    """A retry goes on in the stream, with the task that is made again; a restart begins once more."""
    FAILS.clear()
    FAILS.add("now")
    execution = runtime.start(failing_speaker)
    assert values(list(execution.stream("words"))) == ["begun", "prepared", "tried"]
    with pytest.raises(ValueError, match="it fails"):
        execution.result(WAIT)
    FAILS.clear()
    execution.retry()
    assert execution.result(WAIT) == "done"
    chunks = list(execution.stream("words"))
    assert values(chunks) == ["begun", "prepared", "tried", "tried"]
    assert values(execution.stream("words").read()) == ["begun", "prepared", "tried"]
    execution.restart()
    assert execution.result(WAIT) == "done"
    again = execution.stream("words", after=chunks[-1].offset)
    assert values(list(again)) == ["begun", "prepared", "tried"]


@workflow("behaviours.waiting_speaker")
async def waiting_speaker(ctx: Context) -> None:
    ctx.stream("words").write("here")
    await ctx.wait_for_signal("never")


def test_90_reading_ends_however_the_execution_ends(runtime: Stage) -> None:
    """Also when it is terminated while somebody reads."""
    execution = runtime.start(waiting_speaker)
    reader = iter(execution.stream("words"))
    assert next(reader).value == "here"
    rest = Background(lambda: list(reader))
    execution.terminate("enough")
    assert rest.get() == []


@workflow("behaviours.wrong_speaker")
async def wrong_speaker(ctx: Context) -> list[str]:
    seen: list[str] = []

    def attempt(write: Any) -> None:
        try:
            write()
        except (ChunkTooLarge, ValueNotSerializable, InvalidIdentifier) as error:
            seen.append(type(error).__name__)

    def in_task() -> list[str]:
        stream = current_task().stream("words")
        attempt(lambda: stream.write("x" * MAXIMUM_CHUNK))
        attempt(lambda: stream.write(threading.Lock()))
        attempt(lambda: current_task().stream("../words"))
        return seen

    attempt(lambda: ctx.stream("words").write("x" * MAXIMUM_CHUNK))
    attempt(lambda: ctx.stream("words").write(threading.Lock()))
    attempt(lambda: ctx.stream("no words"))
    ctx.stream("words").write("x" * (MAXIMUM_CHUNK - 2))
    return [*seen, *(await ctx.task(in_task))[len(seen) :]]


def test_90_wrong_writes_are_refused(runtime: Stage) -> None:
    """What is too large, cannot be encoded, or goes to a wrong name leaves nothing."""
    execution = runtime.start(wrong_speaker)
    wrong = ["ChunkTooLarge", "ValueNotSerializable", "InvalidIdentifier"]
    assert execution.result(WAIT) == wrong * 2
    assert len(execution.stream("words").read()) == 1


def test_90_reading_what_is_not_there(runtime: Stage) -> None:
    """An unknown execution is an error, a stream without chunks is empty."""
    execution = runtime.start(speaker, "Ada")
    execution.result(WAIT)
    assert list(execution.stream("nothing")) == []
    with pytest.raises(InvalidIdentifier, match="no/name"):
        execution.stream("no/name")
    with pytest.raises(UsageError, match="after=-1"):
        execution.stream("words", after=-1)
    missing = type(execution)("nobody", runtime.runtime, execution.codec)
    with pytest.raises(ExecutionNotFound):
        list(missing.stream("words"))

"""Law 29: what is written to a stream is there once, whatever crashes: all that a committed turn has
written, all of the last attempt of a task whose result is recorded, and nothing of it twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mini_workflow.codecs import StandardCodec
from mini_workflow.context import Context
from mini_workflow.core.payload import Payload
from mini_workflow.ports import StoredChunk
from mini_workflow.task import current_task
from mini_workflow.testing.simulation.shapes import PATIENT, Shape
from mini_workflow.testing.simulation.stepping import Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.postgres.databases import databases
from tests.postgres.server import PostgresServer
from tests.sweeps import EVERY, FIRST, OTHERS_EVERY, OTHERS_FIRST
from tests.unit.engine.harness import ID, Files, MakeState, in_memory, run_through, stepping

CODEC = StandardCodec().for_execution(ID)


def say(*words: Any) -> None:
    for word in words:
        current_task().stream("words").write(word)


async def talk(ctx: Context) -> int:
    """Writes in front of, between and behind what is recorded, and where nothing follows."""
    words = ctx.stream("words")
    words.write("begun")
    words.write("still")
    await ctx.task(say, "task", "of three", "words", retry=PATIENT, name="say")
    words.write("between")
    await ctx.task(say, "inline", inline=True)
    words.write("behind")
    await ctx.sleep(5)
    words.write("slept")
    await ctx.task(fail_once, retry=PATIENT, name="fail_once")
    words.write("end")
    return 7


def fail_once() -> None:
    say(f"attempt {current_task().attempt}")
    if current_task().attempt == 1:
        raise ConnectionError("once")
    say("well")


SAID = ["begun", "still", "task", "of three", "words", "between", "inline", "behind", "slept"]

SHAPE = Shape(Workflow("talk", talk), frozenset(), 7)


def registry() -> Registry:
    made = Registry()
    made.add(SHAPE.workflow)
    return made


def chunks(stepper: Stepper) -> list[StoredChunk]:
    streams = stepper.ports.streams
    assert streams is not None
    page = streams.read(ID, "words", 0, 10_000)
    assert page.over
    return page.chunks


def value(chunk: StoredChunk) -> Any:
    return CODEC.decode(Payload(text=chunk.body))


def clean(found: list[StoredChunk]) -> list[Any]:
    """What the last attempts have written."""
    kept: list[StoredChunk] = []
    for chunk in found:
        if chunk.restarts:
            kept = [one for one in kept if one.source != chunk.source]
        kept.append(chunk)
    return [value(chunk) for chunk in kept]


def check_stream(stepper: Stepper) -> None:
    assert stepper.outcome(ID) == 7
    found = chunks(stepper)
    assert [chunk.offset for chunk in found] == list(range(1, len(found) + 1))
    said = clean(found)
    last = said[-3]
    assert last.startswith("attempt ")
    assert said == [*SAID, last, "well", "end"]
    own = [value(chunk) for chunk in found if chunk.source == 0]
    assert own == ["begun", "still", "between", "behind", "slept", "end"]
    positions = [(chunk.source, chunk.attempt, value(chunk)) for chunk in found]
    assert len(set(positions)) == len(positions)


def crash_at(make: MakeState, crashes: list[tuple[int, bool]], cache_size: int = 100) -> int:
    with stepping(make, registry=registry(), cache_size=cache_size) as stepper:
        met = run_through(stepper, SHAPE, crashes)
        check_stream(stepper)
        return met


@pytest.mark.parametrize("cache_size", [100, 0], ids=["cached", "replayed"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_law_29_a_crash_at_every_call(after: bool, cache_size: int) -> None:
    n = 1 + FIRST
    while crash_at(in_memory, [(n, after)], cache_size):
        n += EVERY
    assert n > 20


def test_law_29_a_crash_at_every_call_in_a_file(tmp_path: Path) -> None:
    n, make = 1 + OTHERS_FIRST, Files(tmp_path)
    while crash_at(make, [(n, n % 2 == 0)], 100 * (n % 4)):
        n += OTHERS_EVERY
    assert n > 20


def test_law_29_a_crash_at_every_call_in_a_database(postgres: PostgresServer) -> None:
    n = 1 + OTHERS_FIRST
    with databases(postgres) as make:
        while crash_at(make, [(n, n % 2 == 0)], 100 * (n % 4)):
            n += OTHERS_EVERY
    assert n > 20


def test_law_29_crashes_during_the_recovery() -> None:
    for first in (9, 14, 19, 24):
        n = 1
        while n < 30 and crash_at(in_memory, [(first, n % 2 == 0), (n, n % 3 == 0)]) == 2:
            n += 2


def test_law_29_a_replay_writes_nothing(tmp_path: Path) -> None:
    """Not even what stands behind the last recorded event: it came with that."""
    with stepping(in_memory, registry=registry(), cache_size=0) as stepper:
        stepper.open()
        stepper.start("talk", execution_id=ID)
        stepper.run()
        assert stepper.crashes.called("streams.append") == 3 + 3  # those of the two tasks
        check_stream(stepper)

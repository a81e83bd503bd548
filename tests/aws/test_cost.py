"""What a step costs: calls and bytes, counted, warm and cold, early and late."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

import mini_workflow
from mini_workflow.stores.aws.limits import SEAL_OVER
from tests.aws.counting import (
    COMPUTE,
    GIGABYTES,
    LOGGED,
    LOGS,
    OTHERS,
    POLLED,
    POLLS,
    PRICES,
    REGISTRY,
    SECONDS,
    STORES,
    cold,
    dollars,
    kinds,
)
from tests.aws.world import HOLDING, World
from tests.paths import ROOT

STEP = {"s3.PutObject": 1, "lambda.Invoke": 1, "sqs.SendMessage": 1}
DEADLINE = {"scheduler.CreateSchedule": 1}
"""What the first attempt of an execution takes on top: to be woken when its report is overdue."""

TURN_BYTES = 4_000
"""Bytes that one turn of `steps` adds to what it writes, its head included."""

DOCUMENT = ROOT / "docs" / "cost.md"


def run_to(world: World, step: int) -> None:
    """Until the result of the step before has been recorded, and the step is under way."""
    world.until(lambda: world.services.invocations["e", step, 1] == 1)


def step_of(world: World) -> tuple[Counter[str], list[int]]:
    """The calls of one step, and the bytes of each of its writes to the bucket."""
    before = len(world.calls)
    assert world.attempt()
    assert world.deliver() == 1
    sizes = zip(world.calls[before:], world.sizes[before:], strict=True)
    return world.cost(before), [size for call, size in sizes if call == "s3.PutObject"]


def test_a_step_costs_the_same_early_and_late_warm_and_cold() -> None:
    with World(REGISTRY) as world:
        world.client.start_execution("steps", 2_000, id="e")
        for step in (10, 1_000):
            run_to(world, step)
            calls, sizes = step_of(world)
            assert calls == STEP, step
            assert max(sizes) < SEAL_OVER + TURN_BYTES
            world.orchestrator.evict()
            document = world.client._parts.histories.read("e")
            assert document is not None
            calls, sizes = step_of(world)
            # The head, and every segment once.
            assert calls == {**STEP, "s3.GetObject": 1 + document.segments}, step
            assert max(sizes) < SEAL_OVER + TURN_BYTES
        writes = [n for n, call in zip(world.sizes, world.calls, strict=True) if "Put" in call]
        assert max(writes) < SEAL_OVER + TURN_BYTES
        assert sum(writes) < 1_002 * (SEAL_OVER + TURN_BYTES)
        # Almost every turn is one write: sealing takes one more for each 64 KiB of history. And the
        # first turn lists the execution.
        assert len(writes) - 1_003 == document.segments < 5


def test_a_step_of_a_workflow_that_has_continued_as_new_reads_its_run_alone() -> None:
    with World(REGISTRY) as world:
        world.client.start_execution("steps", 5, id="e")
        world.run()
        assert world.recorded("e")["TaskCompleted"] == 5
        # No GET at all but the first one, from start to end.
        assert world.cost()["s3.GetObject"] == 1


@pytest.mark.parametrize("workflow", ["steps", "naps_and_steps", "timeouts"])
def test_deadlines_cost_the_same_whatever_the_number_of_steps(workflow: str) -> None:
    """Whether or not timers come in between, and whatever the timeouts of the tasks."""
    with World(REGISTRY) as world:
        world.client.start_execution(workflow, 20, id="e")
        world.run()
        assert world.client.get_execution("e").result(timeout=0) == 20
        cost = world.cost()
        assert cost["scheduler.CreateSchedule"] == cost["scheduler.DeleteSchedule"] == 1
        assert cost["sqs.SendMessage"] == 20 + world.services.timers
        assert world.services.timers == (20 if workflow == "naps_and_steps" else 0)
        assert world.services.schedules == {}


@pytest.mark.parametrize("number", [1, 50])
def test_inline_tasks_share_one_write(number: int) -> None:
    with World(REGISTRY) as world:
        world.client.start_execution("inline", number, id="e")
        world.run()
        # One for the history, and one to be found under the status that it ends with.
        assert world.cost() == {"s3.GetObject": 1, "s3.PutObject": 2}


def test_a_wide_workflow_dispatches_in_one_turn() -> None:
    with World(REGISTRY) as world:
        world.client.start_execution("wide", 1_000, id="e")
        world.deliver()
        # The history, and the first marker in the index.
        first = {"s3.GetObject": 1, "s3.PutObject": 2, "lambda.Invoke": 1_000}
        assert world.cost() == {**first, **DEADLINE}
        while world.attempt():
            pass
        before = len(world.calls)
        world.run()
        assert world.client.get_execution("e").result(timeout=0) == 1_000
        turns = 1_000 // 10
        # A batch of ten results is one turn.
        writes = world.cost(before)["s3.PutObject"] - 1
        assert turns <= writes <= turns + 10


def test_a_child_begins_with_one_write() -> None:
    with World(REGISTRY) as world:
        world.client.start_execution("children", 1, id="e")
        world.deliver()
        before = len(world.calls)
        world.deliver()
        # The child itself, and its marker; it tells its parent.
        assert world.cost(before) == {
            "s3.GetObject": 1,
            "s3.PutObject": 2,
            "sqs.SendMessage": 1,
        }


def test_a_turn_in_a_table_is_one_small_item_and_reads_nothing() -> None:
    with World(REGISTRY, settings=STORES["dynamodb"]) as world:
        world.client.start_execution("steps", 700, id="e")
        tables = world.services.tables
        for step in (10, 600):
            run_to(world, step)
            before = len(world.calls), tables.written, tables.read
            assert world.attempt()
            assert world.deliver() == 1
            assert world.cost(before[0]) == {
                "dynamodb.PutItem": 1,
                "lambda.Invoke": 1,
                "sqs.SendMessage": 1,
            }
            assert (tables.written - before[1], tables.read - before[2]) == (1, 0)
        # What is sealed goes to the bucket, and nothing else.
        segments = [key for key in world.services.objects if "executions/" in key]
        assert len(segments) == world.cost()["s3.PutObject"] > 0
        world.orchestrator.evict()
        before = len(world.calls)
        assert world.attempt()
        assert world.deliver() == 1
        cost = world.cost(before)
        assert cost["s3.GetObject"] == len(segments)
        # The newest turns, and all others since the last segment: that is at most 64 KiB.
        assert cost["dynamodb.Query"] == 2


def test_a_small_step_and_an_inline_task_in_a_table_stay_below_their_bars() -> None:
    """A turn of a KiB, with all that it takes: what holds its messages is not among it."""
    of = kinds("dynamodb")
    assert of["step"]["written"] == 1
    assert HOLDING not in of["step"]
    assert dollars(of["step"]) <= 3.0
    assert dollars(of["inline task"]) <= 1.0


def test_the_document_says_what_was_counted() -> None:
    text = DOCUMENT.read_text()
    for store, stored in (("s3", IN_BUCKET), ("dynamodb", IN_TABLE)):
        found = table(store, stored)
        assert found in text, f"docs/cost.md must have this table:\n{found}"
    assert side_by_side() in text, f"docs/cost.md must have this table:\n{side_by_side()}"
    assert beside() in text, f"docs/cost.md must have this table:\n{beside()}"
    step = dollars(kinds()["step"])
    for name, (price, _) in OTHERS.items():
        assert f"| {name} | {price:.2f}" in text
        assert f"{price / step:.1f}" in text
    for number in (GIGABYTES, *SECONDS.values(), round(COMPUTE, 2)):
        assert f"{number:g}" in text


def side_by_side() -> str:
    """What a million cost in the bucket and in the table, by size."""
    bucket, items = kinds(), kinds("dynamodb")
    step, small = dollars(bucket["step"]), dollars(items["step"])
    rows = [
        (f"steps, a turn of {size} KiB", step, small + (size - 1) * PRICES["written"])
        for size in (1, 4, 8)
    ]
    ten = (dollars(one["start and end"]) + 10 * dollars(one["step"]) for one in (bucket, items))
    rows.append(("executions of 10 steps", *ten))
    lines = ["| USD for a million | the bucket | the table |", "| --- | ---: | ---: |"]
    return "\n".join(lines + [f"| {what} | {a:.2f} | {b:.2f} |" for what, a, b in rows])


def beside() -> str:
    """What there is to pay for beside what executions do in warm functions."""
    logs = 2 * 1e6 * LOGGED * LOGS  # of the orchestrator and of the worker
    idle = POLLS * sum(POLLED.values())
    rows = [
        (
            f"a million cold turns at step {step}",
            dollars(cold(step, "s3")),
            dollars(cold(step, "dynamodb")),
        )
        for step in (10, 600)
    ]
    rows += [
        ("the logs of a million steps", logs, logs),
        ("a month in which nothing happens", idle, idle),
    ]
    lines = ["| USD on top | the bucket | the table |", "| --- | ---: | ---: |"]
    return "\n".join(lines + [f"| {what} | {a:.2f} | {b:.2f} |" for what, a, b in rows])


IN_BUCKET = {"S3 PUT": "s3.PutObject", "S3 GET": "s3.GetObject"}
IN_TABLE = {"units written": "written", "units read": "read"}


def table(store: str, stored: dict[str, str]) -> str:
    """What is counted, and what a million of each costs."""
    shown = {**stored, "SQS send": "sqs.SendMessage", "invoke": "lambda.Invoke"}
    lines = [
        f"| a million of | {' | '.join(shown)} | turns | other | USD |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for kind, count in kinds(store).items():
        other = [
            *(["delay queue and pipe"] if count["delayed"] else []),
            *(["schedule"] if count["scheduler.CreateSchedule"] else []),
        ]
        numbers = [count[call] for call in shown.values()] + [count["orchestrator"]]
        cells = " | ".join(map(str, numbers))
        lines.append(f"| {kind} | {cells} | {', '.join(other)} | {dollars(count):.2f} |")
    return "\n".join(lines)


def test_a_warm_turn_takes_few_calls_whatever_the_number_of_steps() -> None:
    """Of the library's own Python functions; what boto3 does for a call of AWS comes on top. When a
    turn went through its events one by one, it took 523 calls at step 30 and 803 at step 100.
    """
    with World(REGISTRY) as world:
        world.client.start_execution("steps", 2_000, id="e")
        taken: list[int] = []
        for step in (30, 100):
            run_to(world, step)
            assert world.attempt()
            taken.append(calls_of_the_library(world.deliver))
        early, late = taken
        assert late <= 803 // 2
        assert late <= early + 5  # such as a sealed segment more


def calls_of_the_library(work: Callable[[], object]) -> int:
    """How many Python functions of the library are called on this thread."""
    library, calls = str(Path(mini_workflow.__file__).parent), 0

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(library)

    gc.disable()  # whose callbacks would count
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return calls

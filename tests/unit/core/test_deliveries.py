"""Outcomes that arrive together: what is done once for all of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from mini_workflow import Context, workflow
from mini_workflow.codecs.standard import StandardCodec
from mini_workflow.core import events
from mini_workflow.core.decide import Decision, decide
from mini_workflow.core.payload import Payload
from mini_workflow.core.replay import replay
from mini_workflow.core.run import Run
from mini_workflow.engine.runs import first_event
from tests.audited import audited

CODEC = StandardCodec(in_process=True)
TASKS = 50


@workflow
async def gathering(ctx: Context, tasks: int) -> list[int]:
    return await asyncio.gather(
        *[ctx.task(lambda number=number: number) for number in range(tasks)]
    )


@workflow
async def abandoning(ctx: Context, tasks: int) -> list[str]:
    """Begins a generator with each outcome, and leaves it before its end."""
    seen: list[str] = []

    async def letters(number: int) -> AsyncIterator[str]:
        try:
            yield f"a{number}"
            yield f"b{number}"
        finally:
            seen.append(f"end of {number}")

    async def one(number: int) -> None:
        await ctx.task(lambda: number)
        async for letter in letters(number):
            seen.append(letter)
            break

    await asyncio.gather(*[one(number) for number in range(tasks)])
    return seen


def begun(flow: object, tasks: int) -> tuple[Run, Decision]:
    run = Run(flow, "an-id", CODEC)  # type: ignore[arg-type]
    started = first_event(flow.name, CODEC.encode_arguments((tasks,), {}), 1_000, 5)  # type: ignore[attr-defined]
    return run, decide(run, (started,), 1_000)


def outcomes(tasks: int) -> list[events.TaskCompleted]:
    return [
        events.TaskCompleted(1_001, number, 1, Payload(str(number)))
        for number in range(1, tasks + 1)
    ]


def hooks_set(seen: list[str]) -> int:
    return sum(event.startswith("sys.set_asyncgen_hook") for event in seen)


def test_the_hooks_of_generators_are_set_once_for_outcomes_that_arrive_together() -> None:
    run, first = begun(gathering, TASKS)
    outer = sys.get_asyncgen_hooks()
    with audited() as seen:
        decision = decide(run, outcomes(TASKS), 1_001)
    assert decision.condition == "completed"
    assert hooks_set(seen) == 4  # two are set, and set back
    assert sys.get_asyncgen_hooks() == outer
    with audited() as seen:
        replayed = replay(gathering, "an-id", (*first.events, *decision.events), CODEC)
    assert replayed.fault is None
    assert hooks_set(seen) == 4
    assert sys.get_asyncgen_hooks() == outer


def test_generators_that_are_abandoned_meanwhile_are_closed_as_with_one_outcome_at_a_time() -> None:
    together, _ = begun(abandoning, 5)
    one_by_one, _ = begun(abandoning, 5)
    expected = decide(together, outcomes(5), 1_001)
    for outcome in outcomes(5):
        decision = decide(one_by_one, [outcome], 1_001)
    assert decision.events[-1] == expected.events[-1]
    assert isinstance(expected.events[-1], events.ExecutionCompleted)
    result = expected.events[-1].result.tree
    assert sorted(result) == sorted([f"a{n}" for n in range(5)] + [f"end of {n}" for n in range(5)])

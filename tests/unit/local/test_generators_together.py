"""Asynchronous generators of executions whose turns are made in one batch."""

import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from mini_workflow import Context, LocalRuntime, workflow

CLOSED: list[tuple[int, str]] = []
KEPT: list[object] = []


async def numbers(of: int, how: str) -> AsyncGenerator[int]:
    try:
        for number in range(9):
            yield number
    finally:
        CLOSED.append((of, how))


@workflow("unit.generators_together")
async def opens_two(ctx: Context, number: int) -> int:
    async for first in numbers(number, "abandoned"):  # noqa: B007
        break
    kept = numbers(number, "kept")
    KEPT.append(kept)
    second = await anext(kept)
    return await ctx.task(lambda: first + second)


def test_each_execution_closes_its_own(tmp_path: Path) -> None:
    CLOSED.clear()
    KEPT.clear()
    with LocalRuntime(tmp_path / "state.db") as runtime:
        executions = runtime.start_executions(opens_two, [(number,) for number in range(20)])
        assert [execution.result(timeout=30) for execution in executions] == [0] * 20
        # The calling thread has made the first turns.
        assert sys.get_asyncgen_hooks() == (None, None)
    assert sorted(CLOSED) == sorted((n, how) for n in range(20) for how in ("abandoned", "kept"))
    closed = [n for n, how in CLOSED if how == "abandoned"]
    assert closed == list(range(20))

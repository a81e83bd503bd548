"""96: handlers of whatever has none of its own, and the end of all handlers."""

from __future__ import annotations

from typing import Any

import pytest

from mini_workflow import ANY, Context, UsageError, workflow
from tests.behaviours.stage import Stage
from tests.waiting import WAIT


@workflow("behaviours.catches_all")
async def catches_all(ctx: Context) -> list[Any]:
    seen: list[Any] = []

    async def take(name: str, value: Any) -> None:
        seen.append((name, value))

    def refuse(name: str, by: int) -> None:
        if by < 0:
            raise ValueError(f"{name} {by}")

    async def change(name: str, by: int) -> tuple[str, int]:
        return name, await ctx.task(lambda: by + 1, name="change")

    ctx.on_signal(ANY, take)
    ctx.on_signal("own", seen.append)
    ctx.on_query(ANY, lambda name, *rest: (name, *rest, len(seen)))
    ctx.on_query("own", lambda: "own")
    ctx.on_update(ANY, change, refuse)
    await ctx.wait_for_signal("end")
    return seen


def test_96_what_has_no_handler_of_its_own(runtime: Stage) -> None:
    """A name with a handler, and a signal that the code waits for, go there and nowhere else."""
    execution = runtime.start(catches_all)
    execution.signal("a", 1)
    execution.signal("own", 2)
    execution.signal("b", 3)
    assert execution.update("raise", 4) == ("raise", 5)
    with pytest.raises(ValueError, match="lower -1"):
        execution.update("lower", -1)
    assert execution.query("total", 7) == ("total", 7, 3)
    assert execution.query("own") == "own"
    execution.signal("end")
    assert execution.result(WAIT) == [("a", 1), 2, ("b", 3)]


@workflow("behaviours.catches_late")
async def catches_late(ctx: Context) -> list[Any]:
    seen: list[Any] = []
    await ctx.wait_for_signal("go")
    ctx.on_signal(ANY, lambda name, value: seen.append((name, value)))
    with pytest.raises(UsageError, match="two arguments"):
        ctx.on_signal(ANY, lambda value: value)
    await ctx.wait_for(lambda: len(seen) == 3)
    return seen


def test_96_what_was_kept_comes_in_its_order(runtime: Stage) -> None:
    """Signals of several names that were waiting are handed over as they had arrived."""
    execution = runtime.start(catches_late)
    for name, value in (("b", 1), ("a", 2), ("b", 3), ("go", None)):
        execution.signal(name, value)
    assert execution.result(WAIT) == [("b", 1), ("a", 2), ("b", 3)]


@workflow("behaviours.waits_for_handlers")
async def waits_for_handlers(ctx: Context) -> tuple[list[Any], bool]:
    done: list[Any] = []

    async def handle(value: Any) -> None:
        await ctx.task(lambda: value, name="first")
        done.append(await ctx.task(lambda: value, name="second"))

    async def change(value: int) -> int:
        await handle(value)
        return value

    ctx.on_signal("go", handle)
    ctx.on_update("change", change)
    await ctx.wait_for(lambda: not ctx.all_handlers_finished())
    await ctx.wait_for(ctx.all_handlers_finished)
    return sorted(done), ctx.all_handlers_finished()


def test_96_all_handlers_are_done(runtime: Stage) -> None:
    """The workflow ends when its handlers have come to their own ends, and no earlier."""
    execution = runtime.start(waits_for_handlers)
    assert execution.update("change", 1) == 1
    assert execution.result(WAIT) == ([1], True)

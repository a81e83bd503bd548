"""What is read of a history to describe an execution: nothing twice, and of a closed one its ends alone."""

from __future__ import annotations

from typing import Any

import pytest

from mini_workflow import Context, workflow
from mini_workflow.engine import looks
from mini_workflow.testing import WorkflowEnvironment


@workflow("units.rounds")
async def rounds(ctx: Context, last: bool = False) -> None:
    async def step(_: Any) -> None:
        await ctx.task(str, 1, name="step")

    ctx.on_signal("next", step)
    await ctx.promise("approval")
    if not last:
        ctx.continue_as_new(last=True)


@workflow("units.fails")
async def fails(ctx: Context) -> None:
    for _ in range(20):
        await ctx.task(str, 1)
    raise ValueError("enough")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many lines of histories were read, call by call."""
    read: list[int] = []

    def count(name: str) -> None:
        call = getattr(looks.CheckedStore, name)

        def counted(*about: Any) -> list[str]:
            found: list[str] = call(*about)
            read.append(len(found))
            return found

        monkeypatch.setattr(looks.CheckedStore, name, counted)

    count("history")
    count("ends")
    return read


def test_what_was_read_is_not_read_again(lines: list[int]) -> None:
    """Of a run that goes on only what is new; the next run is read on its own."""
    promise = [("promise", "approval")]
    with WorkflowEnvironment() as env:
        execution = env.start_execution(rounds)
        for _ in range(20):
            execution.signal("next")
        env.advance(1)
        del lines[:]
        assert [(wait.kind, wait.name) for wait in execution.describe().waits] == promise
        assert max(lines) > 60
        execution.signal("next")
        env.advance(1)
        for most in (5, 1):
            del lines[:]
            assert [(wait.kind, wait.name) for wait in execution.describe().waits] == promise
            assert 0 < max(lines) <= most
        for run in (2, 3):
            (open_one,) = execution.open_promises()
            env.complete_promise(open_one.token)
            env.advance(1)
            del lines[:]
            one = execution.describe()
            assert one.run == 2
            assert one.status == ("running" if run == 2 else "completed")
            assert max(lines) <= 3


def test_the_end_is_found_at_the_end(lines: list[int]) -> None:
    """Whatever stands before it."""
    with WorkflowEnvironment() as env:
        execution = env.start_execution(fails)
        with pytest.raises(ValueError, match="enough"):
            execution.result()
        del lines[:]
        failure = execution.describe().failure
        assert failure is not None
        assert failure.message == "enough"
        assert max(lines) == looks.LAST + 1 < len(execution.history())


def test_of_one_that_runs_the_last_events_do_not_say_what_is_open(lines: list[int]) -> None:
    """What was begun first may be open still: a first look reads all of it, and a list nothing."""

    @workflow("units.open_from_the_start")
    async def open_from_the_start(ctx: Context) -> None:
        approval = ctx.promise("approval", timeout=3600)
        for _ in range(30):
            await ctx.task(str, 1)
        await ctx.promise("second")
        await approval

    with WorkflowEnvironment() as env:
        execution = env.start_execution(open_from_the_start, id="open")
        env.advance(1)
        del lines[:]
        (listed,) = env.list_executions()
        assert (listed.status, listed.waits[0].name) == ("running", "second")
        assert lines == []
        names = {wait.name for wait in execution.describe().waits}
        assert names == {"approval", "second"}
        assert max(lines) == len(execution.history())

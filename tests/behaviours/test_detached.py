"""64: executions that a workflow starts, and that go on without it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionTerminated,
    ExecutionTimeout,
    InvalidArguments,
    UsageError,
    workflow,
)
from tests.behaviours.stage import DAY, LEDGER, Stage, note
from tests.waiting import WAIT


@workflow("behaviours.started")
async def started(ctx: Context, name: str) -> str:
    await ctx.task(note, name)
    if name == "waits":
        await ctx.wait_for_signal("go")
    return f"{name}, {ctx.info.parent_id}"


@workflow("behaviours.starts_another")
async def starts_another(ctx: Context, name: str, options: dict[str, Any]) -> str:
    return ctx.start(started.bind(name), **options).id


def test_64_it_goes_on_when_its_starter_has_closed(runtime: Stage) -> None:
    """It has no parent, and a result of its own."""
    waits = runtime.run(starts_another, "waits", {})
    other = runtime.get_execution(waits)
    other.signal("go")
    assert other.result(WAIT) == "waits, None"


def test_64_the_id_is_done_once(runtime: Stage) -> None:
    """Two that start the same id start one execution; another one that has it is left alone."""
    for _ in range(2):
        assert runtime.run(starts_another, "once", {"id": "the-one"}) == "the-one"
    assert runtime.get_execution("the-one").result(WAIT) == "once, None"
    assert LEDGER == ["once"]


@workflow("behaviours.is_told")
async def is_told(ctx: Context, ids: list[str]) -> list[Any]:
    for id in ids:  # noqa: A001
        ctx.start(started, id, id=id, notify="closed")
    told = [await ctx.wait_for_signal("closed") for _ in ids]
    return sorted((value["id"], value["status"]) for value in told)


def test_64_the_starter_may_be_told_of_the_end(runtime: Stage) -> None:
    """By a signal, once for each; of an id that was taken it hears that too."""
    runtime.run(started, "taken", id="taken")
    assert runtime.run(is_told, ["a", "b", "taken"]) == [
        ("a", "completed"),
        ("b", "completed"),
        ("taken", "not started"),
    ]
    assert LEDGER.count("a") == LEDGER.count("b") == 1


@workflow("behaviours.told_in_the_next_run")
async def told_in_the_next_run(ctx: Context, runs: int = 0) -> Any:
    if runs == 0:
        ctx.start(started, "waits", id="other", notify="closed")
    if runs < 3:
        ctx.continue_as_new(runs + 1)
    ctx.execution("other").signal("go")
    return (await ctx.wait_for_signal("closed"))["status"]


def test_64_the_news_reach_the_run_that_is_under_way(runtime: Stage) -> None:
    """Unlike the result of a child, which is gone with its run."""
    assert runtime.run(told_in_the_next_run) == "completed"


@workflow("behaviours.ends_another")
async def ends_another(ctx: Context) -> Any:
    other = ctx.start(started, "waits", id="victim", notify="closed")
    other.terminate("out of the way")
    return await ctx.wait_for_signal("closed")


def test_64_it_can_be_terminated_by_a_workflow(runtime: Stage) -> None:
    """Without running its code any further."""
    assert runtime.run(ends_another) == {"id": "victim", "status": "terminated"}
    with pytest.raises(ExecutionTerminated, match="out of the way"):
        runtime.get_execution("victim").result(WAIT)


def test_64_it_may_begin_later_and_have_a_deadline(runtime: Stage) -> None:
    """The options of a start hold for it as well."""
    limit = DAY if runtime.virtual else 1
    late = runtime.run(
        starts_another, "waits", {"delay": 0.01, "timeout": timedelta(seconds=limit)}
    )
    with pytest.raises(ExecutionTimeout):
        runtime.get_execution(late).result(WAIT)


@workflow("behaviours.starts_tagged")
async def starts_tagged(ctx: Context) -> None:
    ctx.start(started, "plain", id="plain")
    ctx.start(started, "tagged", id="tagged", tags={"customer": "c-1"}, notify="closed")
    await ctx.wait_for_signal("closed")


def test_64_it_begins_with_tags_of_its_own(runtime: Stage) -> None:
    """Those of its starter are not its."""
    runtime.run(starts_tagged, id="starter", tags={"customer": "c-1", "of": "starter"})
    runtime.get_execution("plain").result(WAIT)
    found = runtime.list_executions(tags={"customer": "c-1"})
    assert {one.id: one.tags for one in found} == {
        "starter": {"customer": "c-1", "of": "starter"},
        "tagged": {"customer": "c-1"},
    }


@workflow("behaviours.wrong_starts")
async def wrong_starts(ctx: Context) -> list[str]:
    errors = []
    for options in (
        {"id": "not/an id"},
        {"notify": ""},
        {"timeout": -1},
        {"delay": "x"},
        {"tags": {"": "x"}},
    ):
        try:
            ctx.start(started.bind("wrong"), **options)
        except UsageError as error:
            errors.append(type(error).__name__)
    try:
        ctx.start(started)  # type: ignore[call-arg]
    except InvalidArguments as error:
        errors.append(type(error).__name__)
    return errors


def test_64_a_wrong_start_is_refused_at_the_call(runtime: Stage) -> None:
    """And nothing is started."""
    assert len(runtime.run(wrong_starts)) == 6
    assert LEDGER == []


@workflow("behaviours.starts_by_name")
async def starts_by_name(ctx: Context, name: str) -> str:
    return ctx.start(name, id="unknown").id


def test_64_one_whose_code_is_not_here_waits_for_it(runtime: Stage) -> None:
    """Nobody waits for it who could be told: so it is there, and is blocked."""
    runtime.run(starts_by_name, "behaviours.nobody_knows")
    other = runtime.get_execution("unknown")
    with pytest.raises(Exception, match="not registered"):
        other.result(WAIT)
    assert other.describe().status == "blocked"

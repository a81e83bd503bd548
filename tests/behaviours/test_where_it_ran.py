"""103: when an attempt really began and on which worker, and the two tracebacks of a failure, as fields."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mini_workflow import Context, RetryPolicy, current_task, workflow
from mini_workflow.ui.execution_page import ExecutionPage
from mini_workflow.ui.followed import AllFollowed
from tests.behaviours.stage import Stage, gate, go_through
from tests.waiting import WAIT, eventually


def load(path: str) -> str:
    """Fails, in a line that only the task has."""
    raise LookupError(f"no file {path}")


def gives_its_name(name: str) -> str:
    """Gives its name."""
    return name


@workflow("behaviours.fails_by_a_task")
async def fails_by_a_task(ctx: Context) -> Any:
    return await ctx.task(load, "a.csv", retry=RetryPolicy(max_attempts=1))


@workflow("behaviours.fails_by_itself")
async def fails_by_itself(ctx: Context) -> Any:
    raise LookupError("nothing to do")


@workflow("behaviours.makes_a_task")
async def makes_a_task(ctx: Context) -> Any:
    return await ctx.task(gives_its_name, "ann")


def test_103_a_failure_has_two_tracebacks(runtime: Stage) -> None:
    """That of the task and that of the workflow, each apart, and the same after another opening."""
    execution = runtime.start(fails_by_a_task)
    with pytest.raises(LookupError, match="no file"):
        execution.result(WAIT)
    runtime.reopen()
    failure = runtime.again(execution).describe().failure
    assert failure is not None
    assert (failure.type, failure.message) == ("builtins:LookupError", "no file a.csv")
    assert "in load" in failure.task_traceback
    assert "in load" not in failure.traceback
    assert "in fails_by_a_task" in failure.traceback
    assert "in fails_by_a_task" not in failure.task_traceback


def test_103_an_error_of_the_workflow_itself_has_one(runtime: Stage) -> None:
    """And an execution that has not failed has none."""
    execution = runtime.start(fails_by_itself)
    with pytest.raises(LookupError, match="nothing to do"):
        execution.result(WAIT)
    failure = execution.describe().failure
    assert failure is not None
    assert failure.task_traceback == ""
    assert "in fails_by_itself" in failure.traceback
    other = runtime.start(makes_a_task)
    assert other.result(WAIT) == "ann"
    assert other.describe().failure is None


def test_103_an_attempt_says_when_it_began_and_where(runtime: Stage) -> None:
    """What has ended and what has failed, and the same after another opening."""
    execution = runtime.start(makes_a_task)
    assert execution.result(WAIT) == "ann"
    failed = runtime.start(fails_by_a_task)
    with pytest.raises(LookupError):
        failed.result(WAIT)
    runtime.reopen()
    for one in (execution, failed):
        timeline = runtime.again(one).timeline()
        (ended,) = [e for e in timeline if e.kind in ("TaskCompleted", "TaskFailed")]
        (made,) = [e for e in timeline if e.kind == "TaskScheduled"]
        assert ended.begun is not None
        # By the clock of the worker, which may differ a little from that of the engine.
        assert made.at - SECOND <= ended.begun <= ended.at + SECOND
        assert ended.ran_on != ""
        assert made.begun is None
        assert made.ran_on == ""


SECOND = timedelta(seconds=1)


def beats(name: str) -> str:
    """Says how far it is, and waits at the gate of that name."""
    current_task().heartbeat({"rows": 7})
    return go_through(name)


def beats_at_once() -> None:
    """Says how far it is, within the turn, where nobody looks on."""
    current_task().heartbeat(1)


@workflow("behaviours.makes_a_task_that_beats")
async def makes_a_task_that_beats(ctx: Context) -> Any:
    await ctx.task(beats_at_once, inline=True)
    return await ctx.task(beats, "beats", name="load")


def test_103_the_last_heartbeat_of_a_running_attempt_is_seen(runtime: Stage) -> None:
    """From outside, also by another process; not in the history, and not once the attempt has ended."""
    execution = runtime.start(makes_a_task_that_beats)
    gate("beats").wait_until_reached()
    with runtime.beside() as other:
        seen = other.get_execution(execution.id)
        eventually(lambda: seen.describe().waits[0].heartbeat is not None)
        one = seen.describe()
        (wait,) = one.waits
        assert (wait.kind, wait.name, wait.details) == ("task", "load", {"rows": 7})
        assert wait.heartbeat is not None
        assert "its last heartbeat was" in one.sentence(wait.heartbeat)
        assert "({'rows': 7})" in one.sentence(wait.heartbeat)
        (entry,) = [e for e in seen.timeline() if e.kind == "TaskScheduled"]
        assert (entry.heartbeat, entry.details) == (wait.heartbeat, {"rows": 7})
        # The page of that process marks it on the attempt, and so does a notebook.
        page = ExecutionPage.read(AllFollowed(other), execution.id, {}, other.looks)
        told = [row.told for row in page.picture.rows if row.told]
        assert [one.partition(" ago: ")[2] for one in told] == ["{'rows': 7}"]
        assert "<title>last heartbeat" in seen._repr_html_()
    length = len(execution.history())
    gate("beats").open()
    assert execution.result(WAIT) == "beats"
    assert execution.describe().waits == ()
    assert [e.heartbeat for e in execution.timeline()] == [None] * len(execution.timeline())
    assert (
        length == len([e for e in execution.history() if type(e).__name__ != "TaskCompleted"]) - 1
    )

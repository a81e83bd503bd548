"""103: when an attempt really began and on which worker, and the two tracebacks of a failure, as fields."""

from __future__ import annotations

from typing import Any

import pytest

from mini_workflow import Context, RetryPolicy, workflow
from tests.behaviours.stage import Stage
from tests.waiting import WAIT


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
        assert made.at <= ended.begun <= ended.at
        assert ended.ran_on != ""
        assert made.begun is None
        assert made.ran_on == ""

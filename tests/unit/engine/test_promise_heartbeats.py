"""Heartbeats of promises over time, which is the test's own: to the millisecond, through evictions, blocks
and another run.
"""

from __future__ import annotations

from typing import Any

import pytest

from mini_workflow import Context, PromiseTimeout, ValueTooLarge, workflow
from mini_workflow.testing import WorkflowEnvironment


@workflow("heartbeats.promised")
async def promised(ctx: Context, timeout: float | None, heartbeat: float | None) -> Any:
    paid = ctx.promise("paid", timeout=timeout, heartbeat=heartbeat)
    ctx.on_query("token", lambda: paid.token)
    return await paid


@pytest.fixture(params=[100, 0])
def env(request: pytest.FixtureRequest) -> Any:
    with WorkflowEnvironment(cache_size=request.param) as made:
        yield made


def test_heartbeats_have_a_promise_live_on_as_long_as_they_come(env: WorkflowEnvironment) -> None:
    execution = env.start_execution(promised, 10_000, 600)
    token = execution.query("token")
    for _ in range(10):
        env.advance(599)
        env.heartbeat_promise(token)
    env.advance(599)
    assert execution.describe().status == "running"
    env.advance(1)
    with pytest.raises(PromiseTimeout, match="no heartbeat came for 600 s"):
        execution.result()


def test_heartbeats_do_not_go_beyond_the_timeout(env: WorkflowEnvironment) -> None:
    execution = env.start_execution(promised, 1000, 600)
    token = execution.query("token")
    env.advance(500)
    env.heartbeat_promise(token)
    (one,) = execution.open_promises()
    assert one.until is not None
    env.advance(499)
    assert execution.describe().status == "running"
    env.advance(1)
    with pytest.raises(PromiseTimeout, match="was not completed within 1000 s"):
        execution.result()


def test_who_was_paused_has_missed_no_heartbeat(env: WorkflowEnvironment) -> None:
    execution = env.start_execution(promised, None, 600)
    token = execution.query("token")
    execution.pause("to look at it")
    env.heartbeat_promise(token)
    env.advance(3600)
    execution.resume()
    env.advance(599)
    assert execution.describe().status == "running"
    env.heartbeat_promise(token)
    env.advance(599)
    env.complete_promise(token, "still there")
    assert execution.result() == "still there"


def test_a_retry_waits_for_the_promise_once_more(env: WorkflowEnvironment) -> None:
    """As long as at first, and it can be completed then by the token that there was."""
    execution = env.start_execution(promised, 1000, 600)
    token = execution.query("token")
    env.advance(500)
    env.heartbeat_promise(token, "half")
    env.advance(500)
    with pytest.raises(PromiseTimeout):
        execution.result()
    env.advance(5000)
    execution.retry()
    (one,) = execution.open_promises()
    assert one.details is None
    env.advance(599)
    env.heartbeat_promise(token)
    env.advance(400)
    env.complete_promise(token, "in the end")
    assert execution.result() == "in the end"


def test_a_failed_task_beside_it_is_retried_with_the_promise_open(env: WorkflowEnvironment) -> None:
    broken = [True]

    @workflow("heartbeats.beside")
    async def beside(ctx: Context) -> Any:
        paid = ctx.promise("paid", heartbeat=600)
        ctx.on_query("token", lambda: paid.token)

        def charge() -> None:
            if broken:
                raise ConnectionError("no answer")

        await ctx.sleep(100)
        await ctx.task(charge)
        return await paid

    execution = env.start_execution(beside)
    token = execution.query("token")
    env.advance(100)
    with pytest.raises(ConnectionError):
        execution.result()
    env.advance(5000)
    broken.clear()
    execution.retry()
    env.advance(599)
    env.heartbeat_promise(token)
    env.advance(599)
    env.complete_promise(token, 1)
    assert execution.result() == 1


def test_details_have_a_bound(env: WorkflowEnvironment) -> None:
    execution = env.start_execution(promised, None, 600)
    token = execution.query("token")
    with pytest.raises(ValueTooLarge, match="take 5,002 bytes, and 4,096 are the most"):
        env.heartbeat_promise(token, "x" * 5000)


def test_very_many_heartbeats_leave_one(env: WorkflowEnvironment) -> None:
    """Neither the history nor what is kept beside it grows, also while an earlier timer is open."""
    execution = env.start_execution(promised, None, 3600)
    token = execution.query("token")
    length = len(execution.history())
    for number in range(300):
        env.heartbeat_promise(token, number)
    assert len(execution.history()) == length
    (one,) = execution.open_promises()
    assert one.details == 299


@pytest.mark.parametrize("limits", [{"timeout": 0}, {"heartbeat": -1}, {"timeout": "soon"}])
def test_limits_that_are_none_are_refused(env: WorkflowEnvironment, limits: dict[str, Any]) -> None:
    @workflow("heartbeats.refused")
    async def refused(ctx: Context) -> None:
        ctx.promise("paid", **limits)

    with pytest.raises(Exception, match=r"more than 0 seconds|is not a duration"):
        env.start_execution(refused).result()

"""101: who has asked for an action, where the caller says so."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from mini_workflow import Context, ExecutionCancelled, ExecutionTerminated, UsageError, workflow
from tests.behaviours.stage import Stage
from tests.waiting import WAIT, eventually


@workflow("behaviours.is_steered")
async def is_steered(ctx: Context) -> Any:
    return await ctx.wait_for_signal("end")


def asked(execution: Any, kind: str) -> list[str]:
    """Who has asked for what is recorded of that kind."""
    return [e.asked_by for e in execution.history() if type(e).__name__ == kind]


def test_101_who_has_asked_is_recorded(runtime: Stage) -> None:
    """A request to cancel, a termination, a retry and a restart say by whom, in every run that has them."""
    execution = runtime.start(is_steered)
    execution.cancel("too dear", by="ann")
    with pytest.raises(ExecutionCancelled):
        execution.result(WAIT)
    runtime.reopen()
    execution = runtime.again(execution)
    assert asked(execution, "CancelRequested") == ["ann"]
    assert "too dear (by ann)" in {entry.note for entry in execution.timeline()}

    execution.retry(by="ben")
    eventually(lambda: asked(execution, "ExecutionReset") == ["ben"])
    execution.terminate("a mistake", by="cem")
    with pytest.raises(ExecutionTerminated, match="a mistake"):
        execution.result(WAIT)
    assert asked(execution, "ExecutionTerminated") == ["cem"]

    execution.restart(by="dora")
    eventually(lambda: asked(execution, "ExecutionReset") == ["dora"])
    execution.signal("end", 1)
    assert execution.result(WAIT) == 1


def test_101_a_pause_says_by_whom(runtime: Stage) -> None:
    """Where its reason is told, since no event is recorded of it; nobody need say who he is."""
    execution = runtime.start(is_steered)
    execution.pause("the shop moves", by="ann")
    reason = eventually(lambda: execution.describe().blocked_reason)
    assert "the shop moves (by ann)" in reason
    execution.resume()
    execution.signal("end", 2)
    assert execution.result(WAIT) == 2
    execution.restart()
    eventually(lambda: asked(execution, "ExecutionReset") == [""])


@pytest.mark.parametrize("action", ["cancel", "terminate", "pause", "retry", "restart"])
def test_101_who_asks_is_a_text(runtime: Stage, action: str) -> None:
    """Anything else, and what is very long, is an error that changes nothing."""
    execution = runtime.start(is_steered)
    for wrong in (5, "x" * 201):
        with pytest.raises(UsageError, match="name as a text of at most"):
            getattr(execution, action)(by=wrong)
    execution.signal("end", 3)
    assert execution.result(WAIT) == 3


@workflow("behaviours.is_asked")
async def is_asked(ctx: Context) -> Any:
    promise = ctx.promise("approval")

    def add(number: int) -> int:
        return number + 1

    ctx.on_update("add", add)
    ctx.on_query("token", lambda: promise.token)
    value = await promise
    return value, await ctx.wait_for_signal("end")


def test_101_who_sends_a_message_is_recorded(runtime: Stage) -> None:
    """A signal, an update and a promise's value say by whom, also where they begin the execution."""
    execution = runtime.signal_with_start(is_asked, id="asked-1", signal="early", value=1, by="ann")
    execution.signal("early", 2, by="ben")
    execution.signal("early", 3)
    assert execution.update("add", 4, asked_by="cem") == 5
    handle = runtime.update_with_start(
        is_asked, id="asked-1", update="add", update_args=(5,), by="dora"
    )
    assert handle.result(WAIT) == 6
    assert execution.start_update("add", 6, asked_by="eva").result(WAIT) == 7
    runtime.complete_promise(execution.query("token"), "yes", by="finn")
    execution.signal("end", 7, by="gil")
    assert execution.result(WAIT) == ("yes", 7)
    runtime.reopen()
    execution = runtime.again(execution)
    assert asked(execution, "SignalReceived") == ["ann", "ben", "", "gil"]
    assert asked(execution, "UpdateAccepted") == ["cem", "dora", "eva"]
    assert asked(execution, "PromiseCompleted") == ["finn"]

    other = runtime.update_with_start(
        is_asked, id="asked-2", update="add", update_args=(1,), by="hal"
    )
    assert other.result(WAIT) == 2
    token = other.execution.query("token")
    runtime.fail_promise(token, "no", by="ida")
    with pytest.raises(RuntimeError, match="no"):
        other.execution.result(WAIT)
    assert asked(other.execution, "UpdateAccepted") == ["hal"]
    assert asked(other.execution, "PromiseFailed") == ["ida"]


def test_101_who_asks_for_a_fork_is_recorded(runtime: Stage) -> None:
    """And the fork says of which execution it is one."""
    execution = runtime.start(is_steered)
    execution.signal("end", 1)
    assert execution.result(WAIT) == 1
    fork = execution.fork(at=1, by="ann")
    assert fork.describe().forked_from == execution.id
    assert execution.describe().forked_from is None
    fork.signal("end", 2)
    assert fork.result(WAIT) == 2
    assert asked(fork, "ExecutionReset") == ["ann"]
    runtime.reopen()
    assert runtime.again(fork).describe().forked_from == execution.id


@workflow("behaviours.is_continued")
async def is_continued(ctx: Context, run: int = 1) -> int:
    await ctx.wait_for_signal("end")
    if run < 2:
        ctx.continue_as_new(run + 1)
    return run


def test_101_a_fork_is_one_in_every_run(runtime: Stage) -> None:
    """It says of which execution it is a fork after it has continued as new, and was run again, too."""
    execution = runtime.start(is_continued)
    fork = execution.fork(at=1)
    fork.signal("end")
    fork.signal("end")
    assert fork.result(WAIT) == 2
    assert (fork.describe().run, fork.describe().forked_from) == (2, execution.id)
    fork.restart()
    eventually(lambda: fork.describe().run == 3)
    assert fork.describe().forked_from == execution.id
    execution.terminate()


def test_101_who_deletes_and_resumes_is_logged_and_why(
    runtime: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Since no event is left that could say it."""
    one, other = runtime.start(is_steered), runtime.start(is_steered)
    with caplog.at_level(logging.INFO, "mini_workflow.engine.executions"):
        one.pause("for now")
        eventually(lambda: one.describe().blocked_reason)
        one.resume(by="ann")
        for each in (one, other):
            each.signal("end", 1)
            assert each.result(WAIT) == 1
        one.delete("a test", by="ben")
        assert runtime.purge(older_than=0, reason="too\x1bold", by="cem") == 1
    told = [r for r in caplog.records if hasattr(r, "asked_by")]
    assert [(r.execution_id, r.asked_by, r.reason) for r in told] == [
        (one.id, "ann", ""),
        (one.id, "ben", "a test"),
        (other.id, "cem", "too\x1bold"),
    ]
    assert [r.getMessage().partition("] ")[2] for r in told] == [
        "was asked to resume by ann",
        "was asked to delete by ben: a test",
        "was asked to delete by cem: too\\x1bold",
    ]


def test_101_a_reason_alone_is_logged(runtime: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Also where nobody says who asks."""
    execution = runtime.start(is_steered)
    execution.signal("end", 1)
    assert execution.result(WAIT) == 1
    with caplog.at_level(logging.INFO, "mini_workflow.engine.executions"):
        for wrong in (5, None):
            with pytest.raises(UsageError, match="is not a reason: give a text"):
                execution.delete(wrong)  # type: ignore[arg-type]
        execution.delete("a test")
    assert f"[{execution.id}] was asked to delete: a test" in caplog.text


def test_101_who_sends_is_a_text(runtime: Stage) -> None:
    """Anything else, and what is very long, is an error that changes nothing."""
    execution = runtime.start(is_steered)
    for wrong in (5, "x" * 201):
        for ask in (
            lambda by: execution.signal("end", 1, by=by),
            lambda by: execution.update("add", 1, asked_by=by),
            lambda by: execution.start_update("add", 1, asked_by=by),
            lambda by: execution.fork(at=1, by=by),
            lambda by: execution.resume(by=by),
            lambda by: execution.delete(by=by),
            lambda by: runtime.signal_with_start(is_steered, id=execution.id, signal="end", by=by),
            lambda by: runtime.update_with_start(is_steered, id=execution.id, update="add", by=by),
            lambda by: runtime.purge(older_than=0, by=by),
            lambda by: runtime.complete_promise("a~1~b", 1, by=by),
            lambda by: runtime.fail_promise("a~1~b", "why", by=by),
        ):
            with pytest.raises(UsageError, match="name as a text of at most"):
                ask(wrong)
    execution.signal("end", 3)
    assert execution.result(WAIT) == 3

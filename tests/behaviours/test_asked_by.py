"""101: who has asked for an action, where the caller says so."""

from __future__ import annotations

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
        with pytest.raises(UsageError, match="say who asks for it as a text"):
            getattr(execution, action)(by=wrong)
    execution.signal("end", 3)
    assert execution.result(WAIT) == 3

"""An execution that waits for its own slot, as the core decides it: what it costs, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from mini_workflow import Context, Limit, UsageError
from mini_workflow.codecs import StandardCodec
from mini_workflow.core import commands, events, limit, wire
from mini_workflow.core.decide import Decision, decide
from mini_workflow.core.history import History
from mini_workflow.core.replay import replay
from mini_workflow.core.run import Run
from mini_workflow.workflow import Workflow

Limit("unit.own", concurrency=1)
CODEC = StandardCodec()
ID = "x-1"
AS = f"{ID}/7/own"


async def listens(ctx: Context) -> Any:
    return await ctx.wait_for_signal("go")


def begun(**fields: Any) -> tuple[Run, Decision]:
    """A run that has taken its first event."""
    run = Run(Workflow("listens", listens), ID, CODEC)
    arguments = CODEC.encode([[], {}], "arguments")
    first = events.ExecutionStarted(1_000, "listens", arguments, 7, **fields)
    return run, decide(run, [first])


def said(decision: Decision) -> list[dict[str, Any]]:
    """What limits are told."""
    return [
        command.message.value.tree
        for command in decision.commands
        if isinstance(command, commands.SendMessage)
        and isinstance(command.message, events.SignalReceived)
    ]


def granted(at: int = 2_000) -> events.SlotsGranted:
    return events.SlotsGranted(at, "unit.own", AS, [["k", 0, 1]])


OWN = {"name": "unit.own", "key": "k"}


def test_it_asks_once_and_has_nothing_under_way() -> None:
    run, decision = begun(limit=OWN)
    assert [type(event).__name__ for event in decision.events] == ["ExecutionStarted", "StartSent"]
    assert (decision.busy, decision.wake_at) == (False, None)
    (asked,) = said(decision)
    assert (asked["as"], asked["lines"]) == (AS, [["k", 0, 1, 0, 0]])
    assert run.main is None
    run.close()


def test_its_deadline_begins_with_its_code() -> None:
    run, decision = begun(limit=OWN, timeout=500)
    assert decision.wake_at is None
    decision = decide(run, [granted(2_000)])
    assert run.main is not None
    assert decision.wake_at == 2_500
    assert said(decision) == []
    assert decide(run, [granted()]).events == ()
    run.close()


def test_a_cancellation_while_it_waits_gives_up_its_place() -> None:
    run, _ = begun(limit=OWN)
    decision = decide(run, [events.CancelRequested(1_500, "not needed")])
    assert decision.condition == "cancelled"
    assert said(decision) == [{"from": ID, "as": AS}]
    assert decide(run, [granted()]).events == ()
    run.close()


def test_one_that_is_handed_on_is_held_and_nothing_is_told() -> None:
    run, decision = begun(limit={**OWN, "held": "5"}, first_seq=4)
    assert run.main is not None
    assert said(decision) == []
    ended = decide(run, [events.ExecutionTerminated(3_000)])
    assert said(ended) == [{"from": ID, "as": f"{ID}/5/own"}]
    run.close()


def test_a_limit_that_is_not_declared_blocks_it() -> None:
    """Where the code runs: the client may know another one."""
    run, decision = begun(limit={"name": "unit.undeclared"})
    assert isinstance(decision.fault, UsageError)
    assert "no limit 'unit.undeclared' is declared" in str(decision.fault)
    assert [type(event).__name__ for event in decision.events] == ["ExecutionStarted"]
    run.close()


async def starts(ctx: Context) -> Any:
    ctx.start("listens", id="other", queue="unit.own", limit_key="k")
    return await ctx.child("listens", id="child", queue="unit.own")


def test_what_it_has_started_is_not_refused_when_the_limit_is_no_longer_declared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The history has it: a replay makes nothing of its own."""
    run = Run(Workflow("starts", starts), ID, CODEC)
    first = events.ExecutionStarted(1_000, "starts", CODEC.encode([[], {}], "arguments"), 7)
    history = decide(run, [first]).events
    run.close()
    assert [getattr(event, "limit", None) for event in history[1:]] == [OWN, {"name": "unit.own"}]
    monkeypatch.delitem(limit._DECLARED, "unit.own")
    again = replay(
        Workflow("starts", starts), ID, History.from_lines(map(wire.encode, history)), CODEC
    )
    assert decide(again, []).fault is None
    again.close()
    fresh = Run(Workflow("starts", starts), ID, CODEC)
    ended = decide(fresh, [first])
    fresh.close()
    assert "ctx.start: no limit 'unit.own' is declared" in str(ended.events[-1])


async def refused(ctx: Context) -> Any:
    said: list[str] = []
    for start in (ctx.child, ctx.start):
        try:
            start("listens", queue="unit.undeclared")
        except UsageError as error:
            said.append(str(error))
    try:
        await ctx.task(len, "abc", limit="unit.undeclared")
    except UsageError as error:
        said.append(str(error))
    await ctx.sleep(1)
    return said


def test_what_was_refused_is_refused_again() -> None:
    """It is in no history, and what follows it is."""
    run = Run(Workflow("refused", refused), ID, CODEC)
    first = events.ExecutionStarted(1_000, "refused", CODEC.encode([[], {}], "arguments"), 7)
    history = decide(run, [first]).events
    run.close()
    assert [type(event).__name__ for event in history] == ["ExecutionStarted", "TimerStarted"]
    again = replay(
        Workflow("refused", refused), ID, History.from_lines(map(wire.encode, history)), CODEC
    )
    assert decide(again, []).fault is None
    again.close()

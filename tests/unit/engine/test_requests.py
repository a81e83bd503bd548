"""What callers are told, and that requests in one batch do not get into each other's way."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mini_workflow.context import Context
from mini_workflow.errors import (
    ExecutionAlreadyExists,
    ExecutionClosed,
    ExecutionNotFound,
    UnknownWorkflow,
)
from mini_workflow.ports import TaskOutcome
from mini_workflow.testing.simulation import corpus
from mini_workflow.workflow import Registry, Workflow
from tests.unit.engine.harness import ID, in_memory, is_answered, stepping


async def keyboard(ctx: Context) -> None:
    raise KeyboardInterrupt


async def keyboard_later(ctx: Context) -> None:
    await ctx.task(corpus.SHAPES.__len__, name="first")
    raise KeyboardInterrupt


async def exits(ctx: Context) -> None:
    raise SystemExit(3)


async def deadlock(ctx: Context) -> None:
    await asyncio.Event().wait()


async def unreturnable(ctx: Context) -> Any:
    return threading.Lock()


def registry(*handlers: Any) -> Registry:
    made = corpus.registry()
    for handler in handlers:
        made.add(Workflow(handler.__name__, handler))
    return made


def test_start_twice_in_one_batch_is_one_execution() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        starts = [stepper.start("sequence", execution_id=ID) for _ in range(3)]
        stepper.run()
        assert [start.reply.wait(0).head.execution_id for start in starts] == [ID] * 3
        assert stepper.outcome(ID) == [0, 1, 2, 3]
        again = stepper.start("sequence", execution_id=ID)
        stepper.settle()
        assert again.reply.wait(0).head.status == "completed"


@pytest.mark.parametrize("together", [True, False])
def test_id_of_another_execution_is_refused(together: bool) -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("sequence", execution_id=ID)
        if not together:
            stepper.settle()
        other = stepper.start("nothing", execution_id=ID)
        arguments = stepper.start("sequence", 1, execution_id=ID)
        stepper.settle()
        with pytest.raises(ExecutionAlreadyExists, match="'sequence', not 'nothing'"):
            other.reply.wait(0)
        with pytest.raises(ExecutionAlreadyExists, match="other arguments"):
            arguments.reply.wait(0)


def test_unknown_workflow_disturbs_nobody() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        unknown = stepper.start("no-such", execution_id="a")
        start = stepper.start("sequence", execution_id=ID)
        stepper.run()
        with pytest.raises(UnknownWorkflow):
            unknown.reply.wait(0)
        assert start.reply.wait(0).head.execution_id == ID
        assert stepper.head("a") is None
        assert stepper.outcome(ID) == [0, 1, 2, 3]


def test_termination_right_behind_the_start() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        start, end = stepper.start("sequence", execution_id=ID), stepper.terminate(ID)
        stepper.run()
        assert start.reply.wait(0).head.status == "running"
        assert end.reply.wait(0).status == "terminated"
        assert stepper.outcome(ID) == "ExecutionTerminated"


def test_termination_before_the_start_is_of_no_execution() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        end, start = stepper.terminate(ID), stepper.start("sequence", execution_id=ID)
        stepper.run()
        with pytest.raises(ExecutionNotFound):
            end.reply.wait(0)
        assert start.reply.wait(0).head.execution_id == ID
        assert stepper.outcome(ID) == [0, 1, 2, 3]


def test_requests_to_a_closed_execution_are_told_so() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("nothing", execution_id=ID)
        stepper.settle()
        lines = stepper.lines(ID)
        requests = [stepper.terminate(ID), stepper.resume(ID)]
        stepper.settle()
        for request in requests:
            with pytest.raises(ExecutionClosed):
                request.reply.wait(0)
        assert stepper.lines(ID) == lines


def test_termination_cancels_what_is_in_flight_and_ignores_what_still_comes() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("fan_out", execution_id=ID)
        stepper.settle()
        twice = [stepper.terminate(ID, "enough"), stepper.terminate(ID, "more")]
        stepper.settle()
        assert [request.reply.wait(0).status for request in twice] == ["terminated"] * 2
        assert stepper.crashes.called("runner.cancel") == 5
        lines = stepper.lines(ID)
        stepper.run()
        assert stepper.lines(ID) == lines
        assert stepper.faults(ID) == []
        assert stepper.engine.in_flight == 0


def test_termination_behind_the_last_outcome_comes_too_late() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("fan_out", execution_id=ID)
        stepper.settle()
        for request in stepper.runner.ready():
            stepper.runner.run(request)
        end = stepper.terminate(ID)
        stepper.settle()
        with pytest.raises(ExecutionClosed, match="completed"):
            end.reply.wait(0)
        assert stepper.outcome(ID) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (keyboard, "DeterminismError"),
        (deadlock, "WorkflowDeadlock"),
    ],
)
def test_first_turn_that_fails_blocks_its_execution_alone(handler: Any, kind: str) -> None:
    with stepping(in_memory, registry=registry(handler)) as stepper:
        stepper.open()
        bad = stepper.start(handler.__name__, execution_id="bad")
        good = stepper.start("sequence", execution_id=ID)
        stepper.run()
        assert bad.reply.wait(0).head.status == "blocked"
        assert good.reply.wait(0).head.status == "running"
        head = stepper.head("bad")
        assert head is not None
        assert head.blocked_kind == kind
        assert len(stepper.lines("bad")) == 1
        assert stepper.outcome(ID) == [0, 1, 2, 3]


@pytest.mark.parametrize("cache_size", [0, 10])
def test_turn_that_is_interrupted_blocks_its_execution_alone(cache_size: int) -> None:
    made = registry(keyboard_later)
    with stepping(in_memory, registry=made, cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start("keyboard_later", execution_id="bad")
        stepper.start("sequence", execution_id=ID)
        stepper.settle()
        for request in stepper.runner.ready():
            stepper.runner.run(request)
        stepper.run()
        head = stepper.head("bad")
        assert head is not None
        assert head.blocked_kind == "DeterminismError"
        assert "KeyboardInterrupt" in (head.blocked_reason or "")
        assert len(stepper.backend.store.load("bad").parked) == 1  # type: ignore[union-attr]
        assert stepper.outcome(ID) == [0, 1, 2, 3]


def test_result_that_cannot_be_encoded_fails_its_execution_alone() -> None:
    with stepping(in_memory, registry=registry(unreturnable, exits)) as stepper:
        stepper.open()
        stepper.start("unreturnable", execution_id="bad")
        stepper.start("exits", execution_id="exits")
        stepper.start("sequence", execution_id=ID)
        stepper.run()
        assert "NotSerializable" in stepper.outcome("bad")
        assert stepper.outcome("exits") == "builtins:SystemExit"
        assert stepper.outcome(ID) == [0, 1, 2, 3]


def test_outcomes_of_nothing_are_ignored() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        start = stepper.start("sequence", execution_id=ID)
        stepper.settle()
        lines = stepper.lines(ID)
        for outcome in (
            TaskOutcome("nobody", 1, 1, result="1"),
            TaskOutcome(ID, 99, 1, result="1"),
            TaskOutcome(ID, 1, 2, result="1"),
            TaskOutcome(ID, 1, 0, result="1"),
        ):
            stepper.inbox.append(outcome)
            stepper.settle()
        assert stepper.lines(ID) == lines
        assert is_answered(start.reply)
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 2, 3]


def test_time_going_backwards_delays_nothing() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.start("sequence", execution_id=ID)
        stepper.settle()
        stepper.clock.advance(-3_600_000)
        stepper.start("sequence", execution_id="y")
        request = stepper.terminate("y")
        stepper.settle()
        assert request.reply.wait(0).status == "terminated"
        deadline = stepper.engine.deadline()
        assert deadline is not None
        assert deadline - stepper.clock.now() < 1_000
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 2, 3]
        assert stepper.faults(ID) == []

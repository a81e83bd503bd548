"""Blocked, not lost: what cannot go on keeps its history and what arrives, and goes on when fixed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mini_workflow.context import Context
from mini_workflow.errors import ChildFailed, PayloadNotReadable, PromiseNotOpen
from mini_workflow.stores.memory import MemoryBackend, MemoryState
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.outside import Say
from mini_workflow.testing.simulation.shapes import broken, step
from mini_workflow.testing.simulation.stepping import LEASE, Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.unit.engine.harness import ID, Files, MakeState, in_memory, stepping


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeState:
    return in_memory if request.param == "memory" else Files(tmp_path)


async def two_steps(ctx: Context) -> list[int]:
    return [await step(ctx, "one", 1), await step(ctx, "two", 2)]


async def renamed(ctx: Context) -> list[int]:
    return [await step(ctx, "eins", 1), await step(ctx, "zwei", 2)]


async def three_at_once(ctx: Context) -> list[int]:
    return list(await asyncio.gather(*(step(ctx, "one", i) for i in range(3))))


async def good_neighbour(ctx: Context) -> int:
    return await step(ctx, "neighbour", 1)


async def retrying(ctx: Context) -> str:
    try:
        await ctx.task(broken, "no")
    except ValueError:
        return await step(ctx, "after", "after")
    return "never"


def registered(**handlers: Any) -> Registry:
    made = Registry()
    made.add(Workflow("neighbour", good_neighbour))
    for name, handler in handlers.items():
        made.add(Workflow(name, handler))
    return made


def started(stepper: Stepper, workflow: str = "flow") -> None:
    stepper.open()
    stepper.start(workflow, execution_id=ID)
    stepper.start("neighbour", execution_id="n")
    stepper.settle()


def is_blocked(stepper: Stepper, kind: str) -> None:
    head = stepper.head(ID)
    assert head is not None
    assert (head.status, head.blocked_kind) == ("blocked", kind)
    assert not head.busy
    assert head.wake_at is None
    assert head.closed_at is None
    assert kind in (head.blocked_reason or "")


def reopen(stepper: Stepper, how: str, registry: Registry) -> None:
    if how == "crash":
        stepper.crash()
    else:
        stepper.close()
    stepper.registry = registry
    stepper.open()
    stepper.settle()


@pytest.mark.parametrize("how", ["crash", "close"])
def test_changed_code_blocks_and_the_old_code_goes_on(make: MakeState, how: str) -> None:
    with stepping(make, registry=registered(flow=two_steps)) as stepper:
        started(stepper)
        before = stepper.lines(ID)
        reopen(stepper, how, registered(flow=renamed))
        stepper.run()
        is_blocked(stepper, "NonDeterminismError")
        assert stepper.outcome("n") == 1
        kept = stepper.lines(ID)
        assert kept[: len(before)] == before
        request = stepper.resume(ID)
        stepper.settle()
        assert request.reply.wait(0).status == "blocked"
        reopen(stepper, how, registered(flow=two_steps))
        is_blocked(stepper, "NonDeterminismError")
        request = stepper.resume(ID)
        stepper.settle()
        assert request.reply.wait(0).status == "running"
        stepper.run()
        assert stepper.outcome(ID) == [1, 2]
        assert stepper.faults(ID) == []
        assert stepper.lines(ID)[: len(kept)] == kept


async def needs_one_more(ctx: Context, n: int) -> list[int]:
    return [await step(ctx, "one", n), await step(ctx, "two", 2)]


async def has_a_default(ctx: Context, n: int = 1) -> list[int]:
    return await needs_one_more(ctx, n)


@pytest.mark.parametrize("how", ["crash", "close"])
@pytest.mark.parametrize("when", ["replay", "first run"])
def test_arguments_that_no_longer_fit(make: MakeState, how: str, when: str) -> None:
    """Whether the code has run before or only the start is recorded: nothing is lost."""
    first = two_steps if when == "replay" else needs_one_more
    with Ledger() as ledger, stepping(make, registry=registered(flow=first)) as stepper:
        started(stepper)
        reopen(stepper, how, registered(flow=needs_one_more))
        stepper.run()
        is_blocked(stepper, "InvalidArguments")
        head = stepper.head(ID)
        assert head is not None
        assert "'n'" in str(head.blocked_reason)
        assert repr(ID) in str(head.blocked_reason)
        assert stepper.outcome("n") == 1
        reopen(stepper, how, registered(flow=has_a_default))
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == [1, 2]
        assert stepper.faults(ID) == []
        assert ledger.names(ID)["one"] <= 2


def test_the_next_run_no_longer_fits(make: MakeState) -> None:
    """The engine dies behind the end of a run, and the next one begins under new code."""

    async def again(ctx: Context, n: int) -> list[int]:
        if n == 0:
            ctx.continue_as_new(n + 1)
        return [await step(ctx, "one", n)]

    async def renamed_parameter(ctx: Context, *, number: int) -> list[int]: ...

    with stepping(make, registry=registered(flow=again)) as stepper:
        stepper.open()
        stepper.start("flow", 0, execution_id=ID)
        stepper.process()
        assert len(stepper.lines(ID)) == 1
        reopen(stepper, "crash", registered(flow=renamed_parameter))
        is_blocked(stepper, "InvalidArguments")
        reopen(stepper, "close", registered(flow=again))
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == [1]


def test_a_child_that_cannot_be_called_is_told_to_its_parent(make: MakeState) -> None:
    """Nothing is there yet that could be blocked."""

    async def parent(ctx: Context) -> str:
        try:
            await ctx.child("neighbour", 1, 2, 3, id="c")
        except ChildFailed as error:
            return repr(error.__cause__)
        return "?"

    with stepping(make, registry=registered(flow=parent)) as stepper:
        started(stepper)
        stepper.run()
        assert "too many positional arguments" in str(stepper.outcome(ID))
        assert stepper.head("c") is None


@pytest.mark.parametrize("how", ["crash", "close"])
def test_registration_at_reopening_unblocks_an_unknown_workflow(make: MakeState, how: str) -> None:
    with stepping(make, registry=registered(flow=two_steps)) as stepper:
        started(stepper)
        reopen(stepper, how, registered())
        stepper.run()
        is_blocked(stepper, "UnknownWorkflow")
        assert stepper.outcome("n") == 1
        reopen(stepper, how, registered())
        is_blocked(stepper, "UnknownWorkflow")
        reopen(stepper, how, registered(flow=two_steps))
        stepper.run()
        assert stepper.outcome(ID) == [1, 2]
        assert stepper.faults(ID) == []


def test_unknown_workflow_that_sleeps_blocks_when_its_time_comes(make: MakeState) -> None:
    async def sleeper(ctx: Context) -> int:
        await ctx.sleep(3600)
        return 5

    with stepping(make, registry=registered(flow=sleeper)) as stepper:
        started(stepper)
        reopen(stepper, "close", registered())
        head = stepper.head(ID)
        assert head is not None
        assert head.status == "running"
        stepper.run()
        is_blocked(stepper, "UnknownWorkflow")
        reopen(stepper, "crash", registered(flow=sleeper))
        stepper.run()
        assert stepper.outcome(ID) == 5


def test_messages_are_parked_in_order_and_taken_in_order(make: MakeState) -> None:
    """Three attempts end while the execution is blocked: the attempts count, nothing is lost."""
    with Ledger() as ledger, stepping(make, registry=registered(flow=three_at_once)) as stepper:
        started(stepper)
        stepper.registry = registered(flow=renamed)
        stepper.engine.evict()
        requests = [r for r in stepper.runner.ready() if r.execution_id == ID]
        for request in reversed(requests):
            stepper.runner.run(request)
            stepper.settle()
        is_blocked(stepper, "NonDeterminismError")
        parked = stepper.backend.store.load(ID).parked  # type: ignore[union-attr]
        assert len(parked) == 3
        assert ['"seq":3' in parked[0], '"seq":2' in parked[1], '"seq":1' in parked[2]] == [
            True
        ] * 3
        reopen(stepper, "crash", registered(flow=three_at_once))
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 2]
        assert stepper.faults(ID) == []
        assert ledger.names(ID) == {"one": 3}
        assert stepper.backend.store.load(ID).parked == []  # type: ignore[union-attr]


def test_attempts_go_on_while_blocked_and_are_not_taken_for_lost(make: MakeState) -> None:
    with Ledger() as ledger, stepping(make, registry=registered(flow=three_at_once)) as stepper:
        started(stepper)
        first, *others = [r for r in stepper.runner.ready() if r.execution_id == ID]
        stepper.registry = registered(flow=renamed)
        stepper.engine.evict()
        stepper.runner.run(first)
        stepper.settle()
        is_blocked(stepper, "NonDeterminismError")
        stepper.registry = registered(flow=three_at_once)
        stepper.resume(ID)
        stepper.settle()
        assert [r for r in stepper.runner.held if r.execution_id == ID] == others
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 2]
        assert {effect.attempt for effect in ledger.of(ID)} == {1}


def test_fault_in_the_middle_of_a_batch_keeps_what_came_before_it(make: MakeState) -> None:
    """Of three outcomes in one batch the second is fatal: the first is recorded, two are parked."""

    async def touchy(ctx: Context) -> list[int]:
        tasks = [step(ctx, "one", i) for i in range(3)]
        await tasks[0]
        seen = await tasks[1]
        if touchy_is_ill:
            raise KeyboardInterrupt
        return [seen, await tasks[2]]

    touchy_is_ill = True
    with Ledger() as ledger, stepping(make, registry=registered(flow=touchy)) as stepper:
        started(stepper)
        for request in stepper.runner.ready():
            stepper.runner.run(request)
        stepper.settle()
        is_blocked(stepper, "DeterminismError")
        touchy_is_ill = False
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == [1, 2]
        assert stepper.faults(ID) == []
        assert ledger.names(ID) == {"one": 3}
        assert stepper.outcome("n") == 1


def test_deadlock(make: MakeState) -> None:
    async def waiting(ctx: Context) -> int:
        first = await step(ctx, "one", 1)
        if stuck:
            await asyncio.Event().wait()
        return first

    stuck = True
    with stepping(make, registry=registered(flow=waiting)) as stepper:
        started(stepper)
        stepper.run()
        is_blocked(stepper, "WorkflowDeadlock")
        stuck = False
        reopen(stepper, "crash", stepper.registry)
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == 1


def test_what_is_not_allowed_fails_or_blocks_and_never_hangs(make: MakeState) -> None:
    async def threads(ctx: Context) -> int:
        first = await step(ctx, "one", 1)
        if wrong:
            await asyncio.to_thread(print)
        return first

    wrong = True
    with stepping(make, registry=registered(flow=threads)) as stepper:
        started(stepper)
        stepper.run()
        head = stepper.head(ID)
        assert head is not None
        assert head.status in ("blocked", "failed")
        assert stepper.outcome("n") == 1
        if head.status == "blocked":
            wrong = False
            stepper.resume(ID)
            stepper.run()
            assert stepper.outcome(ID) == 1


@pytest.mark.parametrize("first", [True, False], ids=["first turn", "later turn"])
def test_endless_loop_is_interrupted(make: MakeState, first: bool) -> None:
    async def spinning(ctx: Context) -> int:
        value = 1 if first else await step(ctx, "one", 1)
        while endless:
            value += 1
        return 1

    endless = True
    registry = registered(flow=spinning)
    with stepping(make, registry=registry, turn_limit=0.05) as stepper:
        started(stepper)
        stepper.run()
        is_blocked(stepper, "TurnTimeout")
        assert stepper.outcome("n") == 1
        assert len(stepper.lines(ID)) == (1 if first else 2)
        endless = False
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == 1
        assert stepper.faults(ID) == []


def test_endless_loop_during_a_replay_is_interrupted(make: MakeState) -> None:
    async def spinning(ctx: Context) -> int:
        while endless:
            pass
        return await step(ctx, "one", 1) + await step(ctx, "two", 2)

    endless = False
    registry = registered(flow=spinning)
    with stepping(make, registry=registry, turn_limit=0.05) as stepper:
        started(stepper)
        endless = True
        reopen(stepper, "crash", registry)
        stepper.run()
        is_blocked(stepper, "TurnTimeout")
        endless = False
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == 3


def test_undecodable_result(make: MakeState, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger() as ledger, stepping(make, registry=registered(flow=two_steps)) as stepper:
        started(stepper)
        decode: Callable[..., Any] = type(stepper.codec).decode_ordered

        def refuse(self: Any, payload: Any) -> Any:
            if payload.text == "1" and refusing:
                raise PayloadNotReadable("its class was renamed")
            return decode(self, payload)

        refusing = True
        monkeypatch.setattr(type(stepper.codec), "decode_ordered", refuse)
        for request in [r for r in stepper.runner.ready() if r.execution_id == ID]:
            stepper.runner.run(request)
        stepper.settle()
        is_blocked(stepper, "PayloadNotReadable")
        reopen(stepper, "crash", stepper.registry)
        refusing = False
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == [1, 2]
        assert stepper.outcome("n") == 1
        assert ledger.names(ID) == {"one": 1, "two": 1}


def test_history_that_cannot_be_read_is_left_as_it_is() -> None:
    state = MemoryState()

    def open_backend(owner: str, clock: Any) -> MemoryBackend:
        return MemoryBackend(state, owner=owner, clock=clock, lease=LEASE)

    with stepping(lambda: open_backend, registry=registered(flow=two_steps)) as stepper:
        started(stepper)
        lines = state.executions[ID].events
        good = lines[1]
        lines[1] = '{"event":"TaskInvented","v":1}'
        stepper.crash()
        stepper.open()
        stepper.run()
        is_blocked(stepper, "WireError")
        assert stepper.outcome("n") == 1
        assert lines[1] == '{"event":"TaskInvented","v":1}'
        lines[1] = good
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == [1, 2]


@pytest.mark.parametrize("resume_too", [True, False])
def test_blocked_execution_can_be_terminated(make: MakeState, resume_too: bool) -> None:
    with stepping(make, registry=registered(flow=two_steps)) as stepper:
        started(stepper)
        reopen(stepper, "crash", registered(flow=renamed))
        is_blocked(stepper, "NonDeterminismError")
        if resume_too:
            stepper.resume(ID)
        request = stepper.terminate(ID, "hopeless")
        stepper.settle()
        assert request.reply.wait(0).status == "terminated"
        head = stepper.head(ID)
        assert head is not None
        assert head.blocked_kind is None
        assert head.closed_at is not None
        assert stepper.backend.store.load(ID).parked == []  # type: ignore[union-attr]
        stepper.registry = registered(flow=two_steps)
        assert stepper.faults(ID) == []


@pytest.mark.parametrize("handlers", [{}, {"flow": renamed}], ids=["unknown", "changed"])
def test_termination_needs_no_code(make: MakeState, handlers: dict[str, Any]) -> None:
    """Of an execution that is not blocked yet, because nothing has happened since the change."""

    async def sleeper(ctx: Context) -> int:
        await ctx.sleep(3600)
        return 5

    with stepping(make, registry=registered(flow=sleeper)) as stepper:
        started(stepper)
        reopen(stepper, "close", registered(**handlers))
        request = stepper.terminate(ID)
        stepper.settle()
        assert request.reply.wait(0).status == "terminated"
        stepper.registry = registered(flow=sleeper)
        assert stepper.faults(ID) == []


def test_resuming_what_is_not_blocked_has_no_effect(make: MakeState) -> None:
    with Ledger() as ledger, stepping(make, registry=registered(flow=two_steps)) as stepper:
        started(stepper)
        for evict in (False, True):
            if evict:
                stepper.engine.evict()
            lines = stepper.lines(ID)
            request = stepper.resume(ID)
            stepper.settle()
            assert request.reply.wait(0).status == "running"
            assert stepper.lines(ID) == lines
        stepper.run()
        assert stepper.outcome(ID) == [1, 2]
        assert ledger.names(ID) == {"one": 1, "two": 1}


def test_waiters_get_the_turn_of_the_block(make: MakeState) -> None:
    with stepping(make, registry=registered(flow=two_steps)) as stepper:
        started(stepper)
        reopen(stepper, "crash", registered(flow=renamed))
        assert stepper.settled[ID].head.status == "blocked"


def test_a_task_that_fails_is_no_fault(make: MakeState) -> None:
    with stepping(make, registry=registered(flow=retrying)) as stepper:
        started(stepper)
        stepper.run()
        assert stepper.outcome(ID) == "after"


def test_promise_is_completed_once_while_its_execution_is_blocked(make: MakeState) -> None:
    """Whoever comes second is told so at once, and not when the execution goes on."""

    async def flow(ctx: Context) -> list[Any]:
        if ill:
            raise KeyboardInterrupt
        one, two = ctx.promise("one"), ctx.promise("two")
        await step(ctx, "step")
        return [await one, await two]

    ill = False
    with Ledger(), stepping(make, registry=registered(flow=flow)) as stepper:
        started(stepper)
        ill = True
        stepper.engine.evict()
        stepper.runner.run(stepper.runner.held[0])
        stepper.settle()
        assert stepper.head(ID).status == "blocked"  # type: ignore[union-attr]
        stepper.speak(
            ID,
            [
                Say("complete", "one", 1),
                Say("complete", "one", 2, answer=PromiseNotOpen),
                Say("fail", "one", ValueError("no"), answer=PromiseNotOpen),
                Say("complete", "two", 3),
            ],
        )
        stepper.run()
        ill = False
        stepper.resume(ID)
        stepper.run()
        assert stepper.outcome(ID) == [1, 3]
        assert stepper.outside is not None
        assert stepper.outside.faults() == []

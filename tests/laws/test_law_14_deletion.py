"""Law 14 for deletions: whichever call the process dies at, all of an execution is there, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mini_workflow.context import Context
from mini_workflow.core import wire
from mini_workflow.core.events import ExecutionStarted, SignalReceived, TaskScheduled
from mini_workflow.core.payload import EMPTY
from mini_workflow.engine.deletion import deletion_of
from mini_workflow.engine.requests import Post
from mini_workflow.errors import ExecutionNotFound, StoreUnavailable
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.crash import SimulatedCrash
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.stepping import Stepper
from mini_workflow.workflow import Registry, Workflow
from tests.unit.engine.harness import ID, Files, MakeState, in_memory, stepping

SHAPE = SHAPES["sequence"]


def delete(stepper: Stepper) -> Post:
    head = stepper.head(ID)
    assert head is not None
    request = Post(ID, deletion_of(head, stepper.clock.now()))
    stepper.inbox.append(request)
    return request


def start(stepper: Stepper) -> None:
    stepper.start(SHAPE.name, execution_id=ID)


def numbers(lines: list[str]) -> list[int]:
    found: list[Any] = [wire.decode(line) for line in lines]
    return [event.seq for event in found if isinstance(event, TaskScheduled)]


def crash_while_it_is_deleted(make: MakeState, n: int, *, after: bool) -> bool:
    """Whether the n-th call was reached."""
    with Ledger(), stepping(make, SHAPE) as stepper:
        stepper.open()
        start(stepper)
        stepper.run()
        before = stepper.lines(ID)
        delete(stepper)
        stepper.crashes.crash_at(n, after=after)
        met = False
        try:
            stepper.settle()
        except SimulatedCrash:
            met = True
            stepper.crash()
            stepper.open()
            stepper.settle()
        stepper.crashes.crash_at(None)
        if stepper.head(ID) is not None:
            assert met
            assert stepper.lines(ID) == before
            delete(stepper)
            stepper.settle()
        assert stepper.head(ID) is None
        assert stepper.lines(ID) == []
        assert not stepper.backend.store.sweep(stepper.clock.now(), 1)
        start(stepper)
        stepper.run()
        assert stepper.outcome(ID) == SHAPE.result
        again = stepper.lines(ID)
        assert set(numbers(again)).isdisjoint(numbers(before))
        first = wire.decode(again[0])
        assert isinstance(first, ExecutionStarted)
        assert first.first_seq == len(before)
        return met


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_law_14_crash_at_every_call_of_a_deletion(after: bool, tmp_path: Path) -> None:
    for make in (in_memory, Files(tmp_path)):
        n = 1
        while crash_while_it_is_deleted(make, n, after=after):
            n += 1
        assert n > 4


async def asks_result(ctx: Context) -> Any:
    await ctx.wait_for_signal("go")
    try:
        return await ctx.execution(ID).result()
    except ExecutionNotFound:
        return "nobody"


ASKERS = Registry()
ASKERS.add(Workflow("asks_result", asks_result))
ASKERS.add(SHAPE.workflow)


def crash_while_it_is_asked(n: int, *, after: bool, before: int) -> bool:
    """Whether the n-th call was reached. It is deleted so many batches after the other one goes."""
    with Ledger(), stepping(in_memory, SHAPE, registry=ASKERS) as stepper:
        stepper.open()
        start(stepper)
        stepper.run()
        stepper.start("asks_result", execution_id="asker")
        stepper.settle()
        go = SignalReceived(stepper.clock.now(), "go", EMPTY, "go")
        stepper.inbox.append(Post("asker", go))
        for _ in range(before):
            stepper.process()
        request = delete(stepper)
        stepper.crashes.crash_at(n, after=after)
        met = False
        try:
            stepper.settle()
        except SimulatedCrash:
            met = True
            stepper.crash()
            stepper.open()
            stepper.inbox += [Post("asker", go), request]
            stepper.settle()
        stepper.crashes.crash_at(None)
        stepper.run()
        assert stepper.outcome("asker") in (SHAPE.result, "nobody")
        assert stepper.head(ID) is None
        return met


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_law_14_who_is_deleted_while_it_is_asked_has_answered(after: bool, before: int) -> None:
    """Or it is not there any more; nobody waits for ever."""
    n = 1
    while crash_while_it_is_asked(n, after=after, before=before):
        n += 1
    assert n > 2


def test_law_14_a_store_that_fails_keeps_all_of_it() -> None:
    with Ledger(), stepping(in_memory, SHAPE) as stepper:
        stepper.open()
        start(stepper)
        stepper.run()
        before = stepper.lines(ID)
        stepper.crashes.fail("store.commit", StoreUnavailable("not now"))
        request = delete(stepper)
        stepper.process()
        with pytest.raises(StoreUnavailable):
            request.reply.wait(0)
        assert stepper.lines(ID) == before
        delete(stepper)
        stepper.run()
        assert stepper.head(ID) is None

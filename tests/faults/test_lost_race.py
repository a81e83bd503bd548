"""A commit that is refused for one execution, because another writer was faster, is done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from mini_workflow.core import wire
from mini_workflow.core.events import ExecutionTerminated
from mini_workflow.engine.requests import WakeUp
from mini_workflow.errors import ExecutionAlreadyExists
from mini_workflow.ports import Commit
from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.stepping import START, Stepper
from tests.unit.engine.harness import ID, check, in_memory, stepping

NARROW = sorted(name for name, shape in SHAPES.items() if not shape.wide)


def before_each_commit(
    stepper: Stepper, monkeypatch: pytest.MonkeyPatch, refuse: Callable[[int, Commit], bool]
) -> None:
    """Answer False, and write nothing, for the items that `refuse` chooses."""
    store = stepper.backend.store
    commit, count = store.commit, 0

    def commit_some(items: Sequence[Commit]) -> list[bool]:
        nonlocal count
        count += 1
        refused = [refuse(count, item) for item in items]
        left = [item for item, no in zip(items, refused, strict=True) if not no]
        answers = iter(commit(left))
        return [False if no else next(answers) for no in refused]

    monkeypatch.setattr(store, "commit", commit_some)


@pytest.mark.parametrize("cache_size", [0, 100])
@pytest.mark.parametrize("name", NARROW)
def test_every_other_commit_is_refused(
    name: str, cache_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = SHAPES[name]
    with Ledger() as ledger, stepping(in_memory, shape, cache_size=cache_size) as stepper:
        stepper.open()
        start = stepper.start(name, execution_id=ID)
        stepper.settle()
        assert start.reply.wait(0).head.execution_id == ID
        before_each_commit(stepper, monkeypatch, lambda n, item: n % 2 == 1)
        stepper.run()
        check(stepper, shape, ledger)
        assert stepper.engine.in_flight == 0


def test_one_of_a_batch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"x-{i}" for i in range(5)]
    with Ledger() as ledger, stepping(in_memory) as stepper:
        stepper.open()
        for name in names:
            stepper.start("sequence", execution_id=name)
        stepper.settle()
        before_each_commit(
            stepper, monkeypatch, lambda n, item: n % 2 == 1 and item.execution_id == "x-2"
        )
        stepper.run_wide()
        for name in names:
            assert stepper.outcome(name) == [0, 1, 2, 3]
            assert ledger.names(name) == {"step": 4}
            assert stepper.faults(name) == []


def test_request_and_messages_of_a_refused_turn_are_taken_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for by_message in (False, True):
        with stepping(in_memory) as stepper:
            stepper.open()
            stepper.start("sleeping", execution_id=ID)
            stepper.settle()
            before_each_commit(stepper, monkeypatch, lambda n, item: n == 1)
            if by_message:
                body = wire.encode(ExecutionTerminated(stepper.clock.now()))
                stepper.backend.mailbox.post(ID, body, body)
                stepper.inbox.append(WakeUp())
                stepper.settle()
                assert stepper.backend.mailbox.entries(0, 9) == []
            else:
                request = stepper.terminate(ID)
                stepper.settle()
                assert request.reply.wait(0).status == "terminated"
            assert stepper.outcome(ID) == "ExecutionTerminated"


@pytest.mark.parametrize("same", [True, False])
def test_two_processes_start_the_same_id_at_once(
    same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener, clock = in_memory(), ManualClock(START)
    with (
        stepping(lambda: opener, clock=clock) as first,
        stepping(lambda: opener, clock=clock) as second,
    ):
        first.open()
        second.open()
        mine = first.start("sequence", execution_id=ID)
        theirs = second.start("sequence" if same else "nothing", execution_id=ID)
        commit = first.backend.store.commit

        def commit_after_the_other(items: Sequence[Commit]) -> list[bool]:
            monkeypatch.undo()
            second.settle()
            return commit(items)

        monkeypatch.setattr(first.backend.store, "commit", commit_after_the_other)
        first.settle()
        assert theirs.reply.wait(0).head.execution_id == ID
        if same:
            assert mine.reply.wait(0).head.execution_id == ID
        else:
            with pytest.raises(ExecutionAlreadyExists):
                mine.reply.wait(0)
        first.run()
        second.run()
        assert second.outcome(ID) == ([0, 1, 2, 3] if same else 7)
        assert first.runner.submitted == []

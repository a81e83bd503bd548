"""How often the store is asked: concurrent executions share a commit, and a warm step takes one."""

from __future__ import annotations

from mini_workflow.testing.simulation.corpus import SHAPES
from tests.unit.engine.harness import ID, in_memory, stepping


def test_warm_sequential_step_is_one_commit_and_no_read() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.settle()
        before = len(stepper.crashes.calls)
        stepper.start("sequence", execution_id=ID)
        stepper.run()
        assert stepper.outcome(ID) == [0, 1, 2, 3]
        step = ["runner.submit", "report", "store.commit"]
        assert stepper.crashes.calls[before:] == [
            *("store.lookup", "store.commit"),
            *step * 4,
        ]


def test_start_with_a_made_up_id_asks_for_nothing() -> None:
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.settle()
        before = len(stepper.crashes.calls)
        stepper.start("nothing", execution_id=ID, fresh=True)
        stepper.settle()
        assert stepper.crashes.calls[before:] == ["store.commit"]


def test_executions_share_commits() -> None:
    names = [f"x-{i}" for i in range(50)]
    with stepping(in_memory) as stepper:
        stepper.open()
        stepper.settle()
        before = len(stepper.crashes.calls)
        for name in names:
            stepper.start("sequence", execution_id=name, fresh=True)
        stepper.settle()
        for _ in range(4):
            for request in stepper.runner.ready():
                stepper.runner.run(request)
            stepper.settle()
        assert {repr(stepper.outcome(name)) for name in names} == {"[0, 1, 2, 3]"}
        assert stepper.crashes.called("store.commit", before) == 5
        assert stepper.crashes.called("store.load", before) == 0
        assert stepper.crashes.called("runner.submit", before) == 200


def test_timers_that_are_due_together_share_a_commit() -> None:
    names = [f"x-{i}" for i in range(50)]
    with stepping(in_memory) as stepper:
        stepper.open()
        for name in names:
            stepper.start("sleeping", execution_id=name, fresh=True)
        stepper.settle()
        stepper.clock.set(stepper.backend.agenda.next_wake() or 0)
        before = len(stepper.crashes.calls)
        stepper.settle()
        assert stepper.crashes.called("store.commit", before) == 1
        assert stepper.crashes.called("store.load", before) == 0
        assert len(stepper.runner.held) == 50


def test_cold_step_is_one_load() -> None:
    with stepping(in_memory, cache_size=0) as stepper:
        stepper.open()
        stepper.start("sequence", execution_id=ID)
        stepper.settle()
        before = len(stepper.crashes.calls)
        stepper.step()
        stepper.settle()
        assert stepper.crashes.called("store.load", before) == 1
        assert stepper.crashes.called("store.commit", before) == 1


def test_nothing_is_asked_while_executions_sleep() -> None:
    """Between two renewals of the lease, the time alone brings no call at all."""
    with stepping(in_memory) as stepper:
        stepper.open()
        for i in range(20):
            stepper.start("sleeping", execution_id=f"x-{i}", fresh=True)
        stepper.settle()
        assert stepper.engine.deadline() is not None
        before = len(stepper.crashes.calls)
        assert stepper.engine.in_flight == 0
        stepper.clock.advance(1)
        assert (stepper.engine.deadline() or 0) > stepper.clock.now()
        assert stepper.crashes.calls[before:] == []


def test_nothing_stays_in_memory_of_what_has_closed() -> None:
    """Neither attempts nor live runs, whatever way the executions went."""
    with stepping(in_memory) as stepper:
        stepper.open()
        for name, shape in SHAPES.items():
            if not shape.says:
                stepper.start(name, execution_id=name)
        terminated = stepper.start("sequence", execution_id=ID)
        stepper.settle()
        assert terminated.reply.wait(0).head.status == "running"
        stepper.terminate(ID)
        stepper.run()
        assert stepper.engine.in_flight == 0
        # Those of limits go on.
        assert {name.partition(":")[0] for name in stepper.engine._cache._live} <= {"limit"}

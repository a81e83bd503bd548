"""What workflows can do, done on what the component deploys."""

import pytest

from mini_workflow import ExecutionCancelled
from tests.e2e.flows import Flows
from tests.waiting import WAIT


def test_a_linked_function_starts_executions(flows: Flows) -> None:
    execution = flows.start("steps", 3)
    assert execution.result(timeout=WAIT) == 3
    assert flows.once(execution.id) == {"0", "1", "2"}


def test_signals_queries_and_updates_reach_a_waiting_execution(flows: Flows) -> None:
    execution = flows.start("approval", 100)
    for note in ("hm", "well"):
        execution.signal("remark", note)
    flows.eventually(lambda: execution.query("seen") == ["hm", "well"])
    assert execution.update("raise", 5) == 105
    execution.signal("decide", {"by": "ann"})
    assert execution.result(timeout=WAIT) == {
        "amount": 100,
        "seen": ["hm", "well"],
        "by": "ann",
    }
    assert flows.once(execution.id) == {"decided"}


def test_a_promise_is_completed_from_outside(flows: Flows) -> None:
    execution = flows.start("promised")
    flows.runtime.complete_promise(execution.query("token"), {"answer": 42})
    assert execution.result(timeout=WAIT) == {"answer": 42}


@pytest.mark.parametrize("seconds", [2, 5], ids=["delay queue", "schedule"])
def test_timers_are_never_early(flows: Flows, seconds: int) -> None:
    # The program counts on schedules from three seconds on.
    execution = flows.start("nap", seconds)
    assert execution.result(timeout=WAIT) >= seconds


def test_children_run_side_by_side(flows: Flows) -> None:
    execution = flows.start("family", 4)
    assert execution.result(timeout=WAIT) == 12
    children = [
        entry.id
        for entry in flows.runtime.list_executions(workflow="double", status="completed")
        if entry.id.startswith(execution.id)
    ]
    assert len(children) == 4
    assert [flows.once(child) for child in children] == [{"doubled"}] * 4


def test_a_cancelled_execution_cleans_up_and_takes_its_schedule_along(flows: Flows) -> None:
    execution = flows.start("endless")
    flows.eventually(lambda: flows.schedules(execution.id))
    execution.cancel("no longer wanted")
    with pytest.raises(ExecutionCancelled, match="no longer wanted"):
        execution.result(timeout=WAIT)
    assert flows.once(execution.id) == {"cleaned up"}
    flows.eventually(lambda: not flows.schedules(execution.id))


def test_an_execution_continues_as_new(flows: Flows) -> None:
    execution = flows.start("again", 3)
    assert execution.result(timeout=WAIT) == 3
    assert execution.describe().run == 3
    assert flows.once(execution.id) == {"0", "1", "2"}


def test_what_is_too_large_for_a_message_goes_by_way_of_the_bucket(flows: Flows) -> None:
    execution = flows.start("bulky", 700_000)
    assert execution.result(timeout=WAIT) == 700_000
    assert flows.once(execution.id) == {"reversed"}

"""What may happen to functions and queues: nothing is lost, and nothing that is done is repeated."""

import json
import os
import signal

import pytest

from mini_workflow import ExecutionBlocked, StoreUnavailable
from mini_workflow.core.events import TaskRetryScheduled
from tests.e2e.flows import Flows, named
from tests.waiting import WAIT


def dying(function: str, call: str) -> str:
    """A name for an execution whose function dies at a call: see faults.py of the program."""
    return f"dies.{function}.{call}.{named('x').replace('-', '_')}"


# The worker


def test_attempts_that_die_are_made_again(flows: Flows) -> None:
    executions = {
        trouble: flows.start("fragile", trouble)
        for trouble in ("hang", "freeze", "vanish", "overrun")
    }
    # Somebody kills the process; the others end by themselves, or with the time of the function.
    (hanging,) = flows.eventually(lambda: flows.ledger(executions["hang"].id).get("hanging"))
    os.kill(hanging.pid, signal.SIGKILL)
    for execution in executions.values():
        assert execution.result(timeout=WAIT) == 2
        assert flows.once(execution.id) > {"first", "risky", "last"}
        (retry,) = (e for e in execution.history() if isinstance(e, TaskRetryScheduled))
        expected = "TaskTimeout" if execution is executions["overrun"] else "WorkerLost"
        assert retry.failure.type == f"mini_workflow.errors:{expected}"


def test_a_worker_that_dies_with_an_outcome_has_sent_it_or_does_the_task_again(
    flows: Flows,
) -> None:
    unsent = flows.start("steps", 2, name=dying("worker", "before.sqs.SendMessage"))
    sent = flows.start("steps", 2, name=dying("worker", "after.sqs.SendMessage"))
    for execution in (unsent, sent):
        assert execution.result(timeout=WAIT) == 2
        assert flows.read(flows.stack.outputs["ledger"], f"died/{execution.id}") == ""
    assert flows.once(sent.id) == {"0", "1"}
    done = flows.ledger(unsent.id)
    assert sorted((entry.attempt, entry.seq) for entry in done["0"]) == [(1, 1), (2, 1)]
    assert len(done["1"]) == 1


def test_a_throttled_worker_does_everything_later(flows: Flows) -> None:
    with flows.at_most("Flows-worker-function", 1):
        execution = flows.start("fan_out", 8)
        assert execution.result(timeout=WAIT) == sum(n * n for n in range(8))
    done = flows.ledger(execution.id)
    assert flows.once(execution.id) == {str(n) for n in range(8)}
    assert len({entry.pid for (entry,) in done.values()}) == 1


# The orchestrator


@pytest.mark.parametrize(
    ("workflow", "argument", "result", "fatal"),
    [
        ("steps", 3, 3, "before.s3.PutObject"),
        ("steps", 3, 3, "after.s3.PutObject"),
        ("steps", 3, 3, "before.lambda.Invoke"),
        ("nap", 1, None, "before.sqs.SendMessage"),
        ("nap", 1, None, "after.sqs.SendMessage"),
        ("nap", 4, None, "before.scheduler.CreateSchedule"),
        ("nap", 4, None, "after.scheduler.CreateSchedule"),
    ],
)
def test_an_orchestrator_that_dies_is_continued(
    flows: Flows, workflow: str, argument: int, result: int | None, fatal: str
) -> None:
    name = dying("orchestrator", fatal)
    execution = flows.start(workflow, argument, name=name)
    told = execution.result(timeout=WAIT)
    assert flows.read(flows.stack.outputs["ledger"], f"died/{name}") == ""
    if result is None:
        assert told >= argument
    else:
        assert told == result
        assert flows.under_one_key(name) == {str(n) for n in range(argument)}


def test_what_was_dispatched_before_a_death_may_run_twice_under_one_key(flows: Flows) -> None:
    name = dying("orchestrator", "after.lambda.Invoke")
    execution = flows.start("steps", 3, name=name)
    assert execution.result(timeout=WAIT) == 3
    first, *others = (entries for _, entries in sorted(flows.ledger(name).items()))
    assert len(first) in (1, 2)
    assert {(entry.attempt, entry.seq) for entry in first} == {(1, 1)}
    assert [len(entries) for entries in others] == [1, 1]


def test_a_turn_that_always_kills_is_blocked_and_its_neighbours_go_on(flows: Flows) -> None:
    deadly, neighbours = flows.start("deadly"), [flows.start("steps", 2) for _ in range(3)]
    for neighbour in neighbours:
        assert neighbour.result(timeout=WAIT) == 2
        assert flows.under_one_key(neighbour.id) == {"0", "1"}
    with pytest.raises(ExecutionBlocked, match="ended 3 times during this turn"):
        deadly.result(timeout=WAIT)


def test_an_orchestrator_without_capacity_is_waited_for(flows: Flows) -> None:
    with flows.at_most("Flows-orchestrator-function", 0):
        execution = flows.start("approval", 1)
        execution.signal("remark", "early")
        execution.signal("decide", {"by": "ann"})
        with pytest.raises(StoreUnavailable, match="TooManyRequests"):
            execution.query("seen")
        assert execution.describe().status == "running"
    assert execution.result(timeout=WAIT) == {"amount": 1, "seen": ["early"], "by": "ann"}
    assert flows.once(execution.id) == {"decided"}


# The queue


def test_what_nobody_can_read_is_set_aside_and_the_rest_goes_on(flows: Flows) -> None:
    execution = flows.start("approval", 1)
    forged = {"execution_id": execution.id, "kind": "messages", "content": "{}", "signature": "x"}
    poison = ["no json", json.dumps(forged)]
    for body in poison:
        flows.send(execution.id, body)
    execution.signal("decide", {"by": "ann"})
    assert execution.result(timeout=WAIT) == {"amount": 1, "seen": [], "by": "ann"}
    found = flows.eventually(lambda: flows.set_aside(execution.id))
    assert [message["Body"] for message in found] == poison
    reasons = [message["MessageAttributes"]["reason"]["StringValue"] for message in found]
    assert reasons[0].startswith("WireError")

"""Long and wide executions: what a step costs does not depend on how many there are."""

from collections import Counter
from typing import Any

from mini_workflow.stores.aws.limits import SEAL_OVER
from tests.e2e.flows import Flows

STEPS = 150
WIDTH = 200
LONG = 280.0
"""Seconds, on a machine with two cores that has other things to do."""

WINDOW = 50
"""Steps at the beginning and at the end that are compared."""


def windows(calls: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The calls of each fifty steps: a step begins with the invocation of the worker."""
    found: list[list[dict[str, Any]]] = []
    steps = 0
    for call in calls:
        if call["service"] == "lambda":
            if steps % WINDOW == 0:
                found.append([])
            steps += 1
        if found:
            found[-1].append(call)
    return found


def kind(call: dict[str, Any]) -> str:
    return f"{call['service']} {call['operation']}"


def test_the_last_steps_cost_what_the_first_ones_did(flows: Flows) -> None:
    # The emulator sees no loop in this; Lambda would after sixteen steps, and was told otherwise.
    client = flows.server.client("lambda")
    for function in ("Flows-worker-function", "Flows-orchestrator-function"):
        told = client.get_function_recursion_config(FunctionName=flows.id_of(function))
        assert told["RecursiveLoop"] == "Allow"
    execution = flows.start("steps", STEPS)
    assert execution.result(timeout=LONG) == STEPS
    assert flows.once(execution.id) == {str(number) for number in range(STEPS)}

    mine = flows.caller
    calls = [call for call in flows.server.calls(execution.id) if call["caller"] != mine]
    ours = [call for call in calls if flows.stack.outputs["ledger"] not in call["path"]]
    per_window = windows(ours)
    first, last = (Counter(map(kind, per_window[place])) for place in (1, -1))
    assert len(per_window) == STEPS / WINDOW
    for counts in (first, last):
        assert counts["lambda POST"] == WINDOW
        assert counts["sqs SendMessage"] == WINDOW
        # One for each step, and segments: some, and not more of them at the end.
        assert WINDOW <= counts["s3 PUT"] <= WINDOW * 1.1
        # Another process may take over once in a while, and reads then.
        assert counts["s3 GET"] <= WINDOW * 0.3
    heads = [call["bytes"] for call in ours if call["path"].endswith(f"/{execution.id}.json")]
    assert max(heads) < SEAL_OVER + 16 * 1024


def test_two_hundred_tasks_at_once_are_shared_by_processes(flows: Flows) -> None:
    # As many as the machine can bear.
    with flows.at_most("Flows-worker-function", 4):
        execution = flows.start("fan_out", WIDTH)
        assert execution.result(timeout=LONG) == sum(n * n for n in range(WIDTH))
    assert flows.once(execution.id) == {str(number) for number in range(WIDTH)}
    entries = [entry for (entry,) in flows.ledger(execution.id).values()]
    assert {entry.attempt for entry in entries} == {1}
    assert len({entry.pid for entry in entries}) > 1

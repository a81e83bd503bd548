"""The words for what an execution does and waits for."""

from __future__ import annotations

from datetime import UTC, datetime

from mini_workflow.engine.activity import Activity, Wait
from mini_workflow.engine.sentence import sentence_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def slot(name: str, limit: str) -> Wait:
    return Wait("slot", name, since=NOW, limit=limit)


def test_tasks_that_wait_for_slots_of_different_limits_are_told_apart() -> None:
    waits = (slot("a", "gpu"), slot("b", "api"), slot("c", "gpu"), slot("d", "api"))
    assert sentence_of("running", Activity(waits), NOW, NOW) == (
        "Waits for slots of limit 'gpu' to run 2 tasks: a, c; the oldest for 0 ms. Meanwhile waits for "
        "slots of limit 'api' to run 2 tasks: b, d; the oldest for 0 ms."
    )
    one = sentence_of("running", Activity(waits[:2]), NOW, NOW)
    assert one.startswith("Waits for a slot of limit 'gpu' to run a since 0 ms. Meanwhile waits")
    assert one.endswith(" for a slot of limit 'api' to run b since 0 ms.")


def test_tasks_at_work_are_told_together_whatever_their_limits() -> None:
    waits = (Wait("task", "a", limit="gpu"), Wait("task", "b", limit="api"), Wait("task", "c"))
    assert sentence_of("running", Activity(waits), NOW, NOW) == "Runs 3 tasks: a, b, c."

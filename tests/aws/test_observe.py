"""What the functions print: logs that can be searched, and metrics that can be counted on."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mini_workflow import (
    Committed,
    Context,
    CurrentTask,
    Interceptor,
    RetryPolicy,
    UsageError,
    WireError,
    current_task,
)
from mini_workflow.runtimes.aws.telemetry import NAMESPACE, JsonFormatter
from mini_workflow.trace_context import traceparent
from tests.aws.flows import BODIES, REGISTRY
from tests.aws.world import World, registry_of


@pytest.fixture
def in_lambda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the process were a function's."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "engine-function")
    monkeypatch.setenv("AWS_LAMBDA_LOG_LEVEL", "DEBUG")
    logger = logging.getLogger("mini_workflow")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield
    logger.handlers, level, logger.propagate = before
    logger.setLevel(level)


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Every line is a JSON object."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def talkative(ctx: Context) -> None:
    ctx.logger.info("one")
    await ctx.task(int, 1)
    ctx.logger.warning("two of %d", 2)


async def crooked(ctx: Context) -> None:
    await ctx.wait_for_signal("go")
    raise RuntimeError("a\nb")


@pytest.mark.usefixtures("in_lambda")
def test_logs_are_json_with_the_execution_and_the_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with World(registry_of(talkative)) as world:
        world.client.start_execution("talkative", id="order-1")
        world.run()
        world.services.put("order-1", "{")
        world.deliver()
    logs = [line for line in printed(capsys) if "_aws" not in line]
    said = [line for line in logs if line["logger"] == "mini_workflow.workflow"]
    assert [(line["level"], line["message"]) for line in said] == [
        ("INFO", "[order-1] one"),
        ("WARNING", "[order-1] two of 2"),
    ]
    # After its start, and after the result of its task.
    assert [line["event"] for line in said] == [1, 3]
    assert all(line["execution_id"] == "order-1" for line in logs)
    turns = [line for line in logs if line["logger"] == "mini_workflow.runtimes.aws.turns"]
    assert [line["event"] for line in turns] == [2, 4]
    (entry,) = [line for line in logs if line["level"] == "ERROR"]
    assert "goes to the dead letters: WireError: not JSON" in entry["message"]
    assert all(line["time"].endswith("Z") for line in logs)


def test_an_exception_is_one_line() -> None:
    record = logging.LogRecord("n", logging.ERROR, "f", 1, "[%s] went wrong", ("e",), None)
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    plain = json.loads(line)
    assert plain["execution_id"] == "e"
    assert "ValueError: two\nlines" in plain["exception"]


@pytest.mark.usefixtures("in_lambda")
def test_metrics_have_the_function_as_their_only_dimension(
    capsys: pytest.CaptureFixture[str],
) -> None:
    BODIES.clear()
    with World(REGISTRY) as world:
        world.client.start_execution("retried", id="order-1")
        world.client.start_execution("sequence", id="order-2")
        world.services.put("order-1", "{")
        world.run()
    lines = [line for line in printed(capsys) if "_aws" in line]
    total: dict[str, float] = {}
    for line in lines:
        (about,) = line["_aws"]["CloudWatchMetrics"]
        assert about["Namespace"] == NAMESPACE
        assert about["Dimensions"] == [["Function"]]
        assert line["Function"] == "engine-function"
        assert "order-" not in json.dumps(line)
        named = {metric["Name"]: metric["Unit"] for metric in about["Metrics"]}
        assert set(named) == set(line) - {"_aws", "Function", "Task"}
        assert {u for n, u in named.items() if n.endswith("Duration")} <= {"Milliseconds"}
        for name in named:
            total[name] = total.get(name, 0) + line[name]
    assert total["Attempts"] == 6
    assert total["FailedAttempts"] == 1
    assert total["Malformed"] == 1
    assert total["Redelivered"] == 0
    recorded = [world.recorded(name).total() for name in ("order-1", "order-2")]
    # The client has written the first event of each.
    assert total["Events"] == sum(recorded) - 2
    assert total["Messages"] >= total["Turns"]
    assert len(lines) == len(world.answers) + 6


def test_outside_of_lambda_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    before = list(logging.getLogger("mini_workflow").handlers)
    with World(registry_of(talkative)) as world:
        world.client.start_execution("talkative", id="e")
        world.run()
    assert printed(capsys) == []
    assert logging.getLogger("mini_workflow").handlers == before


def trace() -> str:
    if current_task().attempt == 1:
        raise ConnectionError(current_task().traceparent)
    return current_task().traceparent


async def traced(ctx: Context) -> list[str]:
    retry = RetryPolicy(max_attempts=2, initial=0)
    return [await ctx.task(trace, retry=retry), await ctx.task(trace, retry=retry)]


def test_the_trace_of_an_execution_goes_through_its_tasks() -> None:
    """One trace per execution, and a span per attempt."""
    with World(registry_of(traced)) as world:
        world.client.start_execution("traced", id="e")
        world.deliver()
        parts = world.client._parts
        (envelope,) = world.services.invoked
        content = json.loads(parts.envelopes.open(envelope, ("task", "e", "1", "1")))
        assert content["traceparent"] == traceparent("e", 1, 1)
        world.run()
        found = world.client.get_execution("e").result(timeout=0)
    assert found == [traceparent("e", 1, 2), traceparent("e", 2, 2)]
    spans = {traceparent("e", seq, attempt) for seq in (1, 2) for attempt in (1, 2)}
    assert len(spans) == 4
    assert len({each.split("-")[1] for each in spans}) == 1
    assert traceparent("f", 1, 1).split("-")[1] != found[0].split("-")[1]


class Flushing(Interceptor):
    """Notes what was held back when an invocation ended."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.flushed: list[list[str]] = []

    @contextmanager
    def around_task(self, task: CurrentTask) -> Generator[None]:
        yield
        self.held.append(f"task {task.name}")

    def committed(self, committed: Committed) -> None:
        self.held.append(f"commit {committed.status}")

    def flush(self) -> None:
        self.flushed.append(self.held)
        self.held = []


def test_each_invocation_flushes_before_it_ends() -> None:
    """Lambda freezes the process behind it: of orchestrator and worker alike, also if one fails."""
    around = Flushing()
    with World(registry_of(one_task), interceptors=[around]) as world:
        world.client.start_execution("one_task", id="e")
        world.run()
        before = len(around.flushed)
        for handler, refusal in (
            (world.worker.execute, WireError),
            (world.orchestrator.orchestrate, UsageError),
        ):
            with pytest.raises(refusal):
                handler({})
        assert len(around.flushed) == before + 2
    assert [held for held in around.flushed if held] == [
        ["commit running"],
        ["task int"],
        ["commit completed"],
    ]


async def one_task(ctx: Context) -> int:
    return await ctx.task(int, 1)

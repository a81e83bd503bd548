"""The saved queries find what they are named for in the lines that the functions print."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import Context, RetryPolicy
from pulumi_component.monitoring import QUERIES
from tests.aws.flows import BODIES, did
from tests.aws.world import Fault, World, registry_of
from tests.paths import ROOT
from tests.pulumi.recording import record
from tests.pulumi.test_engine import engine

pytestmark = pytest.mark.usefixtures("packaged_once")

REPORT = {
    "time": "2026-11-28T12:00:00.000Z",
    "type": "platform.report",
    "record": {"requestId": "r", "metrics": {"durationMs": 9.5, "initDurationMs": 310.2}},
}
"""What Lambda itself writes after a call that was the first of its process (Lambda Developer Guide,
"Lambda Telemetry API", event schema)."""


def stumbles() -> None:
    did(None)
    raise ConnectionError("no answer")


async def fails(ctx: Context) -> None:
    await ctx.task(stumbles, retry=RetryPolicy(max_attempts=2, initial=0))


async def gone(ctx: Context) -> None: ...


@pytest.fixture
def lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[list[dict[str, Any]]]:
    """What both functions print while tasks fail, S3 throttles, and an execution ends or is blocked."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "engine-function")
    logger = logging.getLogger("mini_workflow")
    before = (list(logger.handlers), logger.level, logger.propagate)
    BODIES.clear()
    try:
        with World(registry_of(fails, gone)) as world:
            world.client.start_execution("fails", id="ID")
            world.client.start_execution("gone", id="blocked")
            # What the orchestrator does not have is blocked.
            world.registry = registry_of(fails)
            world.orchestrator = world.process()
            world.after(Fault(1, "throttled", call="s3.PutObject"))
            world.run()
            assert world.client.get_execution("blocked").describe().status == "blocked"
        yield [*map(json.loads, capsys.readouterr().out.splitlines()), REPORT]
    finally:
        logger.handlers, level, logger.propagate = before
        logger.setLevel(level)


def value_of(line: dict[str, Any], name: str) -> Any:
    """What a line has under a name, which may lead inside."""
    found: Any = line
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def holds(condition: str, line: dict[str, Any]) -> bool:
    """Whether a filter lets a line pass. Any other form of one is an error here."""
    for part in condition.split(" and "):
        if match := re.fullmatch(r'([\w.]+) = "([^"]*)"', part):
            passes = value_of(line, match[1]) == match[2]
        elif match := re.fullmatch(r"ispresent\(([\w.]+)\)", part):
            passes = value_of(line, match[1]) is not None
        else:
            match = re.fullmatch(r"([\w.]+) like /(.*)/", part)
            assert match is not None, part
            passes = re.search(match[2], str(value_of(line, match[1]) or "")) is not None
        if not passes:
            return False
    return True


def fields(query: str) -> set[str]:
    """The fields of the lines that a query shows, counts or sorts, without those that it makes."""
    made = set(re.findall(r" as (\w+)", query)) | set(re.findall(r"\(\?<(\w+)>", query))
    found: set[str] = set()
    for command in re.split(r"(?:^|\n)\|? ?", query):
        verb, _, rest = command.strip().partition(" ")
        if verb == "fields":
            found |= set(re.findall(r"@?[\w.]+", rest))
        elif verb == "sort" or verb == "parse":
            found.add(rest.split()[0])
        elif verb == "stats":
            counted, _, by = rest.partition(" by ")
            found |= set(re.findall(r"\((@?[\w.]+)[,)]", counted))
            found |= {one for one in re.split(r"[, ]+", by) if re.fullmatch(r"@?[\w.]+", one)}
    return found - made


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_finds_lines_that_have_its_fields(name: str, lines: list[dict[str, Any]]) -> None:
    _, query = QUERIES[name]
    joined = re.sub(r"\n +", " ", query)
    (condition,) = re.findall(r"(?:^|\| )filter (.*)", joined)
    passed = [line for line in lines if holds(condition, line)]
    assert 0 < len(passed) < len(lines)
    shown = {field for field in fields(joined) if not field.startswith("@")}
    assert shown
    for field in shown - {"exception"}:
        assert any(value_of(line, field) is not None for line in passed), field
    for pattern in re.findall(r"parse message /(.*)/", joined):
        assert all(re.search(pattern.replace("(?<", "(?P<"), line["message"]) for line in passed)


def test_a_query_is_about_the_logs_of_its_functions(root: Path) -> None:
    found = {
        one.name: one.inputs
        for one in record(lambda: engine(root, dashboard=True)).of("QueryDefinition")
    }
    assert set(found) == {f"Flow-{name}-query" for name in QUERIES}
    for name, (functions, query) in QUERIES.items():
        inputs = found[f"Flow-{name}-query"]
        assert inputs["logGroupNames"] == [f"Flow-{function}-logs" for function in functions]
        assert inputs["name"] == f"Flow-events/{name}"
        assert inputs["queryString"] == query
    workers = {"gpu": {"handler": "app.index.execute"}}
    (tasks,) = [
        one.inputs["logGroupNames"]
        for one in record(lambda: engine(root, dashboard=True, workers=workers)).of(
            "QueryDefinition"
        )
        if one.name == "Flow-slowest-tasks-query"
    ]
    assert tasks == ["Flow-worker-logs", "Flow-worker-gpu-logs"]
    assert not record(lambda: engine(root)).of("QueryDefinition")


def test_the_runbook_has_every_query() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert set(
        re.findall(r"^\| `([\w-]+)` \| (?:worker|orchestrator|both)", text, re.MULTILINE)
    ) == set(QUERIES)

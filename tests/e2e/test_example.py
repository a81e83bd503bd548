"""The example, deployed as its users deploy it: its program, its packages, and its HTTP interface."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.aws.emulator.server import Server
from tests.e2e.deployment import Deployment, deployed
from tests.paths import ROOT
from tests.waiting import WAIT


class Example:
    """The deployed example, as those see it who call its URL."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.outputs = deployment.stack.outputs

    def call(self, method: str, path: str, body: str = "", encoded: bool = False) -> Any:
        event = {
            "version": "2.0",
            "rawPath": path,
            "requestContext": {"http": {"method": method, "path": path}},
            "body": body,
            "isBase64Encoded": encoded,
        }
        told = self.deployment.call(self.outputs["api"], event)
        assert "statusCode" in told, told
        return told["statusCode"], json.loads(told["body"])

    def result(self, name: str) -> Any:
        deadline = time.monotonic() + WAIT
        while True:
            code, told = self.call("GET", f"/{name}")
            assert code == 200
            if told["status"] != "running":
                assert told["status"] == "completed", told
                return told["result"]
            assert time.monotonic() < deadline, told
            threading.Event().wait(0.2)


@pytest.fixture(scope="module")
def example(strict_aws: Server) -> Iterator[Example]:
    with deployed(strict_aws, ROOT, Deployment) as deployment:
        yield Example(deployment)


def test_the_program_makes_its_whole_stack(example: Example) -> None:
    # The bucket of the example, an engine, and a function with a URL.
    assert len(example.deployment.mocks.made) == 1 + 37 + 6
    assert set(example.outputs) == {"url", "api", "uploads"}
    assert example.outputs["url"].startswith("http")


def test_the_project_file_names_what_there_is() -> None:
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    assert project["name"] == "mini-workflow-example"
    assert project["runtime"]["name"] == "python"
    assert (ROOT / project.get("main", ".") / "__main__.py").is_file()


def test_an_upload_started_over_http_completes(example: Example) -> None:
    name = f"upload-{uuid4().hex[:8]}"
    body = json.dumps({"key": "notes/a.txt", "data": "durable ☃", "id": name})
    assert example.call("POST", "/", body) == (202, {"id": name})
    assert example.result(name) == "durable ☃"
    assert example.deployment.read(example.outputs["uploads"], "notes/a.txt") == "durable ☃"
    with example.deployment.linked("Api") as runtime:
        history = [type(event).__name__ for event in runtime.get_execution(name).history()]
    assert history == [
        "ExecutionStarted",
        *("TimerStarted", "TimerFired"),
        *("TaskScheduled", "TaskCompleted"),
        *("TaskScheduled", "TaskCompleted"),
        "ExecutionCompleted",
    ]
    # The same again is the same execution.
    again = base64.b64encode(body.encode()).decode()
    assert example.call("POST", "/", again, encoded=True) == (202, {"id": name})


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/", "no json", 400),
        ("POST", "/", '{"key": "k"}', 400),
        ("POST", "/", '{"key": "k", "data": "d", "id": "../x"}', 400),
        ("POST", "/elsewhere", "{}", 404),
        ("GET", "/", "", 404),
        ("GET", "/nobody", "", 404),
    ],
)
def test_what_makes_no_sense_is_refused(
    example: Example, method: str, path: str, body: str, code: int
) -> None:
    answered, told = example.call(method, path, body)
    assert answered == code
    assert told["error"]

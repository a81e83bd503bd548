"""The example, deployed as its users deploy it: its program, its packages, and its HTTP interface."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import yaml

from mini_workflow.core.events import TaskCompleted
from tests.aws.emulator.server import Server
from tests.e2e.deployment import Deployment, deployed
from tests.paths import ROOT
from tests.pulumi.installed_wheels import only_from
from tests.waiting import eventually


class Example:
    """A deployed example, as those see it who call its URL."""

    def __init__(self, deployment: Deployment, function: str) -> None:
        self.deployment = deployment
        self.function = function
        self.outputs = deployment.stack.outputs

    def call(self, method: str, path: str, body: str = "", encoded: bool = False) -> Any:
        event = {
            "version": "2.0",
            "rawPath": path,
            "requestContext": {"http": {"method": method, "path": path}},
            "body": body,
            "isBase64Encoded": encoded,
        }
        told = self.deployment.call(self.outputs[self.function], event)
        assert "statusCode" in told, told
        return told["statusCode"], json.loads(told["body"])

    def eventually(self, name: str, wanted: str) -> Any:
        """What is told of an execution as `wanted`, when there is some."""

        def look() -> Any:
            code, told = self.call("GET", f"/{name}")
            assert code == 200
            assert told["status"] in ("running", "completed"), told
            return told.get(wanted)

        return eventually(look, every=0.2)


@pytest.fixture(scope="module")
def deployment(
    strict_aws: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    wheels = tmp_path_factory.mktemp("wheels")
    with (
        only_from(wheels, "pydantic-ai-slim"),
        deployed(strict_aws, ROOT, Deployment) as deployment,
    ):
        yield deployment


@pytest.fixture
def example(deployment: Deployment) -> Example:
    return Example(deployment, "api")


@pytest.fixture
def agents(deployment: Deployment) -> Example:
    return Example(deployment, "agents_api")


def test_the_program_makes_its_whole_stack(example: Example) -> None:
    # The bucket of the uploads, and twice an engine and a function with a URL.
    assert len(example.deployment.mocks.made) == 1 + 2 * (37 + 6)
    assert set(example.outputs) == {"url", "api", "uploads", "agents_url", "agents_api"}
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
    assert example.eventually(name, "result") == "durable ☃"
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


def test_an_agent_asks_a_person_and_says_what_it_does(agents: Example) -> None:
    name = f"disk-{uuid4().hex[:8]}"
    question = json.dumps({"text": "A disk is full.", "id": name})
    assert agents.call("POST", "/", question) == (202, {"id": name})
    ((wanted, token),) = agents.eventually(name, "approvals").items()
    assert wanted == "delete web-1 access.log"
    approval = json.dumps({"token": token, "allowed": True})
    assert agents.call("POST", "/approvals", approval) == (200, {})
    assert agents.eventually(name, "answer") == "I am done with web-1, as you told me."
    code, told = agents.call("GET", f"/{name}/events")
    assert code == 200
    kinds = [event["event_kind"] for _, event in told["events"]]
    assert kinds.count("function_tool_result") == 4
    assert kinds.count("approval_wanted") == kinds.count("approval_given") == 1
    assert agents.call("POST", "/approvals", approval)[0] == 409
    with agents.deployment.linked("AgentsApi") as runtime:
        done = [e for e in runtime.get_execution(name).history() if isinstance(e, TaskCompleted)]
    assert len(done) == 8  # four answers of the model, and four of tools


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/", '{"id": "no-text"}', 400),
        ("POST", "/approvals", "no json", 400),
        ("POST", "/approvals", '{"token": "wrong", "allowed": true}', 409),
        ("GET", "/nobody", "", 404),
        ("PUT", "/", "", 404),
    ],
)
def test_what_makes_no_sense_to_an_agent_is_refused(
    agents: Example, method: str, path: str, body: str, code: int
) -> None:
    assert agents.call(method, path, body)[0] == code


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

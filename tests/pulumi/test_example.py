"""The example's Pulumi program, run as it is: its stack is made, and its functions work."""

import base64
import json
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.emulator.server import Server
from tests.pulumi.monitor import Stack, stack
from tests.pulumi.provisioning import Provisioning

ROOT = Path(__file__).resolve().parents[2]


class Example:
    """The deployed example. `call` is a request to its URL."""

    def __init__(self, server: Server, made: Stack, mocks: Provisioning) -> None:
        self.server = server
        self.stack = made
        self.mocks = mocks

    def call(self, method: str, path: str, body: str = "", encoded: bool = False) -> Any:
        event = {
            "version": "2.0",
            "rawPath": path,
            "requestContext": {"http": {"method": method, "path": path}},
            "body": body,
            "isBase64Encoded": encoded,
        }
        answer = self.server.client("lambda").invoke(
            FunctionName=self.stack.outputs["api"], Payload=json.dumps(event)
        )
        told = json.loads(answer["Payload"].read())
        assert "statusCode" in told, f"{told}\n{self.server.tail()}"
        return told["statusCode"], json.loads(told["body"])

    def result(self, name: str, within: float = 60) -> Any:
        deadline = time.monotonic() + within
        while True:
            code, told = self.call("GET", f"/{name}")
            assert code == 200
            if told["status"] != "running":
                assert told["status"] == "completed", told
                return told["result"]
            assert time.monotonic() < deadline, f"{told}\n{self.server.tail()}"
            threading.Event().wait(0.2)


@pytest.fixture(scope="module")
def example(strict_aws: Server) -> Any:
    mocks = Provisioning(strict_aws)
    with stack(mocks) as made:
        made.up(ROOT)
        yield Example(strict_aws, made, mocks)


def test_the_program_makes_its_whole_stack(example: Example) -> None:
    # The bucket of the example, an engine, and a function with a URL.
    assert len(example.mocks.made) == 1 + 37 + 6
    assert set(example.stack.outputs) == {"url", "api", "uploads"}
    assert example.stack.outputs["url"].startswith("http")


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
    uploaded = example.server.client("s3").get_object(
        Bucket=example.stack.outputs["uploads"], Key="notes/a.txt"
    )
    assert uploaded["Body"].read().decode() == "durable ☃"
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

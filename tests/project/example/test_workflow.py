"""The example's workflow by itself, in memory, against an S3 server."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import closing
from types import ModuleType

import pytest

from example.demo.s3 import S3Server
from mini_workflow.testing.environment import WorkflowEnvironment
from tests.waiting import WAIT


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server("in-memory-test") as server:
        yield server


@pytest.fixture
def example(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, imported with the server's address in the environment."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "example.workflow", raising=False)
    module = importlib.import_module("example.workflow")
    with closing(module.s3):
        yield module
    monkeypatch.delitem(sys.modules, "example.workflow")


@pytest.mark.parametrize("data", ["", "text", "naïve ☃\r\n\0" * 1000])
def test_what_was_put_comes_back(example: ModuleType, s3: S3Server, data: str) -> None:
    with WorkflowEnvironment() as environment:
        began = environment.now()
        execution = environment.start_execution(example.upload_object, "a key/of 100%.txt", data)
        assert execution.result(timeout=WAIT) == data
        assert (environment.now() - began).total_seconds() == 1
    assert s3.requests == {"PUT": 1, "GET": 1}


def test_the_steps_are_in_the_history(example: ModuleType) -> None:
    with WorkflowEnvironment() as environment:
        execution = environment.start_execution(example.upload_object, "key", "data")
        execution.result(timeout=WAIT)
        assert [type(event).__name__ for event in execution.history()] == [
            "ExecutionStarted",
            "TimerStarted",
            "TimerFired",
            "TaskScheduled",
            "TaskCompleted",
            "TaskScheduled",
            "TaskCompleted",
            "ExecutionCompleted",
        ]


def test_what_s3_refuses_fails_the_workflow(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "BUCKET", "no-such-bucket")
    with WorkflowEnvironment() as environment:
        execution = environment.start_execution(example.upload_object, "key", "data")
        with pytest.raises(Exception, match="NoSuchBucket"):
            execution.result(timeout=WAIT)
        assert execution.describe().status == "failed"

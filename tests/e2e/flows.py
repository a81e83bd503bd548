"""The program of the end-to-end tests, deployed: its executions, and the ledger of their tasks."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from mini_workflow import AWSRuntime, Execution
from mini_workflow.core.events import TaskCompleted
from tests.e2e.deployment import Deployment

PROGRAM = Path(__file__).parent / "program"


def named(kind: str) -> str:
    return f"{kind}-{uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that a task has done: in which process, at which attempt, as which task."""

    pid: int
    attempt: int
    seq: int


class Flows(Deployment):
    """The deployed program."""

    @cached_property
    def runtime(self) -> AWSRuntime:
        """A runtime that may do what the program's function may that is linked to the engine."""
        return self.linked("Starter", self._role)

    @cached_property
    def _role(self) -> Any:
        return self.credentials("Starter-role")

    @property
    def caller(self) -> str:
        """Who the calls of the runtime come from, in the emulator's records."""
        return self._role["AccessKeyId"]

    @contextlib.contextmanager
    def at_most(self, function: str, most: int) -> Iterator[None]:
        """Let a function run so often at a time, and throttle the rest."""
        client, name = self.server.client("lambda"), self.id_of(function)
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=most)
        try:
            yield
        finally:
            client.delete_function_concurrency(FunctionName=name)

    def close(self) -> None:
        """Release what this process holds."""
        self.runtime.close()

    def start(self, workflow: str, *arguments: Any, name: str = "") -> Execution[Any]:
        """Have the program's function start an execution."""
        name = name or named(workflow)
        event = {"workflow": workflow, "arguments": arguments, "id": name}
        answer = self.call(self.id_of("Starter-function"), event)
        assert answer == name, answer
        return self.runtime.get_execution(name)

    def ledger(self, execution: str) -> dict[str, list[Entry]]:
        """What the tasks of an execution have done, by step."""
        bucket, found = self.stack.outputs["ledger"], defaultdict[str, list[Entry]](list)
        pages = self.server.client("s3").get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=f"{execution}/"):
            for listed in page.get("Contents", ()):
                _, step, entry = listed["Key"].split("/")
                pid, attempt, seq, _ = entry.split(".")
                found[step].append(Entry(int(pid), int(attempt), int(seq)))
        return dict(found)

    def schedules(self, execution: str) -> list[str]:
        """The names of the schedules that are to wake an execution."""
        client, group = self.server.client("scheduler"), self.id_of("Flows-schedules")
        found: list[str] = []
        for page in client.get_paginator("list_schedules").paginate(GroupName=group):
            for name in (schedule["Name"] for schedule in page["Schedules"]):
                # Another test's may be gone by now.
                with contextlib.suppress(client.exceptions.ResourceNotFoundException):
                    target = client.get_schedule(Name=name, GroupName=group)["Target"]
                    if json.loads(target["Input"])["MessageGroupId"] == execution:
                        found.append(name)
        return found

    def send(self, group: str, body: str) -> None:
        """Put a message into the queue of events."""
        self.server.client("sqs").send_message(
            QueueUrl=self.id_of("Flows-events"),
            MessageBody=body,
            MessageGroupId=group,
            MessageDeduplicationId=named("message"),
        )

    def set_aside(self, group: str) -> list[dict[str, Any]]:
        """The messages of a group that nobody could read, taken out of their queue."""
        sqs, url = self.server.client("sqs"), self.id_of("Flows-events-dlq")
        answer = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["MessageGroupId"],
        )
        found = answer.get("Messages", [])
        mine = [message for message in found if message["Attributes"]["MessageGroupId"] == group]
        for message in mine:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return mine

    def once(self, execution: str) -> set[str]:
        """The steps that an execution has done, none of them twice."""
        done = self.ledger(execution)
        repeated = {step: entries for step, entries in done.items() if len(entries) != 1}
        assert not repeated, f"done again by {execution}: {repeated}"
        return set(done)

    def under_one_key(self, execution: str) -> set[str]:
        """The steps that an execution has done, each under one key and with one result. After the
        death of a turn, what it had dispatched may be dispatched again.
        """
        done = self.ledger(execution)
        keys = {step: {(entry.seq, entry.attempt) for entry in done[step]} for step in done}
        repeated = {step: found for step, found in keys.items() if len(found) != 1}
        assert not repeated, f"done under other keys by {execution}: {repeated}"
        history = self.runtime.get_execution(execution).history()
        ended = [event.seq for event in history if isinstance(event, TaskCompleted)]
        assert len(ended) == len(set(ended))
        return set(done)

"""Temporal's Python SDK, as far as it runs without a server: the replay of a history.

The history is made here, in the form in which a server gives it: an activity at a time, with its six
events. Only the replay is measured, from the history in memory to the end of the workflow.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
import json
import platform
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow  # pyright: ignore[reportMissingImports]
from temporalio.client import WorkflowHistory  # pyright: ignore[reportMissingImports]
from temporalio.worker import (  # pyright: ignore[reportMissingImports]
    Replayer,
    UnsandboxedWorkflowRunner,
)

from benchmarks.systems.script import Figures, Job, expect, seconds, serve

_QUEUE = {"name": "benchmark", "kind": "TASK_QUEUE_KIND_NORMAL"}


@activity.defn
async def same(number: int) -> int:
    return number


@workflow.defn
class Sequential:
    @workflow.run
    async def run(self, n: int) -> int:
        total = 0
        for number in range(n):
            total += await workflow.execute_activity(
                same, number, start_to_close_timeout=timedelta(seconds=10)
            )
        return total


def _payloads(value: Any) -> dict[str, Any]:
    def text(raw: str) -> str:
        return base64.b64encode(raw.encode()).decode()

    return {
        "payloads": [
            {"metadata": {"encoding": text("json/plain")}, "data": text(json.dumps(value))}
        ]
    }


class History:
    """Events of one execution, as a server lists them."""

    def __init__(self, steps: int) -> None:
        self.events: list[dict[str, Any]] = []
        self._add(
            "WORKFLOW_EXECUTION_STARTED",
            workflowType={"name": "Sequential"},
            taskQueue=_QUEUE,
            input=_payloads(steps),
            workflowTaskTimeout="10s",
            originalExecutionRunId="run",
            firstExecutionRunId="run",
            attempt=1,
        )
        decided = self._turn()
        total = 0
        for number in range(steps):
            scheduled = self._add(
                "ACTIVITY_TASK_SCHEDULED",
                activityId=str(number + 1),
                activityType={"name": "same"},
                taskQueue=_QUEUE,
                input=_payloads(number),
                startToCloseTimeout="10s",
                workflowTaskCompletedEventId=decided,
            )
            started = self._add("ACTIVITY_TASK_STARTED", scheduledEventId=scheduled, attempt=1)
            self._add(
                "ACTIVITY_TASK_COMPLETED",
                result=_payloads(number),
                scheduledEventId=scheduled,
                startedEventId=started,
            )
            decided = self._turn()
            total += number
        self._add(
            "WORKFLOW_EXECUTION_COMPLETED",
            result=_payloads(total),
            workflowTaskCompletedEventId=decided,
        )

    def _turn(self) -> str:
        scheduled = self._add(
            "WORKFLOW_TASK_SCHEDULED", taskQueue=_QUEUE, startToCloseTimeout="10s", attempt=1
        )
        started = self._add("WORKFLOW_TASK_STARTED", scheduledEventId=scheduled)
        return self._add(
            "WORKFLOW_TASK_COMPLETED", scheduledEventId=scheduled, startedEventId=started
        )

    def _add(self, kind: str, **attributes: Any) -> str:
        number = str(len(self.events) + 1)
        first, *rest = kind.lower().split("_")
        name = first + "".join(map(str.capitalize, rest)) + "EventAttributes"
        self.events.append(
            {
                "eventId": number,
                "eventTime": "2026-01-01T00:00:00Z",
                "eventType": f"EVENT_TYPE_{kind}",
                name: attributes,
            }
        )
        return number


def replay(job: Job) -> Figures:
    steps = (job.size - 2) // 2
    history = WorkflowHistory.from_json("benchmark", {"events": History(steps).events})
    replayer = Replayer(workflows=[Sequential], workflow_runner=UnsandboxedWorkflowRunner())
    failures: list[Any] = []

    async def once() -> None:
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        failures.append(result.replay_failure)

    taken = seconds(lambda: asyncio.run(once()))
    expect(failures, [None], "failures")
    return {"us_per_event": taken / job.size * 1e6}


def _about() -> dict[str, str]:
    version = importlib.metadata.version("temporalio")
    return {"python": platform.python_version(), "temporalio": version}


if __name__ == "__main__":
    serve({"replay": replay}, _about)

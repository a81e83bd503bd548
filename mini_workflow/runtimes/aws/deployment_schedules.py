"""The schedules that a deployment declares: made, told of their plans and ended by the orchestrator.

Pulumi's engine and CloudFormation call it when a stack is made, changed and removed, with what the
deployment says now and what the one before said. What neither says is left alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request, urlopen

from mini_workflow.engine.schedules import SCHEDULE_PREFIX, declare, plan_for
from mini_workflow.errors import ExecutionError, StoreError, UsageError

if TYPE_CHECKING:
    from mini_workflow.engine.client import Client
    from mini_workflow.workflow import Registry

log = logging.getLogger("mini_workflow.runtimes.aws")

ENDED_WITHIN: Final = 20.0
"""Seconds to wait until a schedule has ended, before the queue goes that tells it. Our own bound."""

_ANSWERS_WITHIN: Final = 10

Declared = Mapping[str, Mapping[str, Any]]
"""Options of `Schedules.create`, with `workflow`, by the ids of the schedules."""


class DeploymentSchedules:
    """Keeps them by means of a client, for the workflows of a registry."""

    def __init__(self, client: Client, registry: Registry) -> None:
        self._client = client
        self._registry = registry

    def take(self, event: dict[str, Any]) -> dict[str, Any]:
        """Do what a deployment asks for; answers what there is now. Raises UsageError and its like, and
        nothing was changed, or StoreUnavailable, after which it has to be asked again. CloudFormation is
        told of both instead.
        """
        if "RequestType" in event:
            return self._of_cloudformation(event)
        lifecycle: dict[str, Any] = event.get("tf") or {}
        old: dict[str, Any] = lifecycle.get("prev_input") or {}
        told, before = event["schedules"], old.get("schedules", {})
        return self._keep(told, before, ends=lifecycle.get("action") == "delete")

    def _of_cloudformation(self, event: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {
            name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")
        }
        answer["PhysicalResourceId"] = event["LogicalResourceId"]
        answer["Status"] = "SUCCESS"
        try:
            told = json.loads(event["ResourceProperties"]["Input"])["schedules"]
            old = json.loads(event.get("OldResourceProperties", {}).get("Input", "{}"))
            ends = event["RequestType"] == "Delete"
            self._keep(told, old.get("schedules", {}), ends=ends)
        except Exception as error:
            log.exception("the schedules of the deployment are not kept")
            answer |= {"Status": "FAILED", "Reason": f"{type(error).__name__}: {error}"[:1_000]}
        url = str(event["ResponseURL"])
        if not url.startswith(("https://", "http://")):
            raise UsageError(f"an answer to {url!r}: it goes to an address of the web")
        body = json.dumps(answer).encode()
        # The address is signed for a call without a type.
        asked = Request(url, body, {"Content-Type": ""}, method="PUT")
        with urlopen(asked, timeout=_ANSWERS_WITHIN):
            return answer

    def _keep(self, told: Declared, before: Declared, *, ends: bool) -> dict[str, Any]:
        if ends:
            for name in {**before, **told}:
                self._end(name, wait=True)
            return {"schedules": []}
        # What is wrong is to be found out before anything is changed.
        plans = {name: self._plan(name, options) for name, options in told.items()}
        for name in before:
            if name not in plans:
                self._end(name, wait=False)
        for name, plan in plans.items():
            declare(self._client, plan, SCHEDULE_PREFIX + name)
        return {"schedules": sorted(plans)}

    def _plan(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        about = f"schedules: {name}"
        for workflow in self._registry.scheduled():
            if workflow.name == name:
                raise UsageError(
                    f"{about}: the workflow of that name declares a schedule of its own, which would be "
                    "changed forth and back: take one of them out, or call this one otherwise"
                )
        more = dict(options)
        workflow = self._registry.get(more.pop("workflow", ""))
        return plan_for(name, workflow, more, about)

    def _end(self, name: str, *, wait: bool) -> None:
        """End a schedule. Nothing keeps a stack from going, and whoever waits is only to see it end."""
        try:
            found = self._client.get_execution(SCHEDULE_PREFIX + name)
            found.terminate("the deployment does not declare it", by="deployment")
            if wait:
                found.result(timeout=ENDED_WITHIN)
        except ExecutionError:
            return  # there is none, or it has ended, as it should
        except (StoreError, TimeoutError) as error:
            if not wait:
                raise
            log.warning("schedule %r has perhaps not ended: %s", name, error)

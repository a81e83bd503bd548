"""Create, change and end the schedules that a deployment declares; the orchestrator does this.

Pulumi's engine and CloudFormation invoke it when a stack is made, changed and removed, with the schedules of
this deployment and of the one before. Schedules that are in neither are left alone.
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
"""Seconds to wait until a schedule has ended, before its queue is removed. Our own bound."""

_ANSWERS_WITHIN: Final = 10

Declared = Mapping[str, Mapping[str, Any]]
"""Options of `Schedules.create`, with `workflow`, by the ids of the schedules."""


class DeploymentSchedules:
    """The schedules of a deployment, for the workflows of a registry, through a client."""

    def __init__(self, client: Client, registry: Registry) -> None:
        self._client = client
        self._registry = registry

    def take(self, event: dict[str, Any]) -> dict[str, Any]:
        """Handle the event of a deployment. Returns the schedules that there are now.

        Raises UsageError, UnknownWorkflow or InvalidArguments, and nothing was changed, or StoreUnavailable,
        after which the deployment has to try again. CloudFormation gets these errors as an answer instead.
        """
        if "RequestType" in event:
            return self._of_cloudformation(event)
        lifecycle: dict[str, Any] = event.get("tf") or {}
        old: dict[str, Any] = lifecycle.get("prev_input") or {}
        declared, before = event["schedules"], old.get("schedules", {})
        return self._keep(declared, before, ends=lifecycle.get("action") == "delete")

    def _of_cloudformation(self, event: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {
            name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")
        }
        answer["PhysicalResourceId"] = event["LogicalResourceId"]
        answer["Status"] = "SUCCESS"
        try:
            declared = json.loads(event["ResourceProperties"]["Input"])["schedules"]
            old = json.loads(event.get("OldResourceProperties", {}).get("Input", "{}"))
            ends = event["RequestType"] == "Delete"
            self._keep(declared, old.get("schedules", {}), ends=ends)
        except Exception as error:
            log.exception("the schedules of the deployment could not be changed as it declares")
            answer |= {"Status": "FAILED", "Reason": f"{type(error).__name__}: {error}"[:1_000]}
        url = str(event["ResponseURL"])
        if not url.startswith(("https://", "http://")):
            raise UsageError(
                f"ResponseURL={url!r}: give an address that begins with https:// or http://"
            )
        body = json.dumps(answer).encode()
        # The address is signed for a request without a content type.
        asked = Request(url, body, {"Content-Type": ""}, method="PUT")
        with urlopen(asked, timeout=_ANSWERS_WITHIN):
            return answer

    def _keep(self, declared: Declared, before: Declared, *, ends: bool) -> dict[str, Any]:
        if ends:
            for name in {**before, **declared}:
                self._end(name, wait=True)
            return {"schedules": []}
        # All plans are checked before any schedule is changed.
        plans = {name: self._plan(name, options) for name, options in declared.items()}
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
                    f"{about}: the workflow of that name declares a schedule of its own, and the two would "
                    "replace each other: remove one of them, or give this one another name"
                )
        more = dict(options)
        workflow = self._registry.get(more.pop("workflow", ""))
        return plan_for(name, workflow, more, about)

    def _end(self, name: str, *, wait: bool) -> None:
        """End a schedule. With `wait`, for a stack that is removed, this waits for its end and raises no
        StoreError.
        """
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
            log.warning("schedule %r may not have ended: %s", name, error)

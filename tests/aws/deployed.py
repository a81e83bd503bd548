"""A world with versions of the orchestrator behind an alias; Lambda and CloudWatch as far as that takes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from botocore.exceptions import ClientError

from mini_workflow import AWSRuntime
from mini_workflow.settings import FUNCTION_NAME, FUNCTION_VERSION, WORKER_FUNCTION_NAME
from mini_workflow.workflow import Registry
from tests.aws.cloud import Context as LambdaContext
from tests.aws.world import ENVIRONMENT, World

DAY = 86_400_000
GONE: Any = {"Error": {"Code": "ResourceNotFoundException", "Message": "no such version"}}


def refused(code: str, call: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, call)


class FakeCloudWatch:
    """What is known of calls that failed, by version, and of alarms."""

    def __init__(self) -> None:
        self.errors: dict[str, int] = {}
        self.alarms: dict[str, str] = {}
        self.looks = 0

    def get_metric_statistics(self, **asked: Any) -> dict[str, Any]:
        self.looks += 1
        dimensions = {one["Name"]: one["Value"] for one in asked["Dimensions"]}
        assert dimensions["FunctionName"] == "orchestrator"
        assert dimensions["Resource"] == "orchestrator:live"
        count = self.errors.get(dimensions["ExecutedVersion"], 0)
        return {"Datapoints": [{"Sum": float(count)}] if count else []}

    def describe_alarms(self, AlarmNames: list[str]) -> dict[str, Any]:  # noqa: N803
        found = [name for name in AlarmNames if name in self.alarms]
        return {
            "MetricAlarms": [{"AlarmName": name, "StateValue": self.alarms[name]} for name in found]
        }


class FakeLambda:
    """Lambda with an alias: calls of a version are answered by its process."""

    def __init__(self, world: Deployed, client: Any) -> None:
        self._world, self._client = world, client

    def get_alias(self, FunctionName: str, Name: str) -> dict[str, Any]:  # noqa: N803
        assert (FunctionName, Name) == ("orchestrator", "live")
        self._world.asked += 1
        if self._world.throttled:
            raise refused("TooManyRequestsException", "GetAlias")
        main, *canary = self._world.alias
        return {
            "FunctionVersion": main,
            "RoutingConfig": {
                "AdditionalVersionWeights": dict.fromkeys(canary, self._world.weight)
            },
            "RevisionId": str(self._world.revision),
        }

    def list_aliases(self, FunctionName: str, Marker: str = "") -> dict[str, Any]:  # noqa: N803
        """One of them a page."""
        found: list[dict[str, Any]] = [
            {"Name": name, "FunctionVersion": version}
            for (function, name), version in self._world.aliases.items()
            if function == FunctionName
        ]
        if FunctionName == "orchestrator":
            found.append(self.get_alias(FunctionName, "live"))
        start = int(Marker or 0)
        more = {"NextMarker": str(start + 1)} if len(found) > start + 1 else {}
        return {"Aliases": found[start : start + 1], **more}

    def update_alias(self, **asked: Any) -> None:
        assert (asked["FunctionName"], asked["Name"]) == ("orchestrator", "live")
        if asked["RevisionId"] != str(self._world.revision):
            raise refused("PreconditionFailedException", "UpdateAlias")
        weights = asked["RoutingConfig"]["AdditionalVersionWeights"]
        self._world.revision += 1
        self._world.alias = (asked["FunctionVersion"], *weights)
        self._world.weight = next(iter(weights.values()), 0.0)

    def list_versions_by_function(self, FunctionName: str, Marker: str = "") -> Any:  # noqa: N803
        """Two of them a page."""
        found = [{"Version": "$LATEST", "LastModified": "2026-01-01T00:00:00.000+0000"}]
        for version, at in self._world.published[FunctionName].items():
            moment = datetime.fromtimestamp(at / 1000, UTC)
            found.append(
                {"Version": version, "LastModified": f"{moment:%Y-%m-%dT%H:%M:%S}.000+0000"}
            )
        start = int(Marker or 0)
        page: dict[str, Any] = {"Versions": found[start : start + 2]}
        return page | ({"NextMarker": str(start + 2)} if len(found) > start + 2 else {})

    def get_function_configuration(self, FunctionName: str, Qualifier: str = "") -> Any:  # noqa: N803
        assert FunctionName == ("orchestrator" if Qualifier else "orchestrator:live")
        version = Qualifier or self._world.alias[0]
        return {
            "Runtime": f"python{self._world.python}",
            "Environment": {"Variables": {WORKER_FUNCTION_NAME: f"worker:{version}"}},
        }

    def delete_function(self, FunctionName: str, Qualifier: str) -> None:  # noqa: N803
        aliased = [one for (of, _), one in self._world.aliases.items() if of == FunctionName]
        if FunctionName == "orchestrator":
            aliased += self._world.alias
        if Qualifier in aliased:
            raise refused("ResourceConflictException", "DeleteFunction")
        del self._world.published[FunctionName][Qualifier]

    def invoke(self, FunctionName: str, Payload: bytes, **more: Any) -> Any:  # noqa: N803
        function, _, version = FunctionName.partition(":")
        if more or function != "orchestrator":
            return self._client.invoke(FunctionName=FunctionName, Payload=Payload, **more)
        runtime = self._world.orchestrator
        if version:
            self._world.handed_over.append(version)
            runtime = self._world.versions.get(version)
        if runtime is None:
            raise ClientError(GONE, "Invoke")
        context = LambdaContext(900, self._world.clock)
        answer = runtime.orchestrate(json.loads(Payload), context)
        return {"Payload": BytesIO(json.dumps(answer).encode())}


class Deployed(World):
    """Versions of an orchestrator, each a process, and the alias: its main version, and a canary.

    The code of the `first` is deployed as version 7; clients know what is `startable`.
    """

    def __init__(self, first: Registry, startable: Registry) -> None:
        self.asked = 0
        self.throttled = False
        self.handed_over: list[str] = []
        self.versions: dict[str, AWSRuntime] = {}
        self.alias: tuple[str, ...] = ("7",)
        self.weight = 0.1
        self.aliases: dict[tuple[str, str], str] = {}
        """The version of further aliases, by function and name."""
        self.revision = 0
        self.python = "3.13"
        self.published: dict[str, dict[str, int]] = {"orchestrator": {}, "worker": {}}
        """When each version of a function was published."""
        self.cloudwatch = FakeCloudWatch()
        super().__init__(startable)
        self.deploy("7", first)

    def aws(self, service: str) -> Any:
        client = None if service == "cloudwatch" else super().aws(service)
        if service == "cloudwatch":
            return self.cloudwatch
        return FakeLambda(self, client) if service == "lambda" else client

    def deploy(self, version: str, registry: Registry) -> None:
        self.registry = registry
        self.environment = {
            **ENVIRONMENT,
            WORKER_FUNCTION_NAME: f"worker:{version}",
            FUNCTION_NAME: "orchestrator",
            FUNCTION_VERSION: version,
        }
        self.versions[version] = self.process()
        for published in self.published.values():
            published[version] = self.clock.now()

    def at(self, version: str) -> None:
        """Have the next batches arrive at a version."""
        self.orchestrator = self.versions[version]

    def start(self, name: str, version: str) -> None:
        self.at(version)
        self.client.start_execution("flow", id=name)
        self.settle()

    def go_on(self, name: str, version: str) -> None:
        self.at(version)
        self.client.get_execution(name).signal("go")
        self.settle()

    def result(self, name: str) -> Any:
        return self.client.get_execution(name).result(timeout=0)

    def writer(self, name: str) -> str:
        document = self.client._parts.histories.read(name)
        assert document is not None
        return document.written_by

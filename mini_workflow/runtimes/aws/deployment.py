"""Deployment: the versions of an engine's functions, their traffic, and the versions that may be deleted."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mini_workflow import settings
from mini_workflow.core.records import frozen, replace
from mini_workflow.errors import StoreUnavailable, UsageError
from mini_workflow.ports import Query, Status
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.runtimes.aws.versions import Traffic, read_traffic
from mini_workflow.stores.aws.clients import code_of, translate_errors
from mini_workflow.stores.aws.limits import LONGEST_INVOCATION, REPORT_MARGIN, WAITS_FOR_WORKER
from mini_workflow.stores.sqs.call_store import CALLS, version_of

IN_FLIGHT: Final = timedelta(seconds=WAITS_FOR_WORKER + LONGEST_INVOCATION + REPORT_MARGIN)
"""The time after the publication of the next version for which calls of a version may still wait in Lambda's
own queue, or run."""

OPEN: Final[tuple[Status, ...]] = ("running", "blocked")

PAGE: Final = 1_000

_REFERENCED: Final = "ResourceConflictException"
"""Lambda's error for the deletion of a version that an alias leads to."""


@frozen
class Health:
    """Reasons against a canary: the executions that it has `blocked`, the number of its failed calls
    (`errors`), and the `alarms` in the state ALARM.
    """

    blocked: tuple[str, ...] = ()
    errors: int = 0
    alarms: tuple[str, ...] = ()

    @property
    def problems(self) -> list[str]:
        """The reasons in words; none if there is nothing against it."""
        found: list[str] = []
        if self.blocked:
            found.append(f"it has blocked executions: {', '.join(self.blocked[:10])}")
        if self.errors:
            found.append(f"calls of it have failed: {self.errors}")
        if self.alarms:
            found.append(f"alarms ring: {', '.join(self.alarms)}")
        return found


@frozen
class Version:
    """A published version of a function. `superseded` is the time at which the next one was published; None
    for the newest.
    """

    function: str
    number: str
    superseded: datetime | None


class Deployment:
    """Reads and moves the alias of an engine's orchestrator. Raises StoreUnavailable if AWS refuses."""

    def __init__(self, container: Container) -> None:
        self._parts = container
        called = container.settings.get(settings.ORCHESTRATOR_FUNCTION_NAME)
        self.function: Final = called.removesuffix(f":{settings.LIVE}")
        """The name of the orchestrator function."""

    # Which version takes executions

    def traffic(self) -> Traffic:
        """Return the versions that the alias leads to."""
        return read_traffic(self._lambda, self.function)

    def begin(self, version: str, weight: float) -> Traffic:
        """Have a version take a share of the new executions, from 0 to 1; by default the newest version.

        Raises UsageError if there is no such version, or if it takes all executions already.
        """
        traffic, versions = self.traffic(), self._numbers()
        version = version or max(versions, key=int, default="")
        if version not in versions:
            raise UsageError(
                f"function {self.function} has no version {version}; it has {', '.join(versions)}"
            )
        if version == traffic.main:
            raise UsageError(
                f"version {version} takes all executions already: deploy other code first, with the "
                "option canary of the engine, so that it waits for this command"
            )
        return self._move(replace(traffic, canary=version, weight=weight))

    def promote(self) -> Traffic:
        """Have the canary take all executions. Raises UsageError if there is none."""
        traffic = self.traffic()
        if not traffic.canary:
            raise UsageError("there is no canary. Begin one with mini-workflow deploy canary")
        return self._move(Traffic(traffic.canary, revision=traffic.revision))

    def rollback(self, version: str = "") -> Traffic:
        """End the canary, or have `version` take all executions. Raises UsageError, and changes nothing, if
        there is no canary or no such version.
        """
        traffic = self.traffic()
        if not version and not traffic.canary:
            raise UsageError(
                f"there is no canary to take back; name a version that is to take over from {traffic.main} "
                "with --to"
            )
        if version and version not in (versions := self._numbers()):
            raise UsageError(
                f"function {self.function} has no version {version}; it has {', '.join(versions)}"
            )
        return self._move(Traffic(version or traffic.main, revision=traffic.revision))

    def _move(self, traffic: Traffic) -> Traffic:
        """Point the alias to these versions, unless it was moved since it was read. Raises
        StoreUnavailable.
        """
        weights = {traffic.canary: traffic.weight} if traffic.canary else {}
        with translate_errors(f"moving the alias {settings.LIVE!r} of function {self.function!r}"):
            self._lambda.update_alias(
                FunctionName=self.function,
                Name=settings.LIVE,
                FunctionVersion=traffic.main,
                RoutingConfig={"AdditionalVersionWeights": weights},
                **({"RevisionId": traffic.revision} if traffic.revision else {}),
            )
        return traffic

    # The health of a canary

    def health(self, version: str, since: datetime, alarms: Sequence[str] = ()) -> Health:
        """Return the reasons against a version since a time, as far as they are known by now."""
        blocked = tuple(name for name, by in self._written_by("blocked") if by == version)
        return Health(blocked, self._errors(version, since), self._ringing(alarms))

    def _errors(self, version: str, since: datetime) -> int:
        """Return the number of failed calls of a version by the alias. CloudWatch knows of a call a minute or
        two later.
        """
        dimensions = {
            "FunctionName": self.function,
            "Resource": f"{self.function}:{settings.LIVE}",
            "ExecutedVersion": version,
        }
        with translate_errors("reading the metric Errors"):
            found = self._parts.clients.get("cloudwatch").get_metric_statistics(
                Namespace="AWS/Lambda",
                MetricName="Errors",
                Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
                StartTime=since,
                EndTime=self._now() + timedelta(minutes=1),
                Period=60,
                Statistics=["Sum"],
            )
        return round(sum(point["Sum"] for point in found["Datapoints"]))

    def _ringing(self, alarms: Sequence[str]) -> tuple[str, ...]:
        if not alarms:
            return ()
        with translate_errors("reading alarms"):
            found = self._parts.clients.get("cloudwatch").describe_alarms(AlarmNames=list(alarms))
        states = {one["AlarmName"]: one["StateValue"] for one in found["MetricAlarms"]}
        missing = [name for name in alarms if name not in states]
        if missing:
            raise UsageError(
                f"CloudWatch has no alarm {', '.join(missing)}: check the names of the alarms"
            )
        return tuple(name for name in alarms if states[name] == "ALARM")

    def executions(self) -> dict[str, int]:
        """Return the number of open executions of each version; "" stands for no version."""
        found: dict[str, int] = {}
        for _, version in self._open():
            found[version] = found.get(version, 0) + 1
        return found

    def runtime(self) -> str:
        """Return the Python version of the orchestrator, such as "3.13"; empty if it runs from an image."""
        called = self._parts.settings.get(settings.ORCHESTRATOR_FUNCTION_NAME)
        with translate_errors(f"reading the configuration of function {called!r}"):
            found = self._lambda.get_function_configuration(FunctionName=called)
        return found.get("Runtime", "").removeprefix("python")

    # Versions that may be deleted

    def unneeded(self, keep: int) -> list[Version]:
        """Return the versions that no alias, no open execution and no call on its way needs, except for the
        newest `keep` of each function.
        """
        now = self._now()
        orchestrators = self._versions(self.function)
        aliased = self._aliased(self.function)
        kept, _ = _divided(orchestrators, aliased, keep, now)
        workers = {name: self._versions(name) for name in self._called_by(kept)}
        if all(len(versions) <= keep for versions in (orchestrators, *workers.values())):
            return []  # known without a look at the executions
        # Read after the aliases: executions that begin meanwhile are with a version that stays.
        found = list(self._open())
        stay = {*aliased, *(version for _, version in found)}
        kept, spare = _divided(orchestrators, stay, keep, now)
        called = self._called_by(kept)
        captured = self._captured({name for name, _ in found})
        for name in sorted(called):
            versions = workers.get(name) or self._versions(name)
            needed = called[name] | captured | self._aliased(name)
            spare += _divided(versions, needed, keep, now)[1]
        return spare

    def delete(self, version: Version) -> bool:
        """Delete a version. Answers False if it stays, because an alias leads to it by now. Harmless if there
        is no such version.
        """
        try:
            with translate_errors(
                f"deleting version {version.number} of function {version.function!r}"
            ):
                self._lambda.delete_function(
                    FunctionName=version.function, Qualifier=version.number
                )
        except StoreUnavailable as error:
            if error.__cause__ is None or code_of(error.__cause__) != _REFERENCED:
                raise
            return False
        return True

    def _aliased(self, function: str) -> set[str]:
        """Return the versions that aliases of a function lead to."""
        found: set[str] = set()
        marker: dict[str, str] = {}
        while True:
            with translate_errors(f"listing the aliases of function {function!r}"):
                page = self._lambda.list_aliases(FunctionName=function, **marker)
            for one in page["Aliases"]:
                weights = one.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
                found.update((one["FunctionVersion"], *weights))
            if not page.get("NextMarker"):
                return found
            marker = {"Marker": page["NextMarker"]}

    def _called_by(self, orchestrators: Iterable[Version]) -> dict[str, set[str]]:
        """Return the versions of each worker function that versions of the orchestrator call."""
        found: dict[str, set[str]] = {}
        for one in orchestrators:
            variables = self._configured(one.number).get("Environment", {}).get("Variables", {})
            known = settings.Settings(variables)
            for place in (known.get(settings.WORKER_FUNCTION_NAME), *known.workers().values()):
                if version := version_of(place):
                    found.setdefault(place.removesuffix(f":{version}"), set()).add(version)
        return found

    def _captured(self, open_ids: set[str]) -> set[str]:
        """Return the versions of workers that further attempts of open executions may need."""
        found: set[str] = set()
        for key in self._parts.bucket.keys(CALLS, "", 10**9):
            name, _, seq = key.removeprefix(CALLS).rpartition("/")
            if name in open_ids:
                found.add(self._parts.calls.version(name, int(seq)))
        return found

    def _numbers(self) -> list[str]:
        return [one.number for one in self._versions(self.function)]

    def _versions(self, function: str) -> list[Version]:
        """Return the versions of a function, the oldest first."""
        listed: list[tuple[int, datetime]] = []
        marker: dict[str, str] = {}
        while True:
            with translate_errors(f"listing the versions of function {function!r}"):
                page = self._lambda.list_versions_by_function(FunctionName=function, **marker)
            listed += [
                (int(one["Version"]), datetime.fromisoformat(one["LastModified"]))
                for one in page["Versions"]
                if one["Version"].isdecimal()
            ]
            if not page.get("NextMarker"):
                break
            marker = {"Marker": page["NextMarker"]}
        listed.sort()
        following = [at for _, at in listed[1:]]
        return [
            Version(function, str(number), at)
            for (number, _), at in zip(listed, [*following, None], strict=True)
        ]

    def _configured(self, version: str) -> dict[str, Any]:
        with translate_errors(f"reading the configuration of function {self.function!r}"):
            return self._lambda.get_function_configuration(
                FunctionName=self.function, Qualifier=version
            )

    # The executions

    def _open(self) -> Generator[tuple[str, str]]:
        for status in OPEN:
            yield from self._written_by(status)

    def _written_by(self, status: Status) -> Generator[tuple[str, str]]:
        """Return the executions of a status, each with the version that it is with."""
        after: str | None = ""
        while after is not None:
            query = Query(status=status, limit=PAGE, after=after or None)
            page = self._parts.store.list(query)
            names = [head.execution_id for head in page.heads]
            for document in self._parts.histories.headers(names):
                if document is not None:
                    yield document.head.execution_id, document.written_by
            after = page.next

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._parts.clock.now() / 1000, UTC)

    @property
    def _lambda(self) -> Any:
        return self._parts.clients.get("lambda")


def _divided(
    versions: Sequence[Version], needed: set[str], keep: int, now: datetime
) -> tuple[list[Version], list[Version]]:
    """Return the versions that stay, and those that may be deleted."""
    newest = {one.number for one in versions[-keep:]} if keep else set[str]()
    stay: list[Version] = []
    spare: list[Version] = []
    for one in versions:
        recent = one.superseded is None or now - one.superseded < IN_FLIGHT
        (stay if recent or one.number in needed | newest else spare).append(one)
    return stay, spare

"""Reserve calls of an account for the orchestrator, unless an option says how many."""

import importlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pulumi
from pulumi.runtime import mocks
from pulumi.runtime import settings as engine
from pulumi.runtime.proto import resource_pb2

from pulumi_component.options import MOST_BATCHES, EngineOptions

ONE_IN = 10
"""Of so many calls that an account may run, one is for an orchestrator. Our own bound."""

MOST = 100
"""Calls for an orchestrator, however many an account may run: each takes ten events. Our own bound."""

KEPT_FREE = 4
"""One in so many calls of an account is for functions without calls of their own. Our own bound."""

LEAST_FREE = 100
"""Calls that Lambda leaves to functions without calls of their own, at least. Source: AWS Lambda Developer
Guide, "Configuring reserved concurrency for a function"."""

ANSWERS_WITHIN = 10
"""Seconds within which AWS has to answer. Our own bound."""

_given: dict[str, int] = {}
"""What engines of this program have been given, by Region: the account knows nothing of it yet."""


@dataclass(frozen=True, slots=True)
class AccountLimit:
    """The number of calls that an account may run at a time, and how many of them are no function's own."""

    most: int
    free: int

    def share(self, given: int, ready: int) -> int | None:
        """Return how many calls an orchestrator may have, beside the ones just given, and no fewer than are
        kept `ready`; None if there are too few.
        """
        share = max(ready, min(MOST, self.most // ONE_IN))
        left = self.free - given - share
        return share if left >= max(LEAST_FREE, self.most // KEPT_FREE) else None


def reserve(
    name: str, options: EngineOptions, component: pulumi.ComponentResource
) -> tuple[EngineOptions, bool]:
    """Return the options with calls for the orchestrator, unless they say how many it or all workers may
    take; and whether what an earlier deployment has given it stays as it is, because the account cannot be
    asked, or has too few.
    """
    workers = [options.worker, *options.workers.values()]
    if options.orchestrator.get("concurrency") is not None or all(
        worker.get("concurrency") is not None for worker in workers
    ):
        return options, False
    try:
        share, why = _share(options.orchestrator.get("provisioned_concurrency"), component)
    except Exception as error:
        share, why = None, f"the account cannot be asked how many calls it may run: {error}"
    if share is None:
        pulumi.log.warn(
            f"{name}: {why}. So no calls are reserved for the orchestrator but what an earlier deployment "
            "has reserved: as many tasks at a time as the account allows leave none for it. Give the engine "
            "the option concurrency, such as 100: as many calls are the orchestrator's own then; or give "
            "one to each worker, which limits it",
            resource=component,
        )
        return options, True
    # The others are for queries, updates and schedules, which call it by themselves.
    batches = max(2, min(MOST_BATCHES, share - share // ONE_IN))
    orchestrator = {**options.orchestrator, "concurrency": share}
    return replace(options, orchestrator=orchestrator, concurrency=batches), False


def _share(ready: int | None, component: pulumi.ComponentResource) -> tuple[int | None, str]:
    """Return how many calls it may have, of which so many are kept ready; or None, and why."""
    if not _is_deployed():
        return None, "nobody is there to say how many calls the account may run"
    # The engine's provider, as this program and its parents have given it.
    if "aws" in component._providers:  # pyright: ignore[reportPrivateUsage]
        return None, "the engine has a provider of its own, whose account is not asked"
    config = pulumi.Config("aws")
    if any(config.get(key) for key in ("assumeRole", "assumeRoles", "accessKey")):
        return None, "the deployment is made in the name of somebody else than this program"
    limit, region = _ask(config.get("profile"), config.get("region"))
    share = limit.share(_given.get(region, 0), ready or 0)
    if share is None:
        calls = f"of the {limit.most:,} calls that the account may run at a time, {limit.free:,}"
        return None, f"{calls} are no function's own"
    _given[region] = _given.get(region, 0) + share
    return share, ""


def _is_deployed() -> bool:
    """Return whether Pulumi's engine runs this, and not what stands in for it in a test or for a template."""
    feature = resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_HOOKS
    return not isinstance(engine.get_monitor(), mocks.MockMonitor) and bool(
        engine.monitor_supports_feature(feature)
    )


@cache
def _ask(profile: str | None, region: str | None) -> tuple[AccountLimit, str]:
    """Return the limit of the account that is deployed to, in its Region, and the Region.

    A program asks once: what its first engines are given may be taken from the account before its last one
    is made, and would count twice. A client also takes a tenth of a second to make.
    """
    boto3: Any = importlib.import_module("boto3")
    patience: Any = importlib.import_module("botocore.config").Config(
        connect_timeout=ANSWERS_WITHIN, read_timeout=ANSWERS_WITHIN
    )
    session = boto3.Session(profile_name=profile, region_name=region)
    client = session.client("lambda", config=patience)
    found = client.get_account_settings()["AccountLimit"]
    limit = AccountLimit(found["ConcurrentExecutions"], found["UnreservedConcurrentExecutions"])
    return limit, client.meta.region_name

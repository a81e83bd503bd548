"""Deploy schedules with an engine, whose orchestrator is called when they change."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from pulumi_component import units
from pulumi_component.errors import BadOption

_ID = re.compile(r"[A-Za-z0-9_.-]{1,70}")
_OPTIONS = (
    *("workflow", "args", "cron", "every", "timezone", "overlap", "catch_up", "jitter", "tags"),
)
_DURATIONS = ("every", "catch_up", "jitter")
_OVERLAPS = ("skip", "buffer_one", "buffer_all", "allow", "cancel_other", "terminate_other")
_LONGEST = 100 * 366 * 86_400
"""Seconds."""
LATEST = "latest"
"""What catch_up is when nothing is said: the latest time of those that were missed."""


def checked(given: Any) -> dict[str, dict[str, Any]] | None:
    """Return the option schedules, with durations in seconds; None if it is not given. What only the code
    can tell is left to the orchestrator. Raises BadOption.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise BadOption(
            f'schedules: {given!r} is not a mapping by names: {{"nightly": {{"workflow": "report", '
            '"cron": "0 3 * * *"}}'
        )
    return {name: _checked(name, options) for name, options in given.items()}


def _checked(name: Any, given: Any) -> dict[str, Any]:
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise BadOption(
            f"schedules: {name!r} cannot be the name of one: use 1 to 70 letters, digits and '_', '-', '.'"
        )
    about = f"schedules: {name}"
    if not isinstance(given, Mapping):
        raise BadOption(f'{about}: {given!r} is not {{"workflow": ..., "cron": ...}}')
    options = {units.snake_case(key): value for key, value in given.items() if value is not None}
    units.known(about, options, _OPTIONS)
    if not isinstance(options.get("workflow"), str):
        raise BadOption(f"{about}: workflow: the name of the workflow that it starts")
    if ("cron" in options) == ("every" in options):
        raise BadOption(f"{about}: it has times: give either cron or every")
    if "timezone" in options and "every" in options:
        raise BadOption(f"{about}: timezone is for cron; what is every so long has none")
    for duration in _DURATIONS:
        if duration in options and (duration, options[duration]) != ("catch_up", LATEST):
            least = 1 if duration == "every" else 0
            options[duration] = units.seconds(
                f"{about}: {duration}", options[duration], least, _LONGEST
            )
    if "overlap" in options:
        units.one_of(f"{about}: overlap", options["overlap"], _OVERLAPS)
    args = options.get("args", ())
    if isinstance(args, str) or not isinstance(args, Sequence | pulumi.Output):
        raise BadOption(f"{about}: args: {args!r} is not a list of the workflow's arguments")
    return options


def keep(
    name: str,
    schedules: Mapping[str, Any],
    orchestrator: aws.lambda_.Function,
    after: Sequence[pulumi.Resource],
    opts: pulumi.ResourceOptions,
) -> aws.lambda_.Invocation:
    """Have the orchestrator keep the schedules: when they are deployed, when they are changed, and, for the
    last time, when they go.
    """
    return aws.lambda_.Invocation(
        f"{name}-deployed-schedules",
        # Not by an alias: what has been deployed now knows the workflows, whatever serves them still.
        function_name=orchestrator.name,
        input=pulumi.Output.json_dumps(
            {"mini_workflow": "schedules", "schedules": schedules}, sort_keys=True
        ),
        lifecycle_scope="CRUD",
        # The new one would begin what the old one ends.
        opts=pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(depends_on=after, delete_before_replace=True)
        ),
    )

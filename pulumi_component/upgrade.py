"""Refuse another minor version of Python for an engine while executions are open, before a deployment."""

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.runtime import settings as engine
from pulumi.runtime.proto import resource_pb2

from mini_workflow import settings
from pulumi_component.errors import BadOption

_RUNTIME = "mini_workflow.runtimes.aws.runtime"
"""Named here and not imported: only an upgrade takes it, and boto3."""

OPEN = ("running", "blocked")

_NEEDED = (
    settings.BUCKET_NAME,
    settings.OBJECT_PREFIX,
    settings.SIGNING_KEY,
    settings.SIGNING_KEY_ARN,
)


def refusing(name: str, accepted: str | None) -> pulumi.ResourceHook | None:
    """Return what has Pulumi's engine ask, in a preview too, before it updates the function `name`.

    None where that engine is too old for hooks: `mini-workflow deploy check` is for any.
    """
    if not has_hooks():
        return None

    async def ask(args: pulumi.ResourceHookArgs) -> None:
        # The variables are secret as a whole, because the signing key is among them.
        deployed: Any = await pulumi.Output.from_input(args.old_outputs or {}).future()
        check(args, deployed or {}, accepted)

    return pulumi.ResourceHook(
        f"{name}-python-upgrade", ask, pulumi.ResourceHookOptions(on_dry_run=True)
    )


def has_hooks() -> bool:
    """Return whether Pulumi's engine can be told to ask this program before and after an update."""
    if "pulumi.provider.experimental" in sys.modules:
        return False  # a program in another language has this as a package, in a process of its own
    try:
        feature = resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_HOOKS
        return engine.monitor_supports_feature(feature)
    except (AttributeError, TypeError):  # of a package that is as old
        return False


def check(args: pulumi.ResourceHookArgs, deployed: Mapping[str, Any], accepted: str | None) -> None:
    """Raise BadOption if the update of a function changes its Python while executions are open. It is
    `deployed` with these outputs.
    """
    before, after = (_python(inputs) for inputs in (args.old_inputs, args.new_inputs))
    if not before or not after or before == after or accepted == after:
        return
    remedy = (
        f"Deploy with Python {before}; or, once none is open or you accept that, give "
        f'accept_python="{after}" '
        f"(mini-workflow deploy check --python {after} names those that would be blocked)"
    )
    try:
        found = _open(deployed)
    except Exception as error:
        raise BadOption(
            f"{args.name}: from Python {before} to {after}, and whether executions are open cannot be "
            f"asked: {error}. {remedy}"
        ) from error
    if found:
        raise BadOption(
            f"{args.name}: from Python {before} to {after}, while executions are open ({found} and "
            f"perhaps others) whose values the other may not read. {remedy}"
        )


def _python(inputs: Mapping[str, Any] | None) -> str:
    runtime = (inputs or {}).get("runtime")
    return runtime.removeprefix("python") if isinstance(runtime, str) else ""


def _open(deployed: Mapping[str, Any]) -> str:
    """Return the id of an open execution of the engine whose function this is; empty if there is none."""
    with runtime_of(deployed, {}) as runtime:
        for status in OPEN:
            for one in runtime.list_executions(status=status, limit=1):
                return one.id
    return ""


def runtime_of(deployed: Mapping[str, Any], more: Mapping[str, str]) -> Any:
    """Return an AWSRuntime for the engine whose function is `deployed` with these outputs, by the settings
    of that and `more`, with the credentials of this process.
    """
    variables = deployed["environment"]["variables"]
    known = {name: variables[name] for name in _NEEDED if name in variables}
    region = deployed["arn"].split(":")[3]
    boto3: Any = importlib.import_module("boto3")
    runtime: Any = importlib.import_module(_RUNTIME).AWSRuntime
    return runtime.from_env(
        {**known, **more}, clients=lambda service: boto3.client(service, region_name=region)
    )

"""Delete versions of an engine's functions that are no longer needed, after a deployment of another one."""

from collections.abc import Mapping
from typing import Any

import pulumi

from mini_workflow import settings
from pulumi_component.upgrade import has_hooks, runtime_of


def pruning(name: str, keep: int | None) -> pulumi.ResourceHook | None:
    """Return what has Pulumi's engine prune after it has updated the orchestrator `name`.

    None if all versions are to be kept, or where that engine is too old for hooks: `mini-workflow
    deploy prune` is for any.
    """
    if keep is None or not has_hooks():
        return None

    async def prune_now(args: pulumi.ResourceHookArgs) -> None:
        deployed: Any = await pulumi.Output.from_input(args.new_outputs or {}).future()
        prune(deployed or {}, keep)

    return pulumi.ResourceHook(f"{name}-prune", prune_now)


def prune(deployed: Mapping[str, Any], keep: int) -> None:
    """Delete versions that are no longer needed, except for the newest `keep` of each function.

    `deployed` has the outputs of the orchestrator. A failure becomes a warning, since the deployment is
    done and the next one prunes again.
    """
    try:
        called = {settings.ORCHESTRATOR_FUNCTION_NAME: f"{deployed['name']}:{settings.LIVE}"}
        with runtime_of(deployed, called) as runtime:
            deployment = runtime.deployment()
            gone = [one for one in deployment.unneeded(keep) if deployment.delete(one)]
    except Exception as error:
        pulumi.log.warn(
            f"versions that nothing needs stay, because they cannot be found or deleted: {error}. The next "
            "deployment tries again; mini-workflow deploy prune does it now, and keep_versions=False "
            "leaves it to that"
        )
        return
    if gone:
        named = ", ".join(f"{one.function}:{one.number}" for one in gone)
        pulumi.log.info(f"deleted versions that nothing needs: {named}")

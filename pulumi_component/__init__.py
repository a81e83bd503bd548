"""Deploy mini-workflow to AWS: Pulumi components for the engine and for functions that use it."""

try:
    from pulumi_component.args import FunctionArgs, Link, Permission, WorkflowEngineArgs
    from pulumi_component.component import WorkflowEngine
    from pulumi_component.errors import BadOption, BadPackage
    from pulumi_component.function import Function
except ModuleNotFoundError as error:
    if error.name not in ("pulumi", "pulumi_aws", "pulumi_random"):
        raise
    raise ModuleNotFoundError(
        f'pulumi_component needs the package {error.name}: pip install "mini-workflow[pulumi]"',
        name=error.name,
    ) from error

__all__ = [
    "BadOption",
    "BadPackage",
    "Function",
    "FunctionArgs",
    "Link",
    "Permission",
    "WorkflowEngine",
    "WorkflowEngineArgs",
]

"""Deploys mini-workflow to AWS: Pulumi components for the engine and for functions that use it."""

from pulumi_component.args import FunctionArgs, Link, Permission, WorkflowEngineArgs
from pulumi_component.component import WorkflowEngine
from pulumi_component.errors import BadOption, BadPackage
from pulumi_component.function import Function

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

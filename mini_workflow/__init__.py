"""Durable workflows as a library: plain ``async`` functions that survive crashes."""

from mini_workflow.context import Context, ExecutionInfo
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.workflow import Workflow, workflow

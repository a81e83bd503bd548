"""Runs tasks in worker processes: what they break, by a crash or by a leak, is not the engine."""

from mini_workflow.backends.processes.equipment import Equipment
from mini_workflow.backends.processes.runner import ProcessRunner

__all__ = ["Equipment", "ProcessRunner"]

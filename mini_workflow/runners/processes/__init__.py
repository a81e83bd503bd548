"""Runs tasks in worker processes: what they break, by a crash or by a leak, is not the engine."""

from mini_workflow.runners.processes.runner import ProcessRunner
from mini_workflow.runners.processes.worker_config import WorkerConfig

__all__ = ["ProcessRunner", "WorkerConfig"]

"""Run tasks in worker processes, so that a crash or a leak of a task does not reach the engine."""

from mini_workflow.runners.processes.runner import ProcessRunner
from mini_workflow.runners.processes.worker_config import WorkerConfig

__all__ = ["ProcessRunner", "WorkerConfig"]

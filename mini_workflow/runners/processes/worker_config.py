"""Configure both ends of a worker process: the functions that run tasks and protect messages."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from mini_workflow.core.records import frozen
from mini_workflow.ports import TaskOutcome, TaskRequest

Seal = Callable[[bytes, str, int, int], bytes]
"""Seals bytes for an attempt: takes them, the execution id, the sequence number and the attempt number."""

Unseal = Callable[[bytes, str, int, int], bytes]
"""Returns sealed bytes as they were. Raises an exception when they were not sealed for this attempt with this
key."""


@frozen
class WorkerConfig:
    """The configuration of one end. The same factory makes it in the engine's process and in every worker.

    `execute` and `execute_async` run an attempt and do not raise. `seal` and `unseal` protect the
    messages between the two ends: only messages from the other end are unpickled. The worker calls `flush`
    at its end.
    """

    execute: Callable[[TaskRequest], TaskOutcome]
    execute_async: Callable[[TaskRequest], Coroutine[Any, Any, TaskOutcome]]
    seal: Seal
    unseal: Unseal
    flush: Callable[[], None] = lambda: None


Factory = Callable[[], WorkerConfig]
"""Makes the configuration; the factory is pickled once for each worker, by the rules of multiprocessing."""

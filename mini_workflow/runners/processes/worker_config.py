"""Configure both ends of a worker process: how to run tasks, and how to trust a message."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from mini_workflow.core.records import frozen
from mini_workflow.ports import TaskOutcome, TaskRequest

Seal = Callable[[bytes, str, int, int], bytes]
"""Bytes, execution id, sequence number and attempt, to bytes that only `unseal` gives back."""

Unseal = Callable[[bytes, str, int, int], bytes]
"""The reverse. Raises an exception when they were not sealed for this attempt with this key."""


@frozen
class WorkerConfig:
    """Made by a factory in the engine's process and, by the same factory, in every worker.

    `execute` and `execute_async` run an attempt and do not raise; `seal` and `unseal` protect the
    messages between the two, so that nothing is unpickled that does not come from the other side. `flush` is
    called at the end of the worker.
    """

    execute: Callable[[TaskRequest], TaskOutcome]
    execute_async: Callable[[TaskRequest], Coroutine[Any, Any, TaskOutcome]]
    seal: Seal
    unseal: Unseal
    flush: Callable[[], None] = lambda: None


Factory = Callable[[], WorkerConfig]
"""Makes the config; it is pickled once for each worker, by the rules of multiprocessing."""

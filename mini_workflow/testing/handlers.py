"""Find the functions with which an execution handles signals, queries and updates, by a replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from mini_workflow.engine.client import Client
from mini_workflow.errors import MiniWorkflowError
from mini_workflow.testing.replaying import replay
from mini_workflow.workflow import REGISTRY

TURN_TIMEOUT: Final = 2.0
"""Seconds that the code may compute. Our own bound."""

LONGEST: Final = 20_000
"""Events of the longest history that is replayed. Our own bound: some tenths of a second."""

Handlers = Mapping[tuple[str, str], Callable[..., Any]]
"""Functions by the kind of the message ("signal", "query" or "update") and its name."""


def handlers_of(client: Client, execution_id: str) -> Handlers:
    """Return the functions that handle messages to an execution now.

    Empty if the module of the workflow is not imported, or its history is too long or does not fit
    the code. The workflow's code runs in this process; nothing is unpickled and nothing is written.
    Raises ExecutionNotFound.
    """
    execution = client.get_execution(execution_id)
    if client.head(execution_id).workflow not in REGISTRY.names():
        return {}
    try:
        recording = execution.recording()
        if len(recording.history) > LONGEST:
            return {}
        plain = recording.decoded(client.codec.for_execution(execution_id))
        return replay(plain, turn_timeout=TURN_TIMEOUT).handlers
    except MiniWorkflowError:
        return {}

"""Share attempts of tasks with other processes that have the same store open."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from mini_workflow.codecs.payload_codecs import Codecs
from mini_workflow.codecs.standard import StandardCodec, with_codecs
from mini_workflow.core import wire
from mini_workflow.core.codec import Codec, bytes_of_call
from mini_workflow.engine.batch import ended
from mini_workflow.ports import Clock, Report, TaskOutcome, TaskRequest
from mini_workflow.ports.shared_tasks import SharedTasks
from mini_workflow.runners.shared_runner import SharedRunner

INTERVAL = 5.0
"""Seconds after which a process looks for attempts that others have left, where its leases do not end. Our
own bound."""

MakeShared = Callable[[Report], SharedRunner]
"""Makes the runner that shares attempts with other processes; it takes the report to the engine."""


def sharing(
    backend: object,
    serves: Collection[str],
    codec: Codec,
    payload_codecs: Codecs | None,
    value_limit: int,
    clock: Clock,
    lease: float | None,
    notify: Callable[[], None],
) -> MakeShared | None:
    """Return a function that makes the SharedRunner on the `shared_tasks` of a backend; None if the backend
    has none.

    Lets the other owners know which workers this process `serves`. `codec` is the one of its runtime, `lease`
    the seconds of its leases, and `notify` tells other processes to look at the store.
    """
    tasks: SharedTasks | None = getattr(backend, "shared_tasks", None)
    if tasks is None:
        return None
    tasks.serve(serves)
    outgoing = with_codecs(StandardCodec(value_limit=value_limit), payload_codecs)
    return partial(
        _make,
        tasks,
        partial(_call, codec, outgoing),
        partial(_message, clock),
        notify,
        INTERVAL if lease is None else lease / 3,
    )


def _make(
    tasks: SharedTasks,
    call: Callable[[TaskRequest], bytes],
    message: Callable[[TaskOutcome], str],
    notify: Callable[[], None],
    interval: float,
    report: Report,
) -> SharedRunner:
    return SharedRunner(
        tasks, call=call, message=message, report=report, notify=notify, interval=interval
    )


def _call(codec: Codec, outgoing: Codec, request: TaskRequest) -> bytes:
    """Return the call of an attempt as bytes, also where it was captured for this process alone."""
    payload = request.payload
    if isinstance(payload, bytes):
        return payload
    name = request.execution_id
    call = codec.for_execution(name).restore(payload)
    return bytes_of_call(outgoing.for_execution(name).capture(*call))


def _message(clock: Clock, outcome: TaskOutcome) -> str:
    return wire.encode(ended(outcome, clock.now()))

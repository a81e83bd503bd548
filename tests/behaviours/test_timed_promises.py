"""99: promises that end by themselves: by their timeout, or because no heartbeat comes any more."""

from __future__ import annotations

from typing import Any

import pytest

from mini_workflow import Context, ExecutionClosed, PromiseNotOpen, PromiseTimeout, workflow
from tests.behaviours.stage import DAY, Stage
from tests.waiting import WAIT, eventually


@workflow("behaviours.promised_in_time")
async def promised_in_time(ctx: Context, timeout: float | None, heartbeat: float | None) -> Any:
    paid = ctx.promise("paid", timeout=timeout, heartbeat=heartbeat)
    ctx.on_query("token", lambda: paid.token)
    try:
        return await paid
    except PromiseTimeout as error:
        return f"{type(error).__name__}: {error}"


def test_99_a_promise_ends_by_its_timeout(runtime: Stage) -> None:
    """From its creation on, in whatever process; it cannot be completed then."""
    execution = runtime.start(promised_in_time, runtime.far(3 * DAY), None)
    token = execution.query("token") if runtime.virtual else None
    runtime.reopen()
    execution = runtime.again(execution)
    told = execution.result(WAIT)
    assert told.startswith("PromiseTimeout: promise 'paid' was not completed within ")
    if token is not None:
        with pytest.raises((PromiseNotOpen, ExecutionClosed)):
            runtime.complete_promise(token, "too late")


def test_99_a_promise_ends_without_a_heartbeat(runtime: Stage) -> None:
    """A silent one ends long before its timeout; a completed one does not end any more."""
    execution = runtime.start(promised_in_time, 30 * DAY, runtime.far(600))
    told = execution.result(WAIT)
    assert told.startswith("PromiseTimeout: promise 'paid' has ended: no heartbeat came for ")

    execution = runtime.start(promised_in_time, DAY, DAY)
    runtime.complete_promise(execution.query("token"), "by card")
    assert execution.result(WAIT) == "by card"


def test_99_a_heartbeat_is_seen_from_outside(runtime: Stage) -> None:
    """With its details, which a runtime that is opened later knows too; nothing of it is in the history."""
    execution = runtime.start(promised_in_time, 30 * DAY, DAY)
    token = execution.query("token")
    (one,) = execution.open_promises()
    assert (one.name, one.token, one.last_heartbeat, one.details) == ("paid", token, None, None)
    length = len(execution.history())
    for page in range(3):
        runtime.heartbeat_promise(token, {"page": page})
    with runtime.beside() as other:
        other.heartbeat_promise(token, {"page": 3})

    def heard() -> Any:
        (found,) = execution.open_promises()
        return found if found.details == {"page": 3} else None

    found = eventually(heard)
    assert found.last_heartbeat is not None
    assert found.until >= one.until
    assert len(execution.history()) == length
    runtime.reopen()
    execution = runtime.again(execution)
    assert execution.open_promises() == [found]
    runtime.complete_promise(token, "at last")
    assert execution.result(WAIT) == "at last"


def test_99_a_heartbeat_for_nothing_is_refused(runtime: Stage) -> None:
    """So whoever works on a promise that is not open any more learns of it, and stops."""
    execution = runtime.start(promised_in_time, None, DAY)
    token = execution.query("token")
    with pytest.raises(PromiseNotOpen):
        runtime.heartbeat_promise(token[:-1] + ("1" if token[-1] == "0" else "0"))
    with pytest.raises(PromiseNotOpen):
        runtime.heartbeat_promise("nobody~1~secret")
    runtime.complete_promise(token, 1)
    assert execution.result(WAIT) == 1
    with pytest.raises((PromiseNotOpen, ExecutionClosed)):
        runtime.heartbeat_promise(token)

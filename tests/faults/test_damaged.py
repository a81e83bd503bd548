"""One damaged event stops its own execution, and no other: law 20."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import Context, ExecutionBlocked, LocalClient, LocalRuntime, workflow
from mini_workflow.core import events
from mini_workflow.errors import WireError
from tests.unit.local import flows
from tests.waiting import WAIT


def wait_for_gate() -> None:
    flows.gate("damaged").opened.wait(WAIT)


@workflow("damaged.holds")
async def holds(ctx: Context, how: str) -> Any:
    ctx.on_query("state", lambda: "fine")
    ctx.on_update("echo", lambda value: value)
    await ctx.sleep(0.001)
    if how == "busy":
        return await ctx.task(wait_for_gate)
    if how == "timer":
        return await ctx.sleep(0.001)
    return await ctx.wait_for_signal("go")


def damage(path: Path, execution_id: str, number: str) -> None:
    """A byte that is no UTF-8, in the first event, in the last one, or in all of them."""
    raw = sqlite3.connect(path)
    which = {"first": "number = 0", "last": "number = 1", "all": "1"}[number]
    raw.execute(
        "UPDATE events SET body = CAST(CAST(substr(body, 1, 20) AS BLOB) || x'ff' AS TEXT) "
        f"WHERE {which} AND execution = (SELECT key FROM executions WHERE id = ?)",
        (execution_id,),
    )
    raw.commit()
    raw.close()


@pytest.mark.parametrize("number", ["first", "last", "all"])
@pytest.mark.parametrize("how", ["busy", "idle"])
def test_it_blocks_its_own_execution_only(path: Path, how: str, number: str) -> None:
    with LocalRuntime(path, grace=0) as runtime:
        for name in ("bad", "good"):
            execution = runtime.start_execution(holds, how, id=name)
            while len(execution.history()) < 3 + (how == "busy"):
                assert execution.describe().status == "running"
                execution.query("state")
    damage(path, "bad", number)
    flows.gate("damaged").opened.set()
    with LocalRuntime(path) as runtime:
        bad, good = runtime.get_execution("bad"), runtime.get_execution("good")
        if how == "idle":
            bad.signal("go", 1)
            good.signal("go", 1)
        good.result(WAIT)
        with pytest.raises(ExecutionBlocked, match=r"damaged, not UTF-8|not an event"):
            bad.result(WAIT)
        for ask in (
            lambda: bad.query("state"),
            lambda: bad.update("echo", 1, timeout=WAIT),
            bad.history,
        ):
            with pytest.raises((WireError, ExecutionBlocked)):
                ask()
        assert {one.id for one in runtime.list_executions()} == {"bad", "good"}
        assert runtime.start_execution(flows.steps, 3).result(WAIT) == 3
        with LocalClient(path) as client:
            assert {one.id for one in client.list_executions()} == {"bad", "good"} | {
                one.id for one in runtime.list_executions(workflow=flows.steps)
            }
            with pytest.raises(ExecutionBlocked):
                client.get_execution("bad").result(WAIT)
        bad.terminate("it cannot be fixed")
        assert bad.describe().status == "terminated"


def test_a_damaged_message_stays_and_hurts_nobody(path: Path) -> None:
    with LocalRuntime(path) as runtime:
        runtime.start_execution(holds, "idle", id="one")
    with LocalClient(path) as client:
        client.get_execution("one").signal("other", 1)
    raw = sqlite3.connect(path)
    raw.execute("UPDATE mailbox SET body = CAST(x'7bff' AS TEXT)")
    raw.commit()
    raw.close()
    with LocalRuntime(path) as runtime:
        execution = runtime.get_execution("one")
        execution.signal("go", "on")
        assert execution.result(WAIT) == "on"
        kinds = [type(event) for event in execution.history()]
        assert kinds.count(events.SignalReceived) == 1


@workflow("damaged.sleeps")
async def sleeps(ctx: Context) -> str:
    await ctx.wait_for_signal("go")
    await ctx.sleep(0.001)
    return "slept"


@pytest.mark.parametrize(
    "change",
    ["wake_at = 'soon'", "wake_at = x'ff'", "wake_at = 1, id = x'ff'", "busy = 1, id = x'ff'"],
)
def test_a_damaged_row_of_what_is_due_holds_up_no_other(path: Path, change: str) -> None:
    with LocalRuntime(path) as runtime:
        for name in ("bad", "good"):
            runtime.start_execution(sleeps, id=name)
    raw = sqlite3.connect(path)
    raw.execute(f"UPDATE executions SET {change} WHERE id = 'bad'")
    raw.commit()
    raw.close()
    with LocalRuntime(path) as runtime:
        for name in ("good", "new", "newer"):
            execution = runtime.start_execution(sleeps, id=name)
            execution.signal("go")
            assert execution.result(WAIT) == "slept"

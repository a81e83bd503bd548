"""104: an execution that needs a slot of a limit waits for it before its code begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionCancelled,
    ExecutionTerminated,
    ExecutionTimeout,
    Limit,
    RetryPolicy,
    UnknownHandler,
    UsageError,
    workflow,
)
from tests.behaviours.stage import LEDGER, Stage, note
from tests.waiting import WAIT, eventually

ONE = Limit("behaviours.one", concurrency=1)


@workflow("behaviours.in_queue")
async def in_queue(ctx: Context, name: str) -> str:
    await ctx.task(note, name)
    ctx.on_query("name", lambda: name)
    return f"{name} {await ctx.wait_for_signal('go')}"


@workflow("behaviours.limited_itself", limit=ONE, limit_key="own")
async def limited_itself(ctx: Context, rounds: int) -> int:
    await ctx.task(note, rounds)
    if rounds:
        ctx.continue_as_new(rounds - 1)
    return ctx.info.run


def waits(execution: Any, word: str = "to begin") -> str:
    """What an execution says of what it does, once it says that."""

    def said() -> str | None:
        sentence: str = execution.describe().sentence(datetime.now(UTC))
        return sentence if word in sentence else None

    return eventually(said)


def slots(runtime: Stage, held: int, waiting: int) -> Any:
    """The limit, once it has so many slots held and waited for."""

    def found() -> Any:
        seen = runtime.limits.get(ONE.name).describe()
        return seen if (seen.held, seen.waiting) == (held, waiting) else None

    return eventually(found)


def test_104_it_begins_when_another_one_has_ended(runtime: Stage) -> None:
    """It runs no code until then, says what it waits for, and keeps what it is sent."""
    first = runtime.start(in_queue, "first", queue=ONE)
    waits(first, "signal")
    second = runtime.start(in_queue, "second", queue=ONE.name, limit_key="c-7", id="second")
    assert "Waits for a slot of limit 'behaviours.one' to begin" in waits(second)
    assert second.describe().status == "running"
    assert "needs a slot of limit 'behaviours.one'" in str(second.timeline())
    with pytest.raises(UnknownHandler, match="waits for a slot of limit"):
        second.update("anything", timeout=WAIT)
    second.signal("go", 2)
    seen = slots(runtime, 1, 1)
    assert [one.execution_id for one in seen.holders] == [first.id]
    assert LEDGER == ["first"]
    first.signal("go", 1)
    assert first.result(WAIT) == "first 1"
    assert second.result(WAIT) == "second 2"
    slots(runtime, 0, 0)


def test_104_whatever_ends_gives_back(runtime: Stage) -> None:
    """Also what ends while it waits, of which no code runs."""
    first = runtime.start(in_queue, "first", queue=ONE)
    waits(first, "signal")
    cancelled = runtime.start(in_queue, "cancelled", queue=ONE)
    ended = runtime.start(in_queue, "ended", queue=ONE)
    second = runtime.start(in_queue, "second", queue=ONE)
    for execution in (cancelled, ended, second):
        waits(execution)
    cancelled.cancel("not needed")
    with pytest.raises(ExecutionCancelled, match="not needed"):
        cancelled.result(WAIT)
    ended.terminate("away")
    with pytest.raises(ExecutionTerminated, match="away"):
        ended.result(WAIT)
    slots(runtime, 1, 1)
    first.terminate()
    waits(second, "signal")
    second.cancel()
    slots(runtime, 0, 0)
    assert LEDGER == ["first", "second"]


def test_104_a_workflow_may_need_a_slot_by_itself(runtime: Stage) -> None:
    """As a child too; and its slot goes on with the runs that follow."""
    assert runtime.run(limited_itself, 2) == 3
    assert LEDGER == [2, 1, 0]
    told = runtime.get_execution(f"limit:{ONE.name}").history()
    assert sum(type(event).__name__ == "SlotsSent" for event in told) == 1
    slots(runtime, 0, 0)
    first = runtime.start(in_queue, "first", queue=ONE)
    waits(first, "signal")
    parent = runtime.start(starts_limited)
    child = runtime.get_execution("limited-child")
    waits(child)
    keyed = runtime.start(limited_itself, 0, limit_key="other", priority=3)
    waits(keyed)
    keys = {one.key: one.waiting for one in slots(runtime, 1, 2).keys}
    assert keys == {"": 0, "own": 1, "other": 1}
    first.signal("go", 1)
    assert parent.result(WAIT) == 1
    assert keyed.result(WAIT) == 1


@workflow("behaviours.starts_limited")
async def starts_limited(ctx: Context) -> int:
    return int(await ctx.child(limited_itself, 0, id="limited-child"))


def test_104_it_survives_the_process(runtime: Stage) -> None:
    """Who waits goes on waiting, and who holds goes on holding."""
    first = runtime.start(in_queue, "first", queue=ONE)
    waits(first, "signal")
    second = runtime.start(in_queue, "second", queue=ONE)
    waits(second)
    runtime.reopen()
    slots(runtime, 1, 1)
    runtime.again(first).signal("go", 1)
    assert runtime.again(first).result(WAIT) == "first 1"
    runtime.again(second).signal("go", 2)
    assert runtime.again(second).result(WAIT) == "second 2"


def test_104_what_is_paused_keeps_its_slot(runtime: Stage) -> None:
    """Until it is resumed, or terminated."""
    first = runtime.start(in_queue, "first", queue=ONE)
    waits(first, "signal")
    second = runtime.start(in_queue, "second", queue=ONE)
    waits(second)
    first.pause("the shop moves")
    waits(first, "Paused")
    slots(runtime, 1, 1)
    first.resume()
    first.signal("go", 1)
    assert first.result(WAIT) == "first 1"
    waits(second, "signal")
    second.terminate()
    slots(runtime, 0, 0)


def fail_once() -> None:
    """A task."""
    note("tried")
    if LEDGER.count("tried") < 2:
        raise LookupError("try again")


@workflow("behaviours.fails_in_queue")
async def fails_in_queue(ctx: Context) -> str:
    await ctx.task(note, "begun")
    await ctx.task(fail_once, retry=RetryPolicy(max_attempts=1))
    return f"{await ctx.wait_for_signal('go')}"


def test_104_what_runs_again_has_a_slot(runtime: Stage) -> None:
    """A retry waits for one, or has one at once if its code has begun; so does a fork."""
    failed = runtime.start(fails_in_queue, queue=ONE, id="failed")
    with pytest.raises(LookupError):
        failed.result(WAIT)
    slots(runtime, 0, 0)
    failed.retry()
    waits(failed, "signal")
    slots(runtime, 1, 0)
    forked = failed.fork(before="fail_once", id="forked")
    waits(forked, "signal")
    slots(runtime, 2, 0)
    failed.signal("go", 1)
    assert failed.result(WAIT) == "1"
    slots(runtime, 1, 0)
    failed.restart()
    waits(failed)
    forked.signal("go", 2)
    assert forked.result(WAIT) == "2"
    failed.signal("go", 3)
    assert failed.result(WAIT) == "3"
    slots(runtime, 0, 0)


@workflow("behaviours.tried_in_queue")
async def tried_in_queue(ctx: Context) -> int:
    await ctx.task(note, "tried")
    if ctx.info.attempt == 1:
        raise LookupError("try again")
    return ctx.info.attempt


def test_104_between_two_attempts_none_is_held(runtime: Stage) -> None:
    """Of an execution that is tried again; the next attempt waits for its turn."""
    policy = RetryPolicy(max_attempts=2, initial=0.01, jitter="none")
    assert runtime.run(tried_in_queue, queue=ONE, retry=policy) == 2
    told = runtime.get_execution(f"limit:{ONE.name}").history()
    assert sum(type(event).__name__ == "SlotsSent" for event in told) == 2
    slots(runtime, 0, 0)


def test_104_a_deadline_counts_from_when_the_code_begins(runtime: Stage) -> None:
    """Not while it waits for a slot."""
    first = runtime.start(in_queue, "first", queue=ONE)
    waits(first, "signal")
    second = runtime.start(in_queue, "second", queue=ONE, timeout=timedelta(seconds=0.2))
    waits(second)
    if runtime.virtual:
        runtime.start(pause, id="pause").result(WAIT)
    assert second.describe().status == "running"
    first.signal("go", 1)
    with pytest.raises(ExecutionTimeout):
        second.result(WAIT)


@workflow("behaviours.pause_of_a_day")
async def pause(ctx: Context) -> None:
    await ctx.sleep(timedelta(days=1))


def test_104_what_cannot_be_meant_is_refused(runtime: Stage) -> None:
    """At the call, with what to do; nothing is started."""
    for options, said in (
        ({"queue": "behaviours.undeclared"}, "no limit 'behaviours.undeclared' is declared"),
        ({"queue": "no name"}, "cannot be the name of a limit"),
        ({"limit_key": "alone"}, "give queue= too, or declare @workflow"),
        ({"queue": ONE, "priority": 1000}, "priority=1000"),
    ):
        with pytest.raises(UsageError, match=said):
            runtime.start(in_queue, "never", **options)
    with pytest.raises(UsageError, match="give limit= too"):
        workflow("behaviours.wrongly_limited", priority=3)
    assert runtime.list_executions(workflow=in_queue) == []


@workflow("behaviours.starts_in_queue")
async def starts_in_queue(ctx: Context, names: list[str]) -> list[Any]:
    """Has children wait for slots, one after the other, and one that it lets go."""
    ctx.start(in_queue, "alone", id="alone", queue=ONE, limit_key="a", priority=-1)
    children = [
        ctx.child(in_queue, name, id=name, queue=ONE.name, limit_key="b", priority=priority)
        for priority, name in enumerate(names)
    ]
    return [await child for child in children]


def test_104_what_a_workflow_starts_waits_too(runtime: Stage) -> None:
    """A child, and what goes on by itself, need the slot that the code names: the highest priority first."""
    holder = runtime.start(in_queue, "holder", queue=ONE)
    waits(holder, "signal")
    parent = runtime.start(starts_in_queue, ["one", "two"])
    slots(runtime, 1, 3)
    for name in ("one", "two", "alone"):
        assert "Waits for a slot" in waits(runtime.get_execution(name))
        runtime.get_execution(name).signal("go", name)
    assert LEDGER == ["holder"]
    noted = [entry.note for entry in parent.timeline() if "needs a slot of limit" in entry.note]
    assert len(noted) == 3
    holder.signal("go", "")
    assert parent.result(WAIT) == ["one one", "two two"]
    assert runtime.get_execution("alone").result(WAIT) == "alone alone"
    assert LEDGER == ["holder", "two", "one", "alone"]
    slots(runtime, 0, 0)


def test_104_many_wait_in_a_queue(runtime: Stage) -> None:
    """They begin one after the other, on AWS in any order."""
    calls = [(name,) for name in "abc"]
    options: Any = {"queue": ONE, "limit_key": "c-7", "priority": 1}
    many = runtime.start_executions(in_queue, calls, ids=[*"abc"], **options)
    eventually(lambda: LEDGER)
    slots(runtime, 1, 2)
    for one in many:
        one.signal("go", 1)
    assert [one.result(WAIT) for one in many] == ["a 1", "b 1", "c 1"]
    slots(runtime, 0, 0)


@workflow("behaviours.called_like_a_queue")
async def called_like_a_queue(ctx: Context, queue: str, priority: int = 0) -> list[Any]:
    return [queue, priority]


@workflow("behaviours.confused_with_a_queue")
async def confused_with_a_queue(ctx: Context) -> list[Any]:
    """Starts what has parameters of these names, and what cannot be meant."""
    seen: list[Any] = []
    start: Any
    for start in (ctx.child, ctx.start):
        for wanted, *args, given in (
            (called_like_a_queue, {"queue": ONE.name}),
            (in_queue, "x", {"queue": "behaviours.undeclared"}),
            (in_queue, "x", {"limit_key": "alone"}),
            (in_queue, "x", {"queue": ONE, "priority": 1000}),
        ):
            try:
                start(wanted, *args, **given)
            except UsageError as error:
                seen.append(str(error))
    seen.append(await ctx.child(called_like_a_queue.bind("mine", priority=3), queue=ONE))
    return seen


def test_104_what_a_workflow_cannot_mean_is_refused(runtime: Stage) -> None:
    """Where it stands, as by a client; arguments that are called like the options are bound."""
    start: Any = runtime.runtime.start_execution
    with pytest.raises(UsageError, match=r"called_like_a_queue\.bind\(queue="):
        start(called_like_a_queue, queue=ONE.name)
    seen = runtime.run(confused_with_a_queue)
    assert len(seen) == 9
    for of_child, of_start in zip(seen[:4], seen[4:8], strict=True):
        assert of_child.replace("ctx.child", "ctx.start") == of_start
    assert "called_like_a_queue.bind(queue=...)" in seen[0]
    assert "no limit 'behaviours.undeclared' is declared" in seen[1]
    assert "give queue= too, or declare @workflow" in seen[2]
    assert "priority=1000" in seen[3]
    assert seen[-1] == ["mine", 3]
    undeclared: Any = {"queue": "behaviours.undeclared"}
    with pytest.raises(UsageError, match=r"no limit 'behaviours.undeclared' is declared"):
        runtime.start_executions(in_queue, [("a",)], **undeclared)
    assert runtime.list_executions(workflow=in_queue) == []

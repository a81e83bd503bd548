"""102: tasks that share a limit wait for a slot of it, whatever executions they are of."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mini_workflow import Context, ExecutionNotFound, Limit, RetryPolicy, UsageError, workflow
from tests.behaviours.stage import LEDGER, Stage, gate, go_through, note
from tests.waiting import WAIT, eventually

NARROW = Limit("behaviours.narrow", concurrency=1)
Limit("behaviours.pair", concurrency=2)
Limit("behaviours.each", concurrency=1, per_key=True)
Limit("behaviours.slow", rate=(2, timedelta(seconds=1)))


def pass_through(name: str) -> str:
    """A task: wait at the gate of that name, and write it down."""
    return str(note(go_through(name)))


@workflow("behaviours.limited")
async def limited(ctx: Context, limit: str, names: list[str], options: dict[str, Any]) -> list[Any]:
    tasks = [ctx.task(pass_through, name, limit=limit, **options) for name in names]
    return list(await asyncio.gather(*tasks))


def waits(runtime: Stage, execution: Any, word: str) -> str:
    """What an execution says of what it does, once it says that."""

    def said() -> str | None:
        sentence: str = execution.describe().sentence(datetime.now(UTC))
        return sentence if word in sentence else None

    return eventually(said)


def test_102_no_more_are_at_work_than_the_limit_has_slots(runtime: Stage) -> None:
    """Over executions; who waits says so, and goes on when a slot is given back."""
    first = runtime.start(limited, NARROW.name, ["one"], {})
    gate("one").wait_until_reached()
    second = runtime.start(limited, NARROW.name, ["two"], {})
    said = waits(runtime, second, "slot")
    assert "aits for a slot of limit 'behaviours.narrow'" in said
    assert not gate("two").reached.is_set()
    text = str(second.timeline())
    assert "waits for a slot of limit 'behaviours.narrow'" in text
    gate("two").open()
    gate("one").open()
    assert first.result(WAIT) == ["one"]
    assert second.result(WAIT) == ["two"]
    assert LEDGER == ["one", "two"]


def test_102_a_list_counts_what_waits_for_a_slot(runtime: Stage) -> None:
    """And what is at work: a list reads no history, and names the first tasks only."""
    names = ["a", "b", "c", "d", "e", "f"]
    execution = runtime.start(limited, NARROW.name, names, {})

    def listed() -> str | None:
        (one,) = runtime.list_executions(workflow=limited)
        sentence = one.sentence(datetime.now(UTC))
        return sentence if sentence.startswith("Runs task") else None

    said = eventually(listed)
    assert " Meanwhile waits for slots of its limit to run 5 tasks: pass_through, " in said
    assert said.endswith(" and 2 more.")
    granting = runtime.get_execution(f"limit:{NARROW.name}")
    assert "Waits until the limit can grant slots" in waits(runtime, granting, "Waits")
    for name in names:
        gate(name).open()
    assert execution.result(WAIT) == names


def test_102_slots_come_back_from_whatever_ends(runtime: Stage) -> None:
    """From a task that fails or is given up, and from an execution that is terminated."""
    holder = runtime.start(limited, NARROW.name, ["held", "behind"], {})
    gate("held").wait_until_reached()
    other = runtime.start(limited, NARROW.name, ["other"], {})
    waits(runtime, other, "slot")
    gate("other").open()
    holder.terminate()
    assert other.result(WAIT) == ["other"]
    gate("held").open()
    assert runtime.run(failing) == "failed"
    assert runtime.run(gives_up) == "given up"
    assert runtime.run(limited, NARROW.name, ["other"], {}) == ["other"]


def broken() -> None:
    raise ValueError("no")


@workflow("behaviours.limited_failing")
async def failing(ctx: Context) -> str:
    try:
        await ctx.task(
            broken, limit=NARROW, retry=RetryPolicy(max_attempts=2, initial=0.01, jitter="none")
        )
    except ValueError:
        return "failed"
    return ""


@workflow("behaviours.limited_gives_up")
async def gives_up(ctx: Context) -> str:
    first = ctx.task(note, "first", limit=NARROW)
    second = ctx.task(note, "never", limit=NARROW)
    second.cancel()
    await first
    return "given up"


def test_102_it_survives_the_process(runtime: Stage) -> None:
    """Who holds, who waits, and what is held."""
    first = runtime.start(limited, NARROW.name, ["kept"], {})
    gate("kept").wait_until_reached()
    second = runtime.start(limited, NARROW.name, ["later"], {})
    waits(runtime, second, "slot")
    gate("later").open()
    gate("kept").open()
    runtime.reopen()
    assert runtime.again(first).result(WAIT) == ["kept"]
    assert runtime.again(second).result(WAIT) == ["later"]


def test_102_a_rate_is_kept(runtime: Stage) -> None:
    """No more than so many begin within that time."""
    for name in "abcde":
        gate(name).open()
    began = runtime.now() if runtime.virtual else None
    assert runtime.run(limited, "behaviours.slow", list("abcde"), {}) == list("abcde")
    if began is not None:
        assert runtime.now() - began >= timedelta(seconds=2)
    execution = runtime.get_execution("limit:behaviours.slow")
    sent = [e for e in execution.history() if type(e).__name__ == "SlotsSent"]
    assert [e.granted[0][2] for e in sent] == [2, 4, 5]


def test_102_keys_take_turns(runtime: Stage) -> None:
    """One that waits with many does not keep others waiting for all of them."""
    many = runtime.start(limited, NARROW.name, [f"m{n}" for n in range(4)], {"limit_key": "many"})
    gate("m0").wait_until_reached()
    few = runtime.start(limited, NARROW.name, ["f0"], {"limit_key": "few"})
    high = runtime.start(limited, NARROW.name, ["h0"], {"limit_key": "many", "priority": 5})
    waits(runtime, few, "slot")
    waits(runtime, high, "slot")
    eventually(lambda: runtime.limits.get(NARROW.name).describe().waiting == 5)
    for name in ("m0", "m1", "m2", "m3", "f0", "h0"):
        gate(name).open()
    for execution in (many, few, high):
        execution.result(WAIT)
    assert LEDGER.index("h0") == 1
    assert LEDGER.index("f0") <= 3


def test_102_each_key_may_have_slots_of_its_own(runtime: Stage) -> None:
    """With `per_key` none waits for another one's."""
    held = runtime.start(limited, "behaviours.each", ["held"], {"limit_key": "a"})
    gate("held").wait_until_reached()
    gate("free").open()
    assert runtime.run(limited, "behaviours.each", ["free"], {"limit_key": "b"}) == ["free"]
    gate("held").open()
    held.result(WAIT)


def test_102_it_is_seen_and_changed_while_it_is_used(runtime: Stage) -> None:
    """Who holds and waits, and more slots at once."""
    with pytest.raises(ExecutionNotFound):
        runtime.limits.get("behaviours.pair")
    execution = runtime.start(limited, "behaviours.pair", ["p", "q", "r"], {"limit_key": "c-1"})
    gate("p").wait_until_reached()
    gate("q").wait_until_reached()
    limit = runtime.limits.get("behaviours.pair")
    seen = eventually(lambda: next((d for d in [limit.describe()] if d.held == 2), None))
    assert (seen.concurrency, seen.rate, seen.per_key, seen.waiting) == (2, None, False, 1)
    assert [(one.key, one.held, one.waiting) for one in seen.keys] == [("c-1", 2, 1)]
    assert [one.execution_id for one in seen.holders] == [execution.id]
    limit.update(concurrency=3)
    gate("r").wait_until_reached()
    assert limit.describe().held == 3
    with pytest.raises(UsageError, match="give concurrency=, rate= or both"):
        limit.update(concurrency=None)
    limit.update(concurrency=None, rate=(5, 60))
    assert limit.describe().rate == (5, timedelta(minutes=1))
    for name in "pqr":
        gate(name).open()
    assert execution.result(WAIT) == ["p", "q", "r"]
    assert [one.name for one in runtime.limits.list()] == ["behaviours.pair"]


def test_102_it_can_be_there_before_it_is_used(runtime: Stage) -> None:
    """And to create it twice is to create it once."""
    for _ in range(2):
        assert runtime.limits.create(NARROW).describe().concurrency == 1


@workflow("behaviours.limited_map")
async def limited_map(ctx: Context, names: list[str]) -> list[str]:
    return await ctx.map(pass_through, names, limit=NARROW, limit_key="m", priority=1)


def test_102_a_map_waits_for_slots(runtime: Stage) -> None:
    """Each of its tasks for one, in the order of the items."""
    execution = runtime.start(limited_map, ["x", "y", "z"])
    gate("x").wait_until_reached()
    seen = eventually(
        lambda: next((d for d in [runtime.limits.get(NARROW.name).describe()] if d.held), None)
    )
    assert [(one.key, one.held, one.waiting) for one in seen.keys] == [("m", 1, 2)]
    for name in "zyx":
        gate(name).open()
    assert execution.result(WAIT) == ["x", "y", "z"]
    assert LEDGER == ["x", "y", "z"]


def test_102_coroutines_look_and_change(runtime: Stage) -> None:
    """By the same names, awaited."""

    async def main() -> None:
        limits = runtime.aio.limits
        assert (await limits.create(NARROW)).name == NARROW.name
        limit = await limits.get(NARROW.name, timeout=WAIT)
        await limit.update(concurrency=7)
        assert (await limit.describe()).concurrency == 7
        assert [one.name for one in await limits.list()] == [NARROW.name]
        with pytest.raises(ExecutionNotFound):
            await limits.get("behaviours.pair")

    asyncio.run(main())


@workflow("behaviours.limited_wrongly")
async def wrongly(ctx: Context) -> list[str]:
    said: list[str] = []
    for options in (
        {"limit": "behaviours.undeclared"},
        {"limit": NARROW, "priority": 1000},
        {"limit": NARROW, "inline": True},
        {"limit_key": "alone"},
        {"limit": "no name"},
    ):
        try:
            ctx.task(note, "x", **options)  # type: ignore[call-overload]
        except UsageError as error:
            said.append(str(error))
    for options in ({"limit": "behaviours.undeclared"}, {"priority": 2}):
        try:
            ctx.map(note, ["x"], **options)  # type: ignore[call-overload]
        except UsageError as error:
            said.append(str(error))
    return said


def test_102_what_cannot_be_meant_is_refused(runtime: Stage) -> None:
    """At the call, with what to do; nothing is begun."""
    undeclared, priority, inline, alone, name, *mapped = runtime.run(wrongly)
    assert "no limit 'behaviours.undeclared' is declared" in mapped[0]
    assert "ctx.map(): priority= works with a limit only" in mapped[1]
    assert "no limit 'behaviours.undeclared' is declared: write Limit(" in undeclared
    assert "priority=1000" in priority
    assert "takes no retry, timeout, undo, worker or limit" in inline
    assert "give limit= too" in alone
    assert "cannot be the name of a limit" in name
    assert LEDGER == []

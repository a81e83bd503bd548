"""87: starts that come in bursts become one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from mini_workflow import Context, InvalidArguments, UnknownWorkflow, UsageError, workflow
from mini_workflow.engine.debounce import debounce_id
from tests.behaviours.stage import DAY, LEDGER, Stage, note
from tests.waiting import WAIT


@workflow("behaviours.indexed")
async def indexed(ctx: Context, document: str, id: int = 0) -> Any:  # noqa: A002
    await ctx.task(note, document)
    if document == "slow":
        await ctx.wait_for_signal("go")
    return document, id


def at_once(runtime: Stage, document: str, key: str = "doc") -> str:
    """Have what waits be started now, with the arguments of this call."""
    name: str = runtime.debounce(indexed, document, key=key, delay=0)
    return name


def test_87_the_last_call_counts(runtime: Stage) -> None:
    """It is one start, whose id each call is told."""
    debounce = runtime.debounce
    first = debounce(indexed, "one", key="doc", delay=DAY)
    assert debounce(indexed.bind("two", id=7), key="doc", delay=DAY, tags={"kind": "x"}) == first
    other = debounce("behaviours.indexed", "other", key="another key: ä", delay=0)
    assert runtime.get_execution(other).result(WAIT) == ("other", 0)
    runtime.reopen()
    assert LEDGER == ["other"]
    assert at_once(runtime, "three") == first
    execution = runtime.get_execution(first)
    assert execution.result(WAIT) == ("three", 0)
    assert execution.describe().tags == {}
    assert LEDGER == ["other", "three"]


def test_87_its_options_are_those_of_the_last_call(runtime: Stage) -> None:
    """Arguments by name, and tags."""
    name = runtime.debounce(indexed.bind("two", id=7), key="k", delay=0, tags={"kind": "x"})
    execution = runtime.get_execution(name)
    assert execution.result(WAIT) == ("two", 7)
    assert execution.describe().tags == {"kind": "x"}


def test_87_a_call_after_the_start_begins_anew(runtime: Stage) -> None:
    """Also while the execution before is running; none is lost that comes at that moment."""
    first = at_once(runtime, "slow")
    execution = runtime.get_execution(first)
    names = [at_once(runtime, f"d{number}") for number in range(3)]
    assert first not in names
    for name in set(names):
        runtime.get_execution(name).result(WAIT)
    assert "d2" in LEDGER  # executions that follow each other may run at the same time
    execution.signal("go")
    assert execution.result(WAIT) == ("slow", 0)


def test_87_it_waits_no_longer_than_it_may(runtime: Stage) -> None:
    """However many calls come, and as long as that after the last one."""
    debounce = runtime.debounce
    name = debounce(indexed, "one", key="k", delay=DAY, max_wait=0)
    assert runtime.get_execution(name).result(WAIT) == ("one", 0)
    if not runtime.virtual:
        return
    options: dict[str, Any] = {"key": "k", "delay": 60, "max_wait": timedelta(seconds=170)}
    began = runtime.now()
    name = debounce(indexed, "a", **options)
    for document in "bcd":
        runtime.run(passes, 50)
        assert LEDGER == ["one"]
        assert debounce(indexed, document, **options) == name
    runtime.run(passes, 30)
    execution = runtime.get_execution(name)
    assert execution.result(WAIT) == ("d", 0)
    assert execution.describe().started_at - began == timedelta(seconds=170)


@workflow("behaviours.passes")
async def passes(ctx: Context, seconds: float) -> None:
    await ctx.sleep(seconds)


def test_87_many_calls(runtime: Stage) -> None:
    """More than one run of what waits for their end."""
    if runtime.replays:
        return
    for number in range(250):
        name = runtime.debounce(indexed, str(number), key="k", delay=DAY)
    assert at_once(runtime, "last", "k") == name
    assert runtime.get_execution(name).result(WAIT) == ("last", 0)
    waited = runtime.get_execution(debounce_id("behaviours.indexed", "k"))
    assert waited.result(WAIT) == name
    assert waited.describe().run > 1


def test_87_a_wrong_call_changes_nothing(runtime: Stage) -> None:
    """And says what is wrong."""
    debounce = runtime.debounce
    with pytest.raises(InvalidArguments):
        debounce(indexed, key="k", delay=1)
    with pytest.raises(UnknownWorkflow):
        debounce("nobody", key="k", delay=1)
    wrong: list[dict[str, Any]] = [
        {"key": "", "delay": 1},
        {"key": "k", "delay": -1},
        {"key": "k", "delay": "soon"},
        {"key": "k", "delay": 1, "max_wait": -1},
        {"key": "k", "delay": 1, "tags": {"": "x"}},
    ]
    for options in wrong:
        with pytest.raises(UsageError):
            debounce(indexed, "one", **options)
    assert runtime.list_executions() == []


def test_87_for_coroutines(runtime: Stage) -> None:
    """The same call, awaited."""

    async def main() -> Any:
        return await runtime.aio.debounce(indexed, "one", key="k", delay=0)

    assert runtime.get_execution(asyncio.run(main())).result(WAIT) == ("one", 0)

"""Finding executions: by tags, workflow, status, times and parent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mini_workflow import Context, UsageError, workflow
from mini_workflow.core.tags import MAXIMUM_TAG_NAME, MAXIMUM_TAG_VALUE, MAXIMUM_TAGS
from tests.behaviours.stage import Stage, gate, go_through
from tests.waiting import WAIT


@workflow
async def tagged(ctx: Context, *stages: dict[str, str | None]) -> int:
    for stage in stages:
        ctx.set_tags(stage)
        await ctx.task(lambda: None)
    return len(stages)


@workflow
async def held(ctx: Context) -> None:
    ctx.set_tags({"stage": "waits"})
    await ctx.task(go_through, "gate")
    ctx.set_tags({"stage": None, "paid": "yes"})
    await ctx.task(go_through, "second")


@workflow
async def parent_of(ctx: Context, child_id: str) -> int:
    return await ctx.child(tagged, {"more": "1"}, id=child_id, tags={"customer": "c-9"})


@workflow
async def renewed(ctx: Context, runs: int) -> int:
    if runs:
        ctx.set_tags({"left": str(runs)})
        ctx.continue_as_new(runs - 1)
    return runs


def found(runtime: Stage, **filters: Any) -> list[str]:
    """The ids of what is listed; as many are counted."""
    ids = [one.id for one in runtime.list_executions(**filters)]
    assert runtime.count_executions(**filters) == len(ids)
    return ids


def test_80_tags_of_the_start_and_of_the_workflow(runtime: Stage) -> None:
    """Tags are given at the start and by the workflow, and stay over what ends its process."""
    runtime.reopen(grace=0)
    for number in (1, 2):
        runtime.start(held, id=f"e{number}", tags={"customer": f"c-{number}", "kind": "order"})
    gate("gate").wait_until_reached()
    assert found(runtime, tags={"customer": "c-1"}) == ["e1"]
    runtime.reopen()
    assert found(runtime, tags={"kind": "order", "stage": "waits"}) == ["e2", "e1"]
    gate("gate").open()
    gate("second").open()
    for number in (1, 2):
        runtime.get_execution(f"e{number}").result(WAIT)
    assert found(runtime, tags={"stage": "waits"}) == []
    assert found(runtime, tags={"paid": "yes"}, status="completed") == ["e2", "e1"]
    described = runtime.get_execution("e1").describe()
    assert described.tags == {"customer": "c-1", "kind": "order", "paid": "yes"}


def test_80_tags_of_many_of_children_and_of_later_runs(runtime: Stage) -> None:
    """Those of start_executions, of signal_with_start, of a child, and over continue_as_new."""
    calls: list[Any] = [(), ({"a": "1"},)]
    for one in runtime.start_executions(tagged, calls, ids=["m1", "m2"], tags={"batch": "7"}):
        one.result(WAIT)
    assert sorted(found(runtime, tags={"batch": "7"})) == ["m1", "m2"]
    assert found(runtime, tags={"batch": "7", "a": "1"}) == ["m2"]
    signalled = runtime.signal_with_start(tagged, id="s", signal="go", tags={"batch": "8"})
    signalled.result(WAIT)
    assert found(runtime, tags={"batch": "8"}) == ["s"]
    assert runtime.run(parent_of, "kid", id="parent") == 1
    assert found(runtime, tags={"customer": "c-9", "more": "1"}) == ["kid"]
    assert runtime.get_execution("kid").describe().parent == "parent"
    runtime.run(renewed, 3, id="again", tags={"first": "yes"})
    assert found(runtime, tags={"first": "yes", "left": "1"}) == ["again"]


def test_80_what_changes_nothing_is_not_recorded(runtime: Stage) -> None:
    """A tag that has its value already takes no event, and one that was not there is not removed."""
    execution = runtime.start(
        *(tagged, {"a": "1", "b": None}, {"a": "1"}, {"a": "2"}, {"c": None}), tags={"a": "1"}
    )
    execution.result(WAIT)
    kinds = [type(event).__name__ for event in execution.history()]
    assert kinds.count("TagsSet") == 1


def test_80_times_and_parents_are_found_or_refused(runtime: Stage) -> None:
    """A store answers a filter, or says that it cannot and what it can."""
    runtime.run(parent_of, "kid", id="parent")
    now = datetime.now(UTC) + timedelta(days=365 * 30)
    past = datetime(1970, 1, 2, tzinfo=UTC)
    assert set(found(runtime, started_after=past, started_before=now)) == {"kid", "parent"}
    assert found(runtime, started_before=past) == found(runtime, started_after=now) == []
    assert found(runtime, closed_before=past) == []
    filters: list[dict[str, Any]] = [
        {"parent": "parent"},
        {"id_prefix": "pa"},
        {"closed_after": past, "order": "closed"},
        {"closed_after": now},
        {"order": "-closed"},
        {"order": "started"},
    ]
    if runtime.posts:
        for given in filters:
            with pytest.raises(UsageError, match="Use workflow, status, tags"):
                runtime.list_executions(**given)
        return
    answers = [[one.id for one in runtime.list_executions(**given)] for given in filters]
    assert answers[0] == ["kid"]
    assert answers.pop(1) == ["parent"]
    # They may close in the same millisecond: then the order is that of their creation.
    assert answers[1] == answers[3][::-1]
    assert sorted(answers[1]) == ["kid", "parent"]
    assert answers[2] == []
    assert answers[4] == ["parent", "kid"]


def test_80_wrong_tags_and_filters_are_refused(runtime: Stage) -> None:
    """Nothing is started, and the error names the limit."""
    many = {f"t{number}": "x" for number in range(MAXIMUM_TAGS + 1)}
    wrong: list[tuple[Any, str]] = [
        (many, f"at most {MAXIMUM_TAGS}"),
        ({"n" * (MAXIMUM_TAG_NAME + 1): "x"}, "cannot be the name of a tag"),
        ({"a=b": "x"}, "cannot be the name of a tag"),
        ({"": "x"}, "cannot be the name of a tag"),
        ({"a": "v" * (MAXIMUM_TAG_VALUE + 1)}, f"1 to {MAXIMUM_TAG_VALUE} printable"),
        ({"a": ""}, "printable"),
        ({"a": "two\nlines"}, "printable"),
        ({"a": "half \ud800"}, "printable"),
        ({"a": 7}, r"give a text, for example by str\(\)"),
        ({"a": None}, "give a text"),
        (["a"], "give a mapping"),
    ]
    for tags, match in wrong:
        with pytest.raises(UsageError, match=match):
            runtime.start(tagged, id="refused", tags=tags)
        with pytest.raises(UsageError, match=match):
            runtime.list_executions(tags=tags)
    with pytest.raises(UsageError, match="no time zone"):
        runtime.list_executions(started_after=datetime(2026, 1, 1))
    with pytest.raises(UsageError, match="choose one of"):
        runtime.list_executions(order="newest")
    for name in ("half \ud800", "", "n" * 300_000):
        with pytest.raises(UsageError, match=r"workflow='.{0,500}: no workflow can have that name"):
            runtime.list_executions(workflow=name)
    assert runtime.list_executions() == []
    full = {f"t{number}": "x" for number in range(MAXIMUM_TAGS)}
    with pytest.raises(UsageError, match=f"at most {MAXIMUM_TAGS}"):
        runtime.run(tagged, full, {"one-more": "x"})
    assert runtime.run(tagged, full, {"t0": None, "one-more": "x"}) == 2

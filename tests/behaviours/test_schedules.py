"""65 and 66: schedules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionAlreadyExists,
    ExecutionNotFound,
    ExecutionTerminated,
    InvalidArguments,
    UsageError,
    workflow,
)
from mini_workflow.workflow import REGISTRY
from tests.behaviours.stage import DAY, LEDGER, Stage, note
from tests.waiting import WAIT


@workflow("behaviours.planned")
async def planned(ctx: Context, text: str = "") -> str:
    await ctx.task(note, ctx.info.execution_id)
    return text


@workflow("behaviours.planned_and_waits")
async def planned_and_waits(ctx: Context) -> str:
    got: str = await ctx.wait_for_signal("go")
    await ctx.task(note, ctx.info.execution_id)
    return got


@workflow("behaviours.lets_time_pass")
async def lets_time_pass(ctx: Context, seconds: float) -> None:
    await ctx.sleep(seconds)


FAR = {"cron": "0 3 1 1 *", "timezone": "Europe/Berlin"}
"""Once a year: nothing is started by the plan while a test runs in real time."""


async def declared(ctx: Context, text: str) -> str:
    await ctx.task(note, ctx.info.execution_id)
    return text


@pytest.fixture
def declares(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The code as it is deployed: what the workflow's schedule is."""
    monkeypatch.setattr(REGISTRY, "_workflows", dict(REGISTRY._workflows))

    def deploy(runtime: Stage, **schedule: Any) -> None:
        workflow("behaviours.declared", declared, schedule=schedule)  # type: ignore[call-overload]
        runtime.reopen()
        if runtime.virtual:
            runtime.schedules.declare()  # elsewhere what serves workflows does so by itself
        runtime.run(lets_time_pass, 0)

    return deploy


def described(runtime: Stage, has: Callable[[Any], bool]) -> Any:
    """The schedule, once its description is so."""
    ends = monotonic() + WAIT
    while True:
        try:
            about = runtime.schedules.get("behaviours.declared").describe()
            if has(about):
                return about
        except ExecutionNotFound:
            pass
        assert monotonic() < ends, "it is not what was declared"
        sleep(0.01)


BEGIN, END = datetime(2021, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 2, tzinfo=UTC)
YEARS = [f"{year}0101T020000Z" for year in (2021, 2022, 2023, 2024)]


def started(runtime: Stage, name: str) -> Any:
    """The execution of that id, once the schedule has heard that the one before has closed."""
    ends = monotonic() + WAIT
    while True:
        try:
            return runtime.runtime.get_execution(name)
        except ExecutionNotFound:
            assert monotonic() < ends, "it was not started"
            sleep(0.01)


def closed(runtime: Stage, *names: str) -> list[Any]:
    return [started(runtime, name).result(WAIT) for name in names]


def test_65_a_workflow_declares_its_schedule(runtime: Stage, declares: Any) -> None:
    """What serves the workflow makes it, and brings it up to date; what was paused stays paused."""
    declares(runtime, **FAR, args=["x"])
    about = described(runtime, lambda about: about.args == ("x",))
    assert (about.cron, about.timezone, about.overlap) == (*FAR.values(), "skip")
    schedule = runtime.schedules.get("behaviours.declared")
    assert schedule.trigger().result(WAIT) == "x"
    schedule.pause("holidays")
    declares(runtime, **FAR, args=["x"])
    declares(runtime, every=365 * DAY, args=["y"], tags={"team": "blue"})
    about = described(runtime, lambda about: about.args == ("y",))
    assert (about.every, about.cron) == (timedelta(days=365), None)
    assert about.paused
    # An operator's change holds until the code is served again.
    schedule = runtime.schedules.get("behaviours.declared")
    schedule.update(args=["z"])
    assert schedule.describe().args == ("z",)
    declares(runtime, every=365 * DAY, args=["y"], tags={"team": "blue"})
    described(runtime, lambda about: about.args == ("y",))
    # One that was deleted begins anew.
    runtime.schedules.get("behaviours.declared").delete()
    declares(runtime, **FAR, args=["x"])
    assert not described(runtime, lambda about: about.args == ("x",)).paused


def test_65_each_planned_time_is_started_once(runtime: Stage) -> None:
    """By the clock of its zone, also where that is set forward or back."""
    if not runtime.virtual:
        schedule = runtime.schedules.create("often", planned, every=1, overlap="allow")
        ends = monotonic() + WAIT
        while len(last := schedule.describe().last) < 2:
            assert monotonic() < ends, "nothing is started"
            sleep(0.05)
        schedule.delete()
        closed(runtime, *(entry.id for entry in last))
        assert len(LEDGER) == len(set(LEDGER))
        assert {entry.id for entry in last} <= set(LEDGER)
        return
    schedule = runtime.schedules.create("nightly", planned, ["x"], **{**FAR, "cron": "30 2 * * *"})
    runtime.run(lets_time_pass, 365 * DAY)
    started = [datetime.fromisoformat(name.partition("@")[2]) for name in LEDGER]
    assert len(started) == len(set(started)) == 365
    hours = {(at.month, at.day): at.hour + at.minute / 60 for at in started}
    assert (hours[1, 10], hours[7, 10]) == (1.5, 0.5)
    assert (hours[3, 29], hours[10, 25]) == (1.0, 0.5)
    about = schedule.describe()
    assert [entry.status for entry in about.last] == ["completed"] * 10
    assert len(about.next) == 10
    assert runtime.runtime.get_execution("schedule:nightly").describe().run > 1


def test_65_the_same_call_gives_the_same_schedule(runtime: Stage) -> None:
    """Another plan under its id is refused, and so is what cannot be started."""
    create = runtime.schedules.create
    create("yearly", planned, ["x"], **FAR)
    create("yearly", planned, ["x"], **FAR)
    with pytest.raises(ExecutionAlreadyExists):
        create("yearly", planned, ["y"], **FAR)
    with pytest.raises(InvalidArguments):
        create("wrong", planned, ["x", "y"], **FAR)
    with pytest.raises(UsageError):
        create("wrong", planned)
    with pytest.raises(ExecutionNotFound):
        runtime.schedules.get("wrong")
    assert [schedule.id for schedule in runtime.schedules.list()] == ["yearly"]


def test_65_pause_trigger_update_and_delete(runtime: Stage) -> None:
    """Each is durable when the call returns; what was started goes on without the schedule."""
    schedule = runtime.schedules.create("yearly", planned_and_waits, **FAR)
    schedule.pause("holidays")
    about = schedule.describe()
    assert (about.paused, about.reason, about.next) == (True, "holidays", ())
    runtime.reopen()
    schedule = runtime.schedules.get("yearly")
    assert schedule.describe().paused
    execution = schedule.trigger()
    assert schedule.describe().running == (execution.id,)
    assert schedule.trigger() is None
    schedule.resume()
    schedule.update(every=timedelta(days=400), overlap="allow")
    about = schedule.describe()
    assert (about.cron, about.every, about.overlap) == (None, timedelta(days=400), "allow")
    assert not about.paused
    schedule.delete()
    assert runtime.schedules.list() == []
    with pytest.raises(ExecutionNotFound):
        runtime.schedules.get("yearly")
    execution.signal("go", "on")
    assert execution.result(WAIT) == "on"


def test_65_the_id_of_a_deleted_schedule_can_be_used_again(runtime: Stage) -> None:
    """Also with another plan; what the first one has started is not started again."""
    create = runtime.schedules.create
    first = create("yearly", planned, ["x"], **FAR)
    names = first.backfill(BEGIN, BEGIN + timedelta(days=300))
    assert closed(runtime, *names) == ["x"]
    first.delete()
    again = create("yearly", planned, ["y"], **FAR, overlap="allow")
    assert again.describe().args == ("y",)
    assert [schedule.id for schedule in runtime.schedules.list()] == ["yearly"]
    assert runtime.schedules.get("yearly").backfill(BEGIN, END)[:1] == names
    assert closed(runtime, *(f"yearly@{year}" for year in YEARS)) == ["x", "y", "y", "y"]
    create("yearly", planned, ["y"], **FAR, overlap="allow")
    with pytest.raises(ExecutionAlreadyExists):
        create("yearly", planned, ["x"], **FAR)


def test_65_an_update_changes_what_is_given(runtime: Stage) -> None:
    """And can go back to what is the default."""
    schedule = runtime.schedules.create(
        "yearly", planned, catch_up=60, jitter=5, tags={"kind": "report"}, **FAR
    )
    schedule.update(args=["z"])
    about = schedule.describe()
    assert (about.args, about.tags) == (("z",), {"kind": "report"})
    assert (about.catch_up, about.jitter) == (timedelta(seconds=60), timedelta(seconds=5))
    schedule.update(catch_up="latest", jitter=0, tags={})
    about = schedule.describe()
    assert (about.catch_up, about.jitter, about.tags) == (None, timedelta(0), {})
    with pytest.raises(UsageError):
        schedule.update(catch_up="newest")
    with pytest.raises(UsageError):
        schedule.update(tags={"": "x"})
    assert schedule.describe() == about


def test_65_what_it_starts_has_its_tags(runtime: Stage) -> None:
    """By which it is found; those of the schedule itself are others."""
    schedule = runtime.schedules.create("yearly", planned, tags={"kind": "report"}, **FAR)
    execution = schedule.trigger()
    execution.result(WAIT)
    assert [one.id for one in runtime.list_executions(tags={"kind": "report"})] == [execution.id]


def test_66_a_backfill_starts_each_time_once(runtime: Stage) -> None:
    """One after the other, and not again."""
    schedule = runtime.schedules.create("yearly", planned, **FAR)
    names = [f"yearly@{year}" for year in YEARS]
    assert schedule.backfill(BEGIN, END) == names
    closed(runtime, *names)
    assert names == LEDGER
    assert schedule.backfill(BEGIN, END, overlap="allow") == names
    closed(runtime, *names)
    assert names == LEDGER
    schedule.update(every=1)
    with pytest.raises(UsageError, match="more than 1,000"):
        schedule.backfill(BEGIN, END)
    schedule.delete()


@pytest.mark.parametrize(
    ("overlap", "runs"),
    [
        ("skip", [0]),
        ("buffer_one", [0, 1]),
        ("buffer_all", [0, 1, 2, 3]),
        ("allow", [0, 1, 2, 3]),
        ("cancel_other", [3]),
        ("terminate_other", [3]),
    ],
)
def test_66_what_overlaps_is_done_as_the_policy_says(
    runtime: Stage, overlap: Any, runs: list[int]
) -> None:
    """Nothing is started twice, and what waits begins when that before it has closed."""
    schedule = runtime.schedules.create("yearly", planned_and_waits, **FAR)
    names = schedule.backfill(BEGIN, END, overlap=overlap)
    for index in runs:
        execution = started(runtime, names[index])
        execution.signal("go", "on")
        assert execution.result(WAIT) == "on"
    assert sorted(LEDGER) == [names[index] for index in runs]
    if overlap == "terminate_other":
        for name in names[:3]:
            with pytest.raises(ExecutionTerminated):
                started(runtime, name).result(WAIT)

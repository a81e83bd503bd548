"""What becomes of times at which no process ran, and of a schedule over ten years."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mini_workflow import Context, UsageError, workflow
from mini_workflow.testing import EnvironmentState, WorkflowEnvironment
from tests.behaviours.stage import LEDGER, note

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@workflow("schedules.planned")
async def planned(ctx: Context) -> None:
    await ctx.task(note, ctx.info.execution_id)


@pytest.fixture(autouse=True)
def _nothing_started() -> None:
    LEDGER.clear()


@pytest.mark.parametrize(
    ("catch_up", "made"),
    [(None, [9]), (0, []), (timedelta(days=3), [7, 8, 9]), (1e8, range(1, 10))],
)
@pytest.mark.parametrize("cache_size", [0, 100])
def test_times_at_which_no_process_ran(catch_up: Any, made: Any, cache_size: int) -> None:
    state = EnvironmentState()
    with WorkflowEnvironment(state, start=BEGIN) as before:
        before.schedules.create(
            "daily", planned, cron="0 12 * * *", catch_up=catch_up, overlap="buffer_all"
        )
    later = BEGIN + timedelta(days=9)
    with WorkflowEnvironment(state, start=later, cache_size=cache_size) as after:
        after.advance(60)
        assert [f"daily@202601{day:02}T120000Z" for day in made] == LEDGER
        after.advance(timedelta(days=1))
        assert LEDGER[len(made) :] == ["daily@20260110T120000Z"]


def test_ten_years_of_a_schedule() -> None:
    with WorkflowEnvironment(start=BEGIN) as env:
        schedule = env.schedules.create(
            "weekly", planned, cron="30 2 * * SUN", timezone="Europe/Berlin", jitter=3600
        )
        env.advance(timedelta(days=3653))
        assert len(LEDGER) == len(set(LEDGER)) == 522
        times = [datetime.fromisoformat(name.partition("@")[2]) for name in LEDGER]
        assert times == sorted(times)
        assert {at.minute for at in times} == {0, 30}  # half past two does not come in March
        head = env.get_execution("schedule:weekly").describe()
        assert head.run > 5
        assert schedule.describe().skipped == 0


def test_times_that_pass_while_it_is_paused_are_left_out() -> None:
    with WorkflowEnvironment(start=BEGIN) as env:
        schedule = env.schedules.create("daily", planned, every=timedelta(days=1), catch_up=1e8)
        schedule.pause()
        env.advance(timedelta(days=5))
        schedule.resume()
        env.advance(timedelta(days=1))
        assert LEDGER == ["daily@20260107T000000Z"]


def test_where_no_times_can_be_planned_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without what cron expressions need: another one goes on with it."""
    import sys

    state = EnvironmentState()
    with WorkflowEnvironment(state, start=BEGIN) as before:
        before.schedules.create("daily", planned, cron="0 12 * * *").pause()
        with monkeypatch.context() as without:
            without.setitem(sys.modules, "cronsim", None)
            before.schedules.get("daily").resume()
            assert "mini-workflow[cron]" in before.schedules.get("daily").describe().problem
            with pytest.raises(UsageError):
                before.schedules.create("other", planned, cron="0 12 * * *")
    with WorkflowEnvironment(state) as after:
        after.advance(timedelta(days=1))
        assert LEDGER == ["daily@20260101T120000Z"]
        assert after.schedules.get("daily").describe().problem == ""

"""The times of plans, against an oracle that looks at every minute."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow import InvalidIdentifier, UsageError
from mini_workflow.schedules.plan import (
    ON_TIME,
    check_schedule_id,
    make_plan,
    plan_times,
    times_after,
    times_between,
)

ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # by half an hour
    "America/Santiago",  # at midnight
    "Africa/Casablanca",  # four times a year in effect
]
BEGIN, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
MINUTE = 60_000


def plan_of(**options: Any) -> dict[str, Any]:
    given = {"cron": None, "every": None, "timezone": "UTC", "overlap": "skip"}
    return make_plan("w", (), **{**given, "catch_up": None, "jitter": None, **options})


def milliseconds(when: datetime) -> int:
    return round(when.timestamp() * 1000)


def fields(cron: str) -> tuple[set[int], set[int]]:
    """The minutes and hours of an expression of the simplest kind."""

    def read(text: str, size: int) -> set[int]:
        if text.startswith("*"):
            return set(range(0, size, int(text[2:] or 1)))
        return {int(part) for part in text.split(",")}

    minutes, hours, *rest = cron.split()
    assert rest == ["*", "*", "*"]
    return read(minutes, 60), read(hours, 24)


def oracle(cron: str, zone: ZoneInfo, begin: datetime, end: datetime) -> list[int]:
    """What is to be started behind `begin` and before `end`.

    What begins with a star goes by the minutes that pass. Fixed times are those of the clock on the
    wall: one that it skips comes when it goes on, and of two the first counts.
    """
    minutes, hours = fields(cron)
    found: set[int] = set()
    if "*" in "".join(cron.split()[:2]):
        at = begin
        while at < end:
            wall = at.astimezone(zone)
            if wall.minute in minutes and wall.hour in hours:
                found.add(milliseconds(at))
            at += timedelta(minutes=1)
    else:
        day = begin.astimezone(zone).date() - timedelta(days=1)
        while day <= end.astimezone(zone).date():
            for hour in hours:
                for minute in minutes:
                    wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                    while wall.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != (
                        wall.replace(tzinfo=None)
                    ):
                        wall += timedelta(minutes=1)
                    found.add(milliseconds(wall))
            day += timedelta(days=1)
    return sorted(at for at in found if milliseconds(begin) < at < milliseconds(end))


def changes(zone: ZoneInfo) -> list[datetime]:
    """The hours in which the clock is set, within ten years."""
    hours = int((END - BEGIN) / timedelta(hours=1))
    offsets = [(BEGIN + timedelta(hours=n)).astimezone(zone).utcoffset() for n in range(hours)]
    return [BEGIN + timedelta(hours=n) for n, (a, b) in enumerate(pairwise(offsets)) if a != b]


CRONS = [
    "*/15 * * * *",
    "30 * * * *",
    "30 2 * * *",
    "0,30 0,1,2,3 * * *",
    "15 23 * * *",
    "*/20 2 * * *",
]


@pytest.mark.parametrize("name", ZONES)
def test_every_change_of_the_clocks_in_ten_years(name: str) -> None:
    zone = ZoneInfo(name)
    found = changes(zone)
    assert len(found) >= 10
    for change in found:
        begin, end = change - timedelta(hours=30), change + timedelta(hours=30)
        for cron in CRONS:
            plan = plan_of(cron=cron, timezone=name)
            expected = oracle(cron, zone, begin, end)
            given = times_between(plan, milliseconds(begin) + 1, milliseconds(end) - 1, 10_000)
            assert given == expected, (cron, change)


@pytest.mark.parametrize("name", ZONES)
def test_wherever_it_begins_the_times_are_the_same(name: str) -> None:
    """A plan is made anew again and again, also in the hour that comes twice."""
    zone = ZoneInfo(name)
    for change in changes(zone)[:6]:
        begin, end = change - timedelta(hours=5), change + timedelta(hours=5)
        for cron in CRONS:
            plan = plan_of(cron=cron, timezone=name)
            expected = oracle(cron, zone, begin, end)
            at, given = milliseconds(begin), list[int]()
            while (at := times_after(plan, at, 1)[0]) < milliseconds(end):
                given.append(at)
            assert given == expected, (cron, change)
            for minutes in range(0, 600, 10):
                later = milliseconds(begin + timedelta(minutes=minutes))
                following = [at for at in expected if at > later]
                assert times_after(plan, later, len(following)) == following, (cron, change)


@pytest.mark.parametrize("name", ZONES)
def test_ten_years_of_a_daily_plan(name: str) -> None:
    for cron in ("30 2 * * *", "0 0 * * *"):
        plan = plan_of(cron=cron, timezone=name)
        expected = oracle(cron, ZoneInfo(name), BEGIN, END)
        given = times_between(plan, milliseconds(BEGIN) + 1, milliseconds(END) - 1, 10_000)
        assert given == expected
        assert len(given) == pytest.approx(3653, abs=1)


@pytest.mark.parametrize("cron", ["*/15 3 1 12 *", "0 */6 1 7 *", "* 1 15 1 *"])
@pytest.mark.parametrize("name", ZONES)
def test_months_without_any_time_lie_between(name: str, cron: str) -> None:
    """The clock is set several times from one time to the next."""
    times = times_after(plan_of(cron=cron, timezone=name), milliseconds(BEGIN), 200)
    assert times == sorted(set(times))
    walls = [datetime.fromtimestamp(at / 1000, ZoneInfo(name)) for at in times]
    day, month = map(int, cron.split()[2:4])
    assert {(wall.day, wall.month) for wall in walls} == {(day, month)}
    assert len({wall.year for wall in walls}) > 3


PLANS = st.sampled_from(
    [
        *(plan_of(every=every, jitter=jitter) for every in (1, 60, 3600) for jitter in (0, 90)),
        plan_of(cron="*/7 * * * *", timezone="Europe/Berlin"),
        plan_of(cron="0 3 * * *", timezone="America/New_York"),
    ]
)
LATE = st.integers(0, 40 * 24 * 3600 * 1000)
SINCE = milliseconds(datetime(2026, 3, 1, tzinfo=UTC))


@given(PLANS, LATE, LATE)
def test_what_is_missed_is_made_up_for_as_it_says(
    plan: dict[str, Any], late: int, keep: int
) -> None:
    now = SINCE + late
    floor = now - ON_TIME - plan["jitter"]
    none = plan_times({**plan, "catch_up": 0}, SINCE, now)
    assert none == times_after(plan, max(SINCE, floor), 20)
    some = plan_times({**plan, "catch_up": keep}, SINCE, now)
    assert some == times_after(plan, max(SINCE, floor - keep), 20)
    latest = plan_times({**plan, "catch_up": None}, SINCE, now)
    missed = [at for at in latest if at <= floor]
    assert len(missed) <= 1
    if missed:
        # Nothing of the plan lies between it and what is still on time.
        assert times_after(plan, missed[0], 1)[0] > now
    elif floor > SINCE:
        first = times_after(plan, SINCE, 1)[0]
        assert first > floor or latest[0] <= now


@given(st.integers(1, 10**6), st.integers(0, 2**41))
def test_times_at_intervals_are_multiples_of_them(every: int, after: int) -> None:
    times = times_after(plan_of(every=every), after, 5)
    assert [at % (every * 1000) for at in times] == [0] * 5
    assert after < times[0] <= after + every * 1000
    assert {b - a for a, b in pairwise(times)} == {every * 1000}


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"cron": "* * * * *", "every": 5},
        {"cron": "nonsense"},
        {"cron": "61 * * * *"},
        {"cron": "0 0 31 2 *"},
        {"cron": 5},
        {"cron": "* * * * *", "timezone": "Europe/Atlantis"},
        {"cron": "* * * * *", "timezone": "../etc/passwd"},
        {"every": 0.5},
        {"every": "hour"},
        {"every": 5, "overlap": "wait"},
        {"every": 5, "catch_up": -1},
        {"every": 5, "jitter": -1},
    ],
    ids=range(13),
)
def test_a_plan_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        plan_of(**wrong)


@pytest.mark.parametrize("wrong", ["", "a:b", "a b", "x" * 71, 5, None, "ä"])
def test_an_id_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidIdentifier):
        check_schedule_id(wrong)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(UsageError, match=r'"mini-workflow\[cron\]"'):
        plan_of(cron="* * * * *")
    assert plan_of(every=60)["every"] == MINUTE

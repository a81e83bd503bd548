"""Make the plan of a schedule as plain data, and compute its times. Pure, except that time zones and the
package cronsim are loaded when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import islice
from typing import Any, Final, Literal, get_args

from mini_workflow.core.headers import check_headers
from mini_workflow.core.tags import check_tags
from mini_workflow.core.validation import shown
from mini_workflow.durations import milliseconds, seconds
from mini_workflow.errors import InvalidIdentifier, UsageError

Overlap = Literal["skip", "buffer_one", "buffer_all", "allow", "cancel_other", "terminate_other"]
OVERLAPS: Final[tuple[str, ...]] = get_args(Overlap)

Plan = dict[str, Any]
"""The plan of a schedule as plain JSON: `workflow`, `args`, `cron` and `timezone` or `every` (milliseconds),
`overlap`, `catch_up` (milliseconds, or None for the latest time), `jitter` (milliseconds), and `tags` and
`headers` if it has any."""

CatchUp = float | timedelta | Literal["latest"]
"""The time for which a missed start is made up: seconds, a timedelta, or "latest" for the last one only."""

ON_TIME: Final = 60_000
"""Milliseconds by which a start may be late without being missed, for example because a process is busy or is
opened again. Our own bound."""

AHEAD: Final = 20
"""The number of times that are planned at once."""

LONGEST_ID: Final = 70
"""Characters of the id of a schedule. The ids of its executions are longer, and may have 100."""

_LOOKS_BACK: Final = (
    3_600_000,
    86_400_000,
    32 * 86_400_000,
    400 * 86_400_000,
    9 * 366 * 86_400_000,
)
"""The spans before now, in milliseconds, in which the latest time of a plan is searched, in this order."""

_FINEST: Final = 1_000
"""Milliseconds between two times at least, since the ids of the executions contain the second."""

NO_CRON: Final = (
    "a cron expression needs the package cronsim, which is not installed: install "
    '"mini-workflow[cron]" in every process that runs workflows'
)


def make_plan(
    workflow: str,
    args: Sequence[Any],
    *,
    cron: str | None = None,
    every: float | timedelta | None = None,
    timezone: str = "UTC",
    overlap: str = "skip",
    catch_up: CatchUp | None = None,
    jitter: float | timedelta | None = None,
    tags: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Plan:
    """Return the plan. Numbers for `every`, `catch_up` and `jitter` are seconds.

    Raises UsageError if an option is out of range or not known, or the plan has no time at all.
    """
    if (cron is None) == (every is None):
        raise UsageError("a schedule needs times: give either cron= or every=")
    if overlap not in OVERLAPS:
        raise UsageError(f"overlap={overlap!r}: choose one of {', '.join(OVERLAPS)}")
    plan: Plan = {"workflow": workflow, "args": list(args), "overlap": overlap}
    if cron is not None:
        plan |= {"cron": cron, "timezone": timezone}
    else:
        wait = _duration("every", every)
        if wait < _FINEST:
            raise UsageError(f"every={every!r}: give a second or more")
        plan["every"] = wait
    latest = catch_up is None or catch_up == "latest"
    plan["catch_up"] = None if latest else _duration("catch_up", catch_up)
    plan["jitter"] = 0 if jitter is None else _duration("jitter", jitter)
    if tags:
        plan["tags"] = check_tags(tags)
    if headers:
        plan["headers"] = check_headers(headers)
    if not times_after(plan, 0, 1):
        raise UsageError(f"cron={cron!r} matches no time at all: give another expression")
    return plan


def check_schedule_id(schedule_id: object) -> None:
    """Raise InvalidIdentifier unless `schedule_id` can be the id of a schedule."""
    ok = isinstance(schedule_id, str) and 0 < len(schedule_id) <= LONGEST_ID
    if not ok or not all(c.isascii() and (c.isalnum() or c in "_-.") for c in str(schedule_id)):
        raise InvalidIdentifier(
            f"{shown(schedule_id)} cannot be the id of a schedule: use 1 to {LONGEST_ID} letters, digits "
            "and '_', '-', '.'"
        )


def times_after(plan: Plan, after: int, count: int) -> list[int]:
    """Return the next times after `after`, at most `count` (milliseconds since the epoch)."""
    return list(islice(_times(plan, after), count))


def times_between(plan: Plan, start: int, end: int, count: int) -> list[int]:
    """Return the times from `start` to `end`, both included, at most `count`."""
    found: list[int] = []
    for at in islice(_times(plan, start - 1), count):
        if at > end:
            break
        found.append(at)
    return found


def plan_times(plan: Plan, after: int, now: int) -> list[int]:
    """Return the times after `after` to start at: missed ones to make up for, those that are due, and the
    next ones (milliseconds since the epoch).
    """
    floor = now - ON_TIME - plan["jitter"]
    catch_up: int | None = plan["catch_up"]
    if catch_up is not None:
        return times_after(plan, max(after, floor - catch_up), AHEAD)
    ahead = times_after(plan, max(after, floor), AHEAD)
    if after < floor and ahead and ahead[0] > now and (missed := _latest(plan, after, floor)):
        return [missed, *ahead]
    return ahead


def _latest(plan: Plan, after: int, until: int) -> int | None:
    """Return the latest time after `after` and not after `until`, or None."""
    for window in _LOOKS_BACK:
        last = None
        for at in _times(plan, max(after, until - window)):
            if at > until:
                break
            last = at
        if last is not None or until - window <= after:
            return last
    return None


def _times(plan: Plan, after: int) -> Iterator[int]:
    """Iterate over all times after `after`, in order, each once."""
    if "every" in plan:
        every: int = plan["every"]
        at = after - after % every + every
        while True:
            yield at
            at += every
    yield from _cron_times(plan["cron"], plan["timezone"], after)


def _cron_times(cron: str, zone_name: str, after: int) -> Iterator[int]:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        raise UsageError(NO_CRON) from None
    from zoneinfo import ZoneInfo

    try:
        zone = ZoneInfo(zone_name)
    except (KeyError, ValueError, TypeError, OSError):
        raise UsageError(
            f"timezone={zone_name!r} is not a time zone known here: give a name of the IANA "
            "database, as 'Europe/Berlin' (if the system has no database, install the package tzdata)"
        ) from None
    parts = cron.split() if isinstance(cron, str) else []  # pyright: ignore[reportUnnecessaryIsInstance]
    passing = len(parts) == 6 or any(part.startswith("*") for part in parts[:2])
    begin, last = datetime.fromtimestamp(after // 1000, UTC), after
    try:
        found = CronSim(cron, begin.astimezone(_fixed(begin, zone) if passing else zone))
        while passing:
            # By the time that passes: as in a zone with a fixed offset, from one change to the next.
            for when in found:
                if _offset(when, zone) != when.utcoffset():
                    begin = _change(begin, when, zone)
                    before = begin - timedelta(seconds=1)
                    found = CronSim(cron, before.astimezone(_fixed(begin, zone)))
                    break
                begin = when
                if (at := round(when.timestamp() * 1000)) > last:
                    yield at
                    last = at
            else:
                return
    except (CronSimError, AttributeError) as error:
        raise UsageError(
            f"cron={shown(cron)} is not a cron expression: {error}; for example '0 3 * * *' is every day at "
            "three"
        ) from None
    # When the clock is set forward, several times may become one. When it is set back, the repeated hour
    # may begin with times that have passed.
    for when in found:
        at = round(when.timestamp() * 1000)
        if at > last:
            yield at
            last = at


def _offset(when: datetime, zone: tzinfo) -> timedelta | None:
    return when.astimezone(zone).utcoffset()


def _fixed(when: datetime, zone: tzinfo) -> timezone:
    """Return a zone with the offset that `zone` has at the time `when`, for all times."""
    return timezone(_offset(when, zone) or timedelta(0))


def _change(begin: datetime, end: datetime, zone: tzinfo) -> datetime:
    """Return the time between two times at which the offset of a zone changes, to the second."""
    low, high = int(begin.timestamp()), int(end.timestamp())
    before = _offset(begin, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(datetime.fromtimestamp(middle, UTC), zone) == before:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)


def _duration(name: str, given: Any) -> int:
    wait = milliseconds(seconds(given))
    if wait < 0:
        raise UsageError(f"{name}={given!r} is negative: give 0 or more")
    return wait

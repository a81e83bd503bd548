"""Define the built-in workflow of a schedule. Its execution waits for the next time, and starts detached
executions. So schedules work on every store, and no store has code for them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from mini_workflow.context import Context
from mini_workflow.errors import UsageError
from mini_workflow.schedules.plan import (
    AHEAD,
    ON_TIME,
    Plan,
    plan_times,
    times_between,
)
from mini_workflow.workflow import Workflow

SCHEDULE: Final = "mini_workflow.schedule"
"""The name of the workflow."""

DECLARED: Final = "declared"
"""The name of the signal with the plan that the code declares."""

LONGEST_RUN: Final = 400
"""Events after which the run continues as new. Our own bound."""

MOST_BUFFERED: Final = 1_000
"""The number of starts that may wait for the executions before them; more are skipped. Our own bound."""

MOST_BACKFILLED: Final = 1_000
"""The number of starts that one call of backfill may make. Our own bound."""

RECENT: Final = 10
"""The number of the last starts that are kept."""

LONGEST_WAIT: Final = timedelta(days=366)
"""The longest wait for the next time, after which the plan is examined again."""

TRY_AGAIN: Final = timedelta(minutes=5)
"""The wait before times are planned again after planning has failed."""

State = dict[str, Any]


async def schedule(ctx: Context, plan: Plan, state: State | None = None) -> None:
    """Start executions as the plan says, until the schedule is deleted."""
    await ScheduleRun(ctx, plan, state).keep()


class ScheduleRun:
    """One run of a schedule."""

    def __init__(self, ctx: Context, plan: Plan, state: State | None) -> None:
        self._ctx = ctx
        self._id = ctx.info.execution_id.rpartition(":")[2]
        self._plan = plan
        self._state: State = state or {
            "after": _milliseconds(ctx.now()),
            "paused": None,
            "running": {},
            "buffered": [],
            "recent": [],
            "skipped": 0,
        }
        self._ahead: list[int] | None = None
        """The planned times (milliseconds since the epoch); None if they have to be planned again."""
        self._problem = ""
        self._filling = 0
        """The number of calls of backfill that are at work."""
        self._changed = False
        self._deleted = False

    async def keep(self) -> None:
        """Start executions and take messages until the run ends."""
        ctx = self._ctx
        ctx.on_signal("closed", self._closed)
        ctx.on_signal(DECLARED, self._declared)
        ctx.on_query("describe", self._describe)
        ctx.on_update("pause", self._pause)
        ctx.on_update("resume", self._resume)
        ctx.on_update("trigger", self._trigger)
        ctx.on_update("backfill", self._backfill)
        ctx.on_update("update", self._update)
        ctx.on_update("delete", self._delete)
        while True:
            self._changed = False
            await self._plan_ahead()
            self._start_due()
            if self._deleted:
                return
            if ctx.info.history_length >= LONGEST_RUN and not (self._changed or self._filling):
                ctx.continue_as_new(self._plan, self._state)
            await self._wait()

    # Times

    async def _plan_ahead(self) -> None:
        now = _milliseconds(self._ctx.now())
        ahead = self._ahead
        if ahead is not None and len(ahead) >= AHEAD // 2 and self._at(ahead[0]) >= now - ON_TIME:
            return
        plan, after = self._plan, self._state["after"]
        try:
            # Recorded, since other versions of the library or of the time zones compute other times.
            times = await self._ctx.task(plan_times, plan, after, now, name="plan", inline=True)
        except UsageError as error:
            self._problem = str(error)
            self._ctx.logger.error("the next times of the schedule cannot be planned: %s", error)
            times = []
        else:
            self._problem = ""
        if plan is self._plan:
            self._ahead = times

    def _at(self, planned: int) -> int:
        """Return the time of the start that is planned for a time, with its jitter, which stays the same."""
        jitter: int = self._plan["jitter"]
        if not jitter:
            return planned
        draw = sha256(f"{self._id}/{planned}".encode()).digest()
        return planned + int.from_bytes(draw[:8]) % (jitter + 1)

    def _start_due(self) -> None:
        if self._state["paused"] is not None or self._ahead is None:
            return
        now = _milliseconds(self._ctx.now())
        while self._ahead and self._at(self._ahead[0]) <= now:
            planned = self._ahead.pop(0)
            self._state["after"] = planned
            self._ask_for(f"{self._id}@{_stamp(planned)}", planned, self._plan["overlap"])

    async def _wait(self) -> None:
        """Wait for the next time, or for a message."""
        ctx, ahead = self._ctx, self._ahead
        if self._changed:
            return
        if self._state["paused"] is not None:
            await ctx.wait_for(self.it_is_changed)
            return
        if self._problem:
            until = ctx.now() + TRY_AGAIN
            self._ahead = None
        else:
            until = ctx.now() + LONGEST_WAIT
            if ahead:
                until = min(until, _moment(self._at(ahead[0])))
        timer = ctx.sleep_until(until)

        def the_next_time_is_due() -> bool:
            return self._changed or timer.done()

        await ctx.wait_for(the_next_time_is_due)
        timer.cancel()

    # The names of conditions are shown: "Waits until it is changed".
    def it_is_changed(self) -> bool:
        """Return whether a message has changed the schedule."""
        return self._changed

    # Starts

    def _ask_for(self, name: str, planned: int, overlap: str) -> str:
        """Start an execution, or follow the `overlap` policy while others run. Return the outcome."""
        state = self._state
        running: dict[str, int] = state["running"]
        buffered: list[Any] = state["buffered"]
        if name in running or any(name == waiting for waiting, _ in buffered):
            return "started before"
        if not running or overlap == "allow":
            return self._start(name, planned)
        if overlap == "terminate_other":
            for other in running:
                self._ctx.execution(other).terminate(f"{name} takes its place")
            running.clear()
            return self._start(name, planned)
        if overlap == "cancel_other":
            for other in running:
                self._ctx.execution(other).cancel(f"{name} takes its place")
            for waiting, time in buffered:
                self._note(waiting, time, "skipped")
            buffered[:] = [[name, planned]]
            return "buffered"
        most = {"buffer_one": 1, "buffer_all": MOST_BUFFERED}.get(overlap, 0)
        if len(buffered) >= most:
            state["skipped"] += 1
            self._note(name, planned, "skipped")
            return "skipped"
        buffered.append([name, planned])
        return "buffered"

    def _start(self, name: str, planned: int) -> str:
        self._state["running"][name] = planned
        self._note(name, planned, "running")
        plan = self._plan
        about = {"tags": plan.get("tags"), "headers": plan.get("headers")}
        self._ctx.start(plan["workflow"], *plan["args"], id=name, notify="closed", **about)
        return "started"

    def _note(self, name: str, planned: int, status: str) -> None:
        recent: list[Any] = self._state["recent"]
        at = _milliseconds(self._ctx.now())
        recent.append({"id": name, "planned": planned, "at": at, "status": status})
        del recent[:-RECENT]

    def _closed(self, about: dict[str, str]) -> None:
        name, state = about["id"], self._state
        for entry in state["recent"]:
            if entry["id"] == name and entry["status"] == "running":
                entry["status"] = about["status"]
        ended = state["running"].pop(name, None) is not None
        if ended and not state["running"] and state["buffered"]:
            self._start(*state["buffered"].pop(0))
        self._changed = True

    # Updates and signals

    def _pause(self, reason: str) -> None:
        self._state["paused"] = reason
        self._changed = True

    def _resume(self) -> None:
        if self._state["paused"] is not None:
            self._state["paused"] = None
            self._plan_from_now()

    def _plan_from_now(self) -> None:
        self._state["after"] = max(self._state["after"], _milliseconds(self._ctx.now()))
        self._ahead, self._changed = None, True

    def _trigger(self, key: str, overlap: str | None) -> dict[str, str]:
        now = _milliseconds(self._ctx.now())
        name = f"{self._id}@{key}"
        self._changed = True
        return {"id": name, "outcome": self._ask_for(name, now, overlap or self._plan["overlap"])}

    async def _backfill(self, start: int, end: int, overlap: str) -> list[str]:
        self._filling += 1
        try:
            times: list[int] = await self._ctx.task(
                *(times_between, self._plan, start, end, MOST_BACKFILLED + 1),
                name="backfill",
                inline=True,
            )
        finally:
            self._filling -= 1
            self._changed = True
        if len(times) > MOST_BACKFILLED:
            raise UsageError(
                f"backfill: the interval has more than {MOST_BACKFILLED:,} times; give a shorter one"
            )
        names = [f"{self._id}@{_stamp(planned)}" for planned in times]
        for name, planned in zip(names, times, strict=True):
            self._ask_for(name, planned, overlap)
        return names

    def _update(self, plan: Plan) -> None:
        self._plan = plan
        self._plan_from_now()

    def _declared(self, plan: Plan) -> None:
        # Each process that serves the workflow may send the declaration.
        if plan != self._plan:
            self._update(plan)

    def _delete(self) -> None:
        self._deleted = self._changed = True

    def _describe(self) -> dict[str, Any]:
        ahead = [] if self._state["paused"] is not None else self._ahead or []
        return {
            "plan": self._plan,
            **{name: self._state[name] for name in ("paused", "running", "buffered", "recent")},
            "skipped": self._state["skipped"],
            "next": ahead[:RECENT],
            "problem": self._problem,
        }


def _stamp(at: int) -> str:
    return f"{_moment(at):%Y%m%dT%H%M%SZ}"


def _moment(at: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)


def _milliseconds(when: datetime) -> int:
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


WORKFLOW: Final = Workflow(SCHEDULE, schedule)

"""Create, declare and change schedules, on any runtime. Each is an execution of a built-in workflow."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.core import events
from mini_workflow.core.records import field, frozen
from mini_workflow.engine.execution import Execution
from mini_workflow.engine.starts import name_of
from mini_workflow.engine.timeline import moment
from mini_workflow.engine.transport import Pauses
from mini_workflow.errors import ExecutionAlreadyExists, ExecutionNotFound, StoreError, UsageError
from mini_workflow.schedules.plan import (
    OVERLAPS,
    CatchUp,
    Overlap,
    Plan,
    check_schedule_id,
    make_plan,
)
from mini_workflow.schedules.workflow import DECLARED, SCHEDULE
from mini_workflow.workflow import REGISTRY, Registry

if TYPE_CHECKING:
    from mini_workflow.engine.client import Client
    from mini_workflow.workflow import Workflow

log = logging.getLogger("mini_workflow.engine")

SCHEDULE_PREFIX: Final = "schedule:"
"""The beginning of the id of a schedule's execution, before the id of the schedule."""

STARTED_WITHIN: Final = 60.0
"""Seconds to wait until a triggered execution, or a schedule that was created again, can be seen, where
starts are messages. Our own bound."""


@frozen
class ScheduledStart:
    """One start of a schedule: the `id` of the execution, the time for which it was `planned`, the time `at`
    which it was started, and its `status`: "running", that with which it has closed, or "skipped".
    """

    id: str
    planned: datetime
    at: datetime
    status: str


@frozen
class ScheduleDescription:
    """The state of a schedule. Times are in UTC.

    `running` are the ids of executions that it has started and that are open, and `buffered` the ids of those
    that wait for them. `last` are its last ten starts at most, and `next` its next ten times at most.
    `skipped` counts starts that were left out because other executions ran. `problem` says why no times can
    be planned now; empty if they can.
    """

    id: str
    workflow: str
    args: tuple[Any, ...]
    tags: dict[str, str]
    cron: str | None
    timezone: str | None
    every: timedelta | None
    overlap: str
    catch_up: timedelta | None
    jitter: timedelta
    paused: bool
    reason: str
    running: tuple[str, ...]
    buffered: tuple[str, ...]
    last: tuple[ScheduledStart, ...]
    next: tuple[datetime, ...]
    skipped: int
    problem: str
    headers: dict[str, str] = field(default_factory=dict[str, str])


class Schedule:
    """A handle to a schedule."""

    def __init__(self, schedule_id: str, client: Client, timeout: float | None = None) -> None:
        self.id = schedule_id
        self._client = client
        self._timeout = timeout
        self._execution: Execution[Any] = Execution(
            SCHEDULE_PREFIX + schedule_id, client, client.codec
        )

    def pause(self, reason: str = "") -> None:
        """Start no execution by the plan until `resume` is called. The times in between are left out."""
        self._ask("pause", reason)

    def resume(self) -> None:
        """Go on with the next time. Without effect on a schedule that is not paused."""
        self._ask("resume")

    def trigger(self, *, overlap: Overlap | None = None) -> Execution[Any] | None:
        """Start an execution now, beside the plan, also of a schedule that is paused.

        `overlap` is used instead of the schedule's own policy. Returns None if the policy starts no execution
        now, because others run.
        """
        _check_overlap(overlap)
        # The same key if the answer is lost, and the request is repeated within the call.
        key = secrets.token_hex(6)
        answer = self._ask("trigger", key, overlap, id=f"trigger-{key}")
        if answer["outcome"] != "started":
            return None
        pauses, ends = Pauses(), time.monotonic() + STARTED_WITHIN
        while True:
            try:
                return self._client.get_execution(answer["id"])
            except ExecutionNotFound:
                if time.monotonic() > ends:
                    raise
                time.sleep(pauses.take())

    def backfill(
        self, start: datetime, end: datetime, *, overlap: Overlap = "buffer_all"
    ) -> list[str]:
        """Start an execution for each planned time between two times, both included: one after the other,
        unless `overlap` says something else.

        A time whose execution was started before is left out. Returns the ids of all executions. Raises
        UsageError if there are more than 1,000 times, or the end is before the start.
        """
        _check_overlap(overlap)
        begin, last = _milliseconds("start", start), _milliseconds("end", end)
        if last < begin:
            raise UsageError(f"backfill: end={end} is before start={start}")
        names: list[str] = self._ask("backfill", begin, last, overlap)
        return names

    def update(
        self,
        *,
        args: Sequence[Any] | None = None,
        cron: str | None = None,
        every: float | timedelta | None = None,
        timezone: str | None = None,
        overlap: Overlap | None = None,
        catch_up: CatchUp | None = None,
        jitter: float | timedelta | None = None,
        tags: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Change the given values from now on; the others stay. The values are those of
        `Schedules.create`: ``catch_up="latest"`` goes back to the default, ``tags={}`` and
        ``headers={}`` to none.
        """
        now = self.describe()
        new_times = cron is not None or every is not None
        plan = make_plan(
            now.workflow,
            now.args if args is None else args,
            cron=cron if new_times else now.cron,
            every=every if new_times else now.every,
            timezone=timezone or now.timezone or "UTC",
            overlap=overlap or now.overlap,
            catch_up=now.catch_up if catch_up is None else catch_up,
            jitter=now.jitter if jitter is None else jitter,
            tags=now.tags if tags is None else tags,
            headers=now.headers if headers is None else headers,
        )
        _check_start(plan["workflow"], plan["args"])
        self._ask("update", plan)

    def describe(self) -> ScheduleDescription:
        """Return the state of the schedule, with its last and next times."""
        self._client.again.wait(self._execution.id, STARTED_WITHIN)
        found: dict[str, Any] = self._execution.query("describe")
        plan: Plan = found["plan"]
        return ScheduleDescription(
            id=self.id,
            workflow=plan["workflow"],
            args=tuple(plan["args"]),
            tags=dict(plan.get("tags", {})),
            headers=dict(plan.get("headers", {})),
            cron=plan.get("cron"),
            timezone=plan.get("timezone"),
            every=_duration(plan.get("every")),
            overlap=plan["overlap"],
            catch_up=_duration(plan["catch_up"]),
            jitter=timedelta(milliseconds=plan["jitter"]),
            paused=found["paused"] is not None,
            reason=found["paused"] or "",
            running=tuple(found["running"]),
            buffered=tuple(name for name, _ in found["buffered"]),
            last=tuple(
                ScheduledStart(
                    entry["id"], moment(entry["planned"]), moment(entry["at"]), entry["status"]
                )
                for entry in found["recent"]
            ),
            next=tuple(map(moment, found["next"])),
            skipped=found["skipped"],
            problem=found["problem"],
        )

    def delete(self) -> None:
        """End the schedule. The executions that it has started go on."""
        self._ask("delete")

    def _ask(self, name: str, *args: Any, id: str | None = None) -> Any:  # noqa: A002
        return self._execution.update(name, *args, id=id, timeout=self._timeout)

    def __repr__(self) -> str:
        return f"<schedule {self.id!r}>"


class Schedules:
    """The schedules of a store: ``runtime.schedules``."""

    def __init__(self, client: Client, registry: Registry) -> None:
        self._client = client
        self._registry = registry
        self._declares = True

    def declare_once(self) -> None:
        """Declare schedules as `declare` does, once in this process. Errors are logged, and stop no workflow;
        if the store fails, the next call tries again.
        """
        if not self._declares:
            return
        try:
            self.declare()
        except StoreError as error:
            self._declares = True
            log.warning(
                "schedules that workflows declare cannot be created now; trying again: %s", error
            )
        except Exception as error:
            log.error("a schedule that a workflow declares cannot be created: %s", error)

    def create(
        self,
        schedule_id: str,
        workflow: Any,
        args: Sequence[Any] = (),
        *,
        cron: str | None = None,
        every: float | timedelta | None = None,
        timezone: str = "UTC",
        overlap: Overlap = "skip",
        catch_up: CatchUp | None = None,
        jitter: float | timedelta | None = None,
        tags: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Schedule:
        """Create a schedule, which starts executions of a workflow at planned times, each once. When this
        returns, the schedule survives a crash. The same call again returns the same schedule. A deleted
        schedule of that id begins anew.

        Args:
            schedule_id: 1 to 70 letters, digits and ``_-.``. The ids of executions are made of it and of
                the planned time, such as ``nightly@20300102T020000Z``.
            workflow: the workflow, or its name.
            args: its positional arguments.
            cron: minute, hour, day of the month, month and day of the week; or with seconds
                before them. It needs the extra ``mini-workflow[cron]``.
            every: seconds (or a timedelta) between two times, counted from 1970 in UTC: so an hour
                means every full hour.
            timezone: the zone of `cron`, by its IANA name. At fixed hours a time that is skipped
                where the clock is set forward comes right after, and one that comes twice counts
                once; what begins with ``*`` goes by the hours that pass.
            overlap: the policy while an execution of the schedule runs: "skip" the new one,
                "buffer_one" or "buffer_all" (at most 1,000) until it has closed, "allow" both,
                "cancel_other" and start when it has closed, or "terminate_other" and start.
            catch_up: seconds (or a timedelta): times that were missed by no more than that, because no
                process ran, are started later. 0 is for none. By default, and for "latest", only the
                latest missed time is started. A time that is up to a minute late is not missed.
            jitter: seconds (or a timedelta) within which each start is delayed by chance.
            tags: the tags of each execution that it starts, as for `start_execution`.
            headers: the headers of each execution, beside those of interceptors.

        Raises:
            UsageError, UnknownWorkflow, InvalidArguments, InvalidIdentifier: the call is wrong;
                nothing was created.
            ExecutionAlreadyExists: there is a schedule of that id with another plan.
        """
        check_schedule_id(schedule_id)
        name = _check_start(workflow, args)
        plan = make_plan(
            *(name, args),
            cron=cron,
            every=every,
            timezone=timezone,
            overlap=overlap,
            catch_up=catch_up,
            jitter=jitter,
            tags=tags,
            headers=headers,
        )
        self._client.start_execution(
            SCHEDULE, plan, id=SCHEDULE_PREFIX + schedule_id, if_closed="restart"
        )
        return Schedule(schedule_id, self._client)

    def get(self, schedule_id: str, *, timeout: float | None = None) -> Schedule:
        """Return a handle to a schedule, whose calls wait for at most `timeout` seconds for an answer, and
        raise TimeoutError then. Raises ExecutionNotFound if there is none of that id.
        """
        check_schedule_id(schedule_id)
        self._client.again.wait(SCHEDULE_PREFIX + schedule_id, STARTED_WITHIN)
        head = self._client.head(SCHEDULE_PREFIX + schedule_id)
        if head.closed_at is not None:
            raise ExecutionNotFound(
                f"schedule {schedule_id!r} was deleted", execution_id=SCHEDULE_PREFIX + schedule_id
            )
        return Schedule(schedule_id, self._client, timeout)

    def declare(self) -> list[Schedule]:
        """Create the schedules that workflows of this process declare (``@workflow(schedule=...)``), and
        change those that have another plan. Returns all of them. This does not wait until a schedule has
        taken the change.

        A runtime does this when it opens, with the workflows that are registered then. A paused schedule
        stays paused, and a deleted one begins anew.

        Raises UsageError, InvalidArguments or InvalidIdentifier for a plan that is not possible.
        """
        self._declares = False
        found = self._registry.scheduled()
        for workflow in found:
            declare(self._client, plan_of(workflow), SCHEDULE_PREFIX + workflow.name)
        return [Schedule(workflow.name, self._client) for workflow in found]

    def list(self) -> list[Schedule]:
        """Return all schedules that have not been deleted, the newest first."""
        found = self._client.list_executions(workflow=SCHEDULE)
        return [
            Schedule(one.id.removeprefix(SCHEDULE_PREFIX), self._client)
            for one in found
            if one.closed_at is None
        ]


def _check_start(workflow: Any, args: Sequence[Any]) -> str:
    """Return the workflow's name. Raises the errors of `start_execution` if it cannot be called so."""
    name = name_of(workflow)
    REGISTRY.get(name).check_arguments(tuple(args), {})
    return name


def _check_overlap(overlap: object) -> None:
    if overlap is not None and overlap not in OVERLAPS:
        raise UsageError(f"overlap={overlap!r}: choose one of {', '.join(OVERLAPS)}")


def _milliseconds(name: str, when: Any) -> int:
    if not isinstance(when, datetime) or when.tzinfo is None:
        raise UsageError(f"{name}={when!r}: give a datetime with a time zone")
    return round(when.timestamp() * 1000)


def _duration(wait: int | None) -> timedelta | None:
    return None if wait is None else timedelta(milliseconds=wait)


def declare(client: Client, plan: Plan, execution_id: str) -> None:
    """Have the execution of that id keep the plan: start it, or send it the plan if it has another one.
    Several processes may do so at the same time. Raises the errors of `client`.
    """
    try:
        head = client.head(execution_id)
    except ExecutionNotFound:
        head = None
    if head is None or head.closed_at is not None:
        # Of two processes with different code one is first; the next one that opens sends its plan.
        with contextlib.suppress(ExecutionAlreadyExists):
            client.start_execution(SCHEDULE, plan, id=execution_id, if_closed="restart")
    elif _stands(client, execution_id) != plan:
        client.signal(execution_id, DECLARED, plan)


def plan_of(workflow: Workflow[Any, Any]) -> Plan:
    """Return the plan that a workflow declares. Raises UsageError, InvalidArguments, InvalidIdentifier."""
    about = f"workflow {workflow.name!r} declares a schedule"
    return plan_for(workflow.name, workflow, workflow.schedule or {}, about)


def plan_for(
    schedule_id: str, workflow: Workflow[Any, Any], declared: Mapping[str, Any], about: str
) -> Plan:
    """Return the plan of a schedule that is declared with these options. Raises the errors of `plan_of`,
    whose messages begin with `about`.
    """
    check_schedule_id(schedule_id)
    options = dict(declared)
    args = tuple(options.pop("args", ()))
    workflow.check_arguments(args, {})
    try:
        return make_plan(workflow.name, args, **options)
    except (UsageError, TypeError) as error:
        raise UsageError(f"{about}: {error}") from None


def _stands(client: Client, execution_id: str) -> Plan | None:
    """Return the plan of a schedule, as of the last event that has one."""
    codec = client.codec.for_execution(execution_id)
    for event in reversed(client.history(execution_id)):
        if isinstance(event, events.SignalReceived) and event.name == DECLARED:
            return codec.decode(event.value)
        if isinstance(event, events.UpdateAccepted) and event.name == "update":
            return codec.decode(event.arguments)[0][0]
        if isinstance(event, events.ExecutionStarted):
            return codec.decode(event.arguments)[0][0]
    return None

"""The commands of `schedule`: make and change schedules, and have them start executions."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

import click

from mini_workflow.cli.arguments import find_workflow, read_arguments
from mini_workflow.cli.failures import NotDone
from mini_workflow.cli.output import Group, note, say, say_json, say_table, shown, to_json
from mini_workflow.cli.session import (
    Moment,
    Seconds,
    Session,
    Tag,
    arguments_argument,
    command,
    json_option,
    modules_option,
    pass_session,
    timeout_option,
)
from mini_workflow.engine.schedules import Schedule, ScheduleDescription
from mini_workflow.errors import UsageError
from mini_workflow.schedules.plan import OVERLAPS
from mini_workflow.workflow import REGISTRY, Workflow

COLUMNS: Final = ("id", "workflow", "plan", "next", "running")


@click.group(
    "schedule",
    cls=Group,
    examples=(
        "mini-workflow schedule create nightly reports:report --cron '0 3 * * *'",
        "mini-workflow schedule show nightly",
    ),
)
def schedule() -> None:
    """Start executions by a plan, and show or change the plans.

    A schedule is an execution like others: a worker has to run to carry out requests.
    """


class _Late(click.ParamType[Any]):
    """Seconds, or the word "latest"."""

    name = "late"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or the word."""
        return value if value == "latest" else Seconds(0).convert(value, param, ctx)


id_argument: Final = click.argument("schedule_id", metavar="ID")
reason_option: Final = click.option("--reason", default="", help="The reason, for `schedule show`.")
overlap_option: Final = click.option(
    "--overlap",
    type=click.Choice(OVERLAPS),
    help="The rule for a time at which an execution of the schedule still runs.",
)
worker_timeout_option: Final = timeout_option(
    "Wait so long for a worker; the request stays sent after that."
)


def _plan_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare the options of a plan."""
    for option in (
        click.option(
            *("--tag", "tags"),
            type=Tag(),
            multiple=True,
            metavar="NAME=VALUE",
            help="A tag of each execution that it starts; may be repeated.",
        ),
        click.option(
            "--jitter",
            type=Seconds(0),
            metavar="SECONDS",
            help="Delay each start by a random time up to this one.",
        ),
        click.option(
            "--catch-up",
            type=_Late(),
            metavar="SECONDS|latest",
            help="Make up for times missed by up to so many seconds, or only for the latest.  "
            "[default: latest]",
        ),
        overlap_option,
        click.option(
            "--timezone", metavar="ZONE", help="The zone of --cron, such as Europe/Berlin."
        ),
        click.option(
            "--every", type=Seconds(1), metavar="SECONDS", help="The time between two starts."
        ),
        click.option(
            "--cron",
            metavar="EXPRESSION",
            help="Minute, hour, day, month and weekday, as in '0 3 * * *'.",
        ),
    ):
        function = option(function)
    return function


@command(
    "create",
    "mini-workflow schedule create nightly reports:report kind=daily --cron '0 3 * * *'",
    "mini-workflow schedule create poll feeds:poll --every 300 --overlap skip --json",
    group=schedule,
)
@id_argument
@click.argument("place", metavar="MODULE:WORKFLOW")
@arguments_argument
@_plan_options
@json_option
@pass_session
def create(
    session: Session,
    schedule_id: str,
    place: str,
    arguments: tuple[str, ...],
    tags: tuple[tuple[str, str], ...],
    as_json: bool,
    **plan: Any,
) -> None:
    """Make a schedule, which starts executions of a workflow by a plan.

    Give either --cron or --every. ARGUMENTs are written as for `start`. The same command again changes
    nothing.
    """
    session.import_modules()
    workflow = find_workflow(place)
    args = _positional(workflow, arguments)
    given = {name: value for name, value in plan.items() if value is not None}
    with session.backend.client(create=True) as client:
        client.schedules.create(schedule_id, workflow, args, tags=dict(tags) or None, **given)
        served = session.remark_unserved(client, saved=True)
    if as_json:
        say_json({"id": schedule_id, "served": served})
    else:
        say(schedule_id)


def _positional(workflow: Workflow[Any, Any], arguments: tuple[str, ...]) -> tuple[Any, ...]:
    args, kwargs = read_arguments(arguments, workflow)
    workflow.check_arguments(tuple(args), kwargs)
    ordered, left = workflow.ordered(tuple(args), kwargs)
    if left:
        raise UsageError(
            f"a schedule passes positional arguments alone, and workflow {workflow.name!r} takes "
            f"{', '.join(left)} by name only: leave out {', '.join(left)}"
        )
    return ordered


@command("declare", "mini-workflow schedule declare -m reports", group=schedule)
@modules_option
@json_option
@pass_session
def declare(session: Session, modules: tuple[str, ...], as_json: bool) -> None:
    """Make the schedules that workflows declare, or update them.

    A worker does so when it starts, and an engine on AWS with its first event. Use this command in a
    pipeline, after a deployment.
    """
    session.import_modules(*modules)
    with session.backend.client(create=True) as client:
        names = [one.id for one in client.schedules.declare()]
    if as_json:
        say_json({"declared": names})
        return
    for name in names:
        say(name)
    note(f"schedules: {len(names)}")


@command("ls", "mini-workflow schedule ls", "mini-workflow schedule ls --json", group=schedule)
@json_option
@pass_session
def ls(session: Session, as_json: bool) -> None:
    """List the schedules, newest first."""
    with session.backend.reader() as client:
        found = [one.describe() for one in client.schedules.list()]
    if as_json:
        say_json([_json(about) for about in found])
        return
    rows = [
        (
            about.id,
            about.workflow,
            _when(about),
            "paused" if about.paused else _texts(about, about.next[:1]) or about.problem,
            str(len(about.running)),
        )
        for about in found
    ]
    say_table(COLUMNS, rows)


@command("show", "mini-workflow schedule show nightly", group=schedule)
@id_argument
@json_option
@pass_session
def show(session: Session, schedule_id: str, as_json: bool) -> None:
    """Show a schedule, with its last and next ten times in its time zone."""
    with session.backend.reader() as client:
        about = client.schedules.get(schedule_id).describe()
    if as_json:
        say_json(_json(about))
        return
    lines = {
        "id": about.id,
        "workflow": about.workflow,
        "arguments": shown(list(about.args)),
        "plan": _when(about),
        "overlap": about.overlap,
        "catch up": "latest" if about.catch_up is None else str(about.catch_up),
        "jitter": str(about.jitter),
        "tags": ", ".join(f"{name}={value}" for name, value in about.tags.items()),
        "paused": (about.reason or "yes") if about.paused else "",
        "problem": about.problem,
        "running": ", ".join(about.running),
        "waiting": ", ".join(about.buffered),
        "skipped": str(about.skipped or ""),
    }
    for name, text in lines.items():
        if text:
            say(f"{name:<10} {text}")
    for start in about.last:
        say(f"{'last':<10} {_texts(about, [start.planned])}  {start.status}  {start.id}")
    for when in about.next:
        say(f"{'next':<10} {_texts(about, [when])}")


@contextmanager
def _opened(session: Session, schedule_id: str, timeout: float) -> Generator[Schedule]:
    """Return a handle whose calls wait for at most `timeout` seconds, inside the block."""
    with session.backend.client() as client:
        found = client.schedules.get(schedule_id, timeout=timeout)
        session.remark_unserved(client, saved=True)
        try:
            yield found
        except TimeoutError:
            raise NotDone(
                f"the request to schedule {schedule_id!r} is not done after {timeout:g} s, and stays "
                f"sent; `mini-workflow schedule show {schedule_id}` shows when it is done"
            ) from None


def _said(schedule_id: str, done: str, as_json: bool) -> None:
    if as_json:
        say_json({"id": schedule_id, "done": done})
    else:
        say(f"{schedule_id}: {done}")


@command("pause", "mini-workflow schedule pause nightly --reason holidays", group=schedule)
@id_argument
@reason_option
@worker_timeout_option
@json_option
@pass_session
def pause(session: Session, schedule_id: str, reason: str, timeout: float, as_json: bool) -> None:
    """Start nothing by the plan until the schedule is resumed."""
    with _opened(session, schedule_id, timeout) as found:
        found.pause(reason)
    _said(schedule_id, "paused", as_json)


@command("resume", "mini-workflow schedule resume nightly", group=schedule)
@id_argument
@worker_timeout_option
@json_option
@pass_session
def resume(session: Session, schedule_id: str, timeout: float, as_json: bool) -> None:
    """Let a paused schedule go on with its next time."""
    with _opened(session, schedule_id, timeout) as found:
        found.resume()
    _said(schedule_id, "resumed", as_json)


@command("trigger", "mini-workflow schedule trigger nightly --overlap allow", group=schedule)
@id_argument
@overlap_option
@worker_timeout_option
@json_option
@pass_session
def trigger(
    session: Session, schedule_id: str, overlap: Any, timeout: float, as_json: bool
) -> None:
    """Start an execution now, beside the plan, and print its id."""
    with _opened(session, schedule_id, timeout) as found:
        execution = found.trigger(overlap=overlap)
    started = None if execution is None else execution.id
    if as_json:
        say_json({"id": schedule_id, "started": started})
    elif started is None:
        note(
            "nothing was started now: another execution of the schedule runs; --overlap allow starts "
            "one beside it"
        )
    else:
        say(started)


@command(
    "backfill",
    "mini-workflow schedule backfill nightly 2026-01-01 2026-01-31",
    group=schedule,
)
@id_argument
@click.argument("start", type=Moment())
@click.argument("end", type=Moment())
@overlap_option
@worker_timeout_option
@json_option
@pass_session
def backfill(
    session: Session,
    schedule_id: str,
    start: datetime,
    end: datetime,
    overlap: Any,
    timeout: float,
    as_json: bool,
) -> None:
    """Start the executions of the plan between two times, and print their ids.

    They run one after the other, unless --overlap says otherwise.
    """
    with _opened(session, schedule_id, timeout) as found:
        names = found.backfill(start, end, overlap=overlap or "buffer_all")
    if as_json:
        say_json({"id": schedule_id, "executions": names})
        return
    for name in names:
        say(name)


@command(
    "update",
    "mini-workflow schedule update nightly --cron '0 4 * * *' -m reports",
    "mini-workflow schedule update nightly --catch-up latest kind=weekly -m reports",
    group=schedule,
)
@id_argument
@arguments_argument
@_plan_options
@click.option("--no-tags", is_flag=True, help="Remove all tags.")
@modules_option
@worker_timeout_option
@json_option
@pass_session
def update(
    session: Session,
    schedule_id: str,
    arguments: tuple[str, ...],
    tags: tuple[tuple[str, str], ...],
    no_tags: bool,
    modules: tuple[str, ...],
    timeout: float,
    as_json: bool,
    **plan: Any,
) -> None:
    """Change the given options of a schedule, or its arguments; the others stay.

    The command needs the module of the workflow: -m MODULE.
    """
    session.import_modules(*modules)
    changes = {name: value for name, value in plan.items() if value is not None}
    if tags or no_tags:
        changes["tags"] = dict(tags)
    with _opened(session, schedule_id, timeout) as found:
        if arguments:
            changes["args"] = _positional(REGISTRY.get(found.describe().workflow), arguments)
        if not changes:
            raise UsageError(
                "nothing to change: give an option of the plan, such as --cron, or arguments"
            )
        found.update(**changes)
    _said(schedule_id, "updated", as_json)


@command("delete", "mini-workflow schedule delete nightly", group=schedule)
@id_argument
@worker_timeout_option
@json_option
@pass_session
def delete(session: Session, schedule_id: str, timeout: float, as_json: bool) -> None:
    """Delete a schedule. Executions that it has started go on."""
    with _opened(session, schedule_id, timeout) as found:
        found.delete()
    _said(schedule_id, "deleted", as_json)


def _when(about: ScheduleDescription) -> str:
    if about.every is not None:
        return f"every {about.every}"
    return f"{about.cron} {about.timezone}"


def _zone(about: ScheduleDescription) -> tzinfo:
    return ZoneInfo(about.timezone or "UTC")


def _texts(about: ScheduleDescription, times: Any) -> str:
    return ", ".join(f"{when.astimezone(_zone(about)):%Y-%m-%d %H:%M:%S%z}" for when in times)


def _json(about: ScheduleDescription) -> dict[str, Any]:
    """Return a description as plain JSON; times are ISO 8601 in the schedule's zone."""
    zone = _zone(about)

    def iso(when: datetime) -> str:
        return when.astimezone(zone).isoformat()

    return {
        "id": about.id,
        "workflow": about.workflow,
        "args": to_json(list(about.args), "args"),
        "cron": about.cron,
        "timezone": about.timezone,
        "every": None if about.every is None else about.every.total_seconds(),
        "overlap": about.overlap,
        "catch_up": "latest" if about.catch_up is None else about.catch_up.total_seconds(),
        "jitter": about.jitter.total_seconds(),
        "tags": about.tags,
        "paused": about.paused,
        "reason": about.reason,
        "running": list(about.running),
        "buffered": list(about.buffered),
        "skipped": about.skipped,
        "problem": about.problem,
        "last": [
            {"id": one.id, "planned": iso(one.planned), "at": iso(one.at), "status": one.status}
            for one in about.last
        ],
        "next": [iso(when) for when in about.next],
    }


COMMANDS: Final = (schedule,)

"""Commands that read executions: ls, count, metrics, get, result, export."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from mini_workflow.cli.failures import NotDone, reason_of, using
from mini_workflow.cli.output import (
    at_second,
    description_json,
    duration_text,
    note,
    say,
    say_json,
    say_line_of_json,
    say_table,
    say_text,
    styled,
)
from mini_workflow.cli.session import (
    Seconds,
    Session,
    command,
    filter_options,
    id_argument,
    json_option,
    pass_session,
    trust_option,
)
from mini_workflow.cli.timelines import (
    WIDTH,
    growth,
    print_outcome,
    print_stacks,
    print_timeline,
    print_waiting,
    workers_of,
)
from mini_workflow.engine.activity import Progress
from mini_workflow.engine.description import Description
from mini_workflow.engine.instants import duration
from mini_workflow.engine.metrics import executions_text
from mini_workflow.engine.sentence import counts
from mini_workflow.errors import UsageError
from mini_workflow.ports import ORDERS, STATUSES

COLUMNS: Final[dict[str, Callable[[Description], str]]] = {
    "id": lambda d: d.id,
    "workflow": lambda d: d.workflow,
    "status": lambda d: d.status,
    "started": lambda d: at_second(d.started_at),
    "took": lambda d: duration(duration_text(d)),
    "closed": lambda d: at_second(d.closed_at),
    "wakes": lambda d: at_second(d.next_wake_at),
    "run": lambda d: str(d.run),
    "busy": lambda d: "busy" if d.busy else "",
    "parent": lambda d: d.parent or "",
    "tags": lambda d: " ".join(f"{name}={value}" for name, value in d.tags.items()),
    "reason": reason_of,
    "now": lambda d: d.sentence(datetime.now(UTC)),
    "progress": lambda d: "; ".join(map(progress_text, d.progress)),
}
"""The columns of `ls` that are made from a description."""

WORKERS: Final = "workers"
"""The column with the workers that open tasks name. Histories are read for it."""

ASK_ALL: Final = {"now", "progress"}
"""The columns for which the histories of executions at work are read."""

DEFAULT_COLUMNS: Final = "id,workflow,status,started,took"


@command(
    "ls",
    "mini-workflow ls --status blocked --columns id,workflow,reason",
    "mini-workflow ls --workflow order --limit 100 --json",
    "mini-workflow ls --tag customer=c-7 --started-after 7d --columns id,status,tags",
)
@filter_options
@click.option(
    "--order",
    type=click.Choice(ORDERS),
    default=ORDERS[0],
    show_default=True,
    help="Sort by start or end; a minus puts the latest first.",
)
@click.option(
    *("--limit",),
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="List so many executions: a page.",
)
@click.option(
    "--after", metavar="CURSOR", help="List the page behind the one that printed this cursor."
)
@click.option(
    "--columns",
    default=DEFAULT_COLUMNS,
    show_default=True,
    metavar="A,B,...",
    help=f"Columns, among {', '.join((*COLUMNS, WORKERS))}; {WORKERS} are those that open tasks name.",
)
@json_option
@pass_session
def ls(
    session: Session,
    limit: int,
    after: str | None,
    columns: str,
    as_json: bool,
    **filters: Any,
) -> None:
    """List executions, newest first unless --order says otherwise."""
    names = [name.strip() for name in columns.split(",")]
    known = (*COLUMNS, WORKERS)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"--columns: there is no {unknown[0]!r}; choose from {', '.join(known)}")
    workers: dict[str, str] = {}
    with session.backend.reader() as client:
        page, following = client.list_page(size=limit, after=after, **filters)
        if ASK_ALL & set(names) and not as_json:
            page = [client.get_execution(d.id).describe() if d.busy else d for d in page]
        for one in page if WORKERS in names and not as_json else ():
            if one.busy and one.status == "running":
                workers[one.id] = ",".join(workers_of(client.get_execution(one.id)))
    columns_of: dict[str, Callable[[Description], str]] = {
        **COLUMNS,
        WORKERS: lambda d: workers.get(d.id, ""),
    }
    if as_json:
        say_json({"executions": [description_json(one) for one in page], "next": following})
        return
    say_table(names, [[columns_of[name](one) for name in names] for one in page])
    if following is not None:
        note(f"there are more: add --after {following}")


@command(
    "count",
    "mini-workflow count --status running",
    "mini-workflow count --tag customer=c-7 --started-after 2026-05-01 --json",
)
@filter_options
@json_option
@pass_session
def count(session: Session, as_json: bool, **filters: Any) -> None:
    """Count executions."""
    with session.backend.reader() as client:
        number = client.count_executions(**filters)
    if as_json:
        say_json({"count": number})
    else:
        say(str(number))


@command("metrics", "mini-workflow metrics > executions.prom", "mini-workflow metrics --json")
@json_option
@pass_session
def metrics(session: Session, as_json: bool) -> None:
    """Count the executions by status, as text for Prometheus.

    Only a process itself knows its own metrics: call runtime.metrics() in its code.
    """
    with session.backend.reader() as client:
        counted = {status: client.count_executions(status=status) for status in STATUSES}
    if as_json:
        say_json({"executions": counted})
    else:
        say_text(executions_text(counted))


@command(
    "get",
    "mini-workflow get order-17",
    "mini-workflow get order-17 --follow",
    "mini-workflow get order-17 --json > order-17.json",
)
@id_argument
@click.option(
    "--follow", "-f", is_flag=True, help="Print new events until it has closed or is blocked."
)
@click.option("--full", is_flag=True, help="Show values in full.")
@click.option("--lines", is_flag=True, help="Print the history as it is stored, an event per line.")
@trust_option
@json_option
@pass_session
def get(
    session: Session,
    execution_id: str,
    follow: bool,
    full: bool,
    lines: bool,
    trust: bool,
    as_json: bool,
) -> None:
    """Show an execution, and its history as a timeline.

    Values of classes are shown by name and fields, pickled ones by their size, so that no code from the
    store runs. `replay` and `check_replay` read files with the output of --json or --lines.
    """
    if as_json and (lines or follow):
        raise UsageError(
            "--json prints the history as it is now: leave out --lines and --follow; to follow, use "
            "--lines --follow"
        )
    with session.backend.reader(trust=trust) as client:
        execution = client.get_execution(execution_id)
        if as_json:
            answer: dict[str, Any] = description_json(execution.describe())
            answer["workers"] = list(workers_of(execution)) if answer["busy"] else []
            say_json({**answer, **execution.recording().to_plain()})
        elif lines:
            for _, grown in growth(client, execution_id, while_running=follow):
                for line in grown:
                    say_line_of_json(line)
        else:
            description = execution.describe()
            _print_head(description)
            if follow and description.status == "running":
                session.remark_unserved(client)
            print_timeline(
                client, execution, follow=follow, width=0 if full else WIDTH, trust=trust
            )
            print_stacks(execution)
            if follow:
                say("is ", styled(client.head(execution_id).status))
            elif description.status == "running" and description.busy:
                print_waiting(execution)


def _print_head(description: Description) -> None:
    took = duration(duration_text(description))
    over = "after" if description.closed_at else "for"
    say(
        f"{description.id}  {description.workflow}  ", styled(description.status), f" {over} {took}"
    )
    if description.run > 1:
        say(f"run {description.run}")
    if description.parent is not None:
        say(f"child of {description.parent}")
    if description.tags:
        say("tags " + " ".join(f"{name}={value}" for name, value in description.tags.items()))
    if description.next_wake_at is not None:
        say(f"wakes at {at_second(description.next_wake_at)}")
    if description.blocked_reason:
        say(f"blocked: {reason_of(description)}")
    if description.mismatch is not None:
        say(f"  the history says    {description.mismatch.recorded or 'nothing more'}")
        say(f"  the code asks for   {description.mismatch.asked or 'nothing more'}")
    elif description.closed_at is None:
        say(description.sentence(datetime.now(UTC)))
    for one in description.waits[:1]:
        if one.line:
            say(f"at {one.line}")
    for one in description.progress:
        say(f"progress {progress_text(one)}")


def progress_text(progress: Progress) -> str:
    """Return progress as a text: its name, its text, and its counts."""
    words = " ".join(word for word in (progress.name, progress.text) if word)
    return f"{words}: {counts(progress)}" if words else counts(progress)


@command(
    "result", "mini-workflow result order-17 --timeout 30", "mini-workflow result order-17 --json"
)
@id_argument
@click.option(
    "--timeout", type=Seconds(0), metavar="SECONDS", help="Wait for so long.  [default: for ever]"
)
@trust_option
@json_option
@click.pass_context
@pass_session
def result(
    session: Session,
    ctx: click.Context,
    execution_id: str,
    timeout: float | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Wait for the result of an execution, and print it."""
    with session.backend.reader(trust=trust) as client:
        execution = client.get_execution(execution_id)
        if client.head(execution_id).status == "running" and timeout != 0:
            session.remark_unserved(client)
        try:
            client.wait(execution_id, timeout)
        except TimeoutError as error:
            raise NotDone(str(error)) from None
        ctx.exit(print_outcome(execution, as_json, trust=trust))


@command("export", "mini-workflow export histories --workflow order --limit 20")
@click.argument("folder", type=click.Path(file_okay=False))
@filter_options
@click.option(
    *("--limit",),
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Export so many executions, the newest ones.",
)
@click.option(
    "--decoded", is_flag=True, help="Write values as they are before a payload codec encodes them."
)
@json_option
@pass_session
def export(
    session: Session,
    folder: str,
    limit: int,
    decoded: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """Write executions into a folder, a file of JSON each.

    `check_replay` and `replay` read the files. Values that a payload codec has encoded stay encoded, so
    that these need the same codec, unless you add --decoded: then anybody can read the values.
    """
    place = Path(folder)
    written: list[str] = []
    with session.backend.reader() as client, using(place):
        place.mkdir(parents=True, exist_ok=True)
        found = client.list_executions(limit=limit, **filters)
        for description in found:
            execution = client.get_execution(description.id)
            recording = execution.recording()
            if decoded:
                recording = recording.decoded(execution.codec)
            file = place / f"{description.id}.json"
            plain = {**description_json(description), **recording.to_plain()}
            file.touch(mode=0o600)  # it holds what the store keeps from others
            file.write_text(json.dumps(plain, ensure_ascii=False) + "\n", encoding="utf-8")
            written.append(str(file))
    if as_json:
        say_json({"files": written})
    else:
        for name in written:
            say(name)


COMMANDS: Final = (ls, count, metrics, get, result, export)

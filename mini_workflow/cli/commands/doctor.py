"""The command `doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import click

from mini_workflow.cli.aws_checks import examine_aws
from mini_workflow.cli.backends import AWSTarget, PostgresTarget, SQLiteTarget
from mini_workflow.cli.failures import FAILED, OK, in_one_line
from mini_workflow.cli.findings import Finding
from mini_workflow.cli.output import duration, say, say_json
from mini_workflow.cli.postgres_checks import examine_postgres
from mini_workflow.cli.session import Session, command, json_option, pass_session
from mini_workflow.cli.timelines import task_message
from mini_workflow.core.events import TaskRetryStarted, TaskScheduled
from mini_workflow.engine.client import Client
from mini_workflow.engine.execution import Description
from mini_workflow.engine.recording import Recording
from mini_workflow.errors import SerializationError, WireError

if TYPE_CHECKING:
    from mini_workflow.stores.sqlite.damage import Damage

OVERDUE: Final = timedelta(seconds=60)
"""How late a timer may be before it is taken for a sign that nothing runs."""

LONG: Final = timedelta(hours=1)
"""How long an attempt of a task may run before it is worth a look."""

REMEDIES: Final[dict[str, str]] = {
    "UnknownWorkflow": "run a worker that imports the module which defines it: "
    "mini-workflow worker MODULE; it goes on by itself",
    "NonDeterminismError": "mini-workflow replay {id} MODULE shows both sides; change the code with "
    "ctx.patched, then mini-workflow resume {id}",
    "HistoryTooLong": "let the workflow call ctx.continue_as_new(), or raise history_limit, then "
    "mini-workflow resume {id}",
    "TurnTimeout": "do long work in a task; mini-workflow replay {id} MODULE runs into the line, "
    "and mini-workflow resume {id} continues it",
    "SchemaTooNew": "upgrade mini-workflow where it runs, then mini-workflow resume {id}",
    "PythonVersionMismatch": "run it on the Python version that the message names, then "
    "mini-workflow resume {id}",
}
_STORED_UNDER: Final = re.compile(r'"\$"\s*:\s*"dill"\s*,\s*"python"\s*:\s*"\w+-(\d+\.\d+)"')
"""A value that has code in it, as a history holds it, and the Python that it is of."""

REMEDY: Final = (
    "mini-workflow replay {id} MODULE shows the line; fix it, then mini-workflow resume {id}"
)


def checked_version(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return the minor version of Python that is given. Raises BadParameter for anything else."""
    if value is not None and not re.fullmatch(r"3\.\d+", value):
        raise click.BadParameter(f"{value!r} is not a minor version of Python, such as 3.13")
    return value


@command("doctor", "mini-workflow doctor", "mini-workflow --backend aws --stack prod doctor --json")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=1_000,
    show_default=True,
    help="Look at so many executions that run, and at so many that are blocked.",
)
@click.option(
    "--python",
    metavar="3.X",
    callback=checked_version,
    help="Also find the open executions with values that this version of Python cannot read.",
)
@json_option
@click.pass_context
@pass_session
def doctor(
    session: Session, ctx: click.Context, limit: int, python: str | None, as_json: bool
) -> None:
    """Say what is wrong, and what to do about it.

    Looks at the settings, the store, and the newest executions. The exit status is 1 if anything is
    wrong.
    """
    findings: list[Finding] = []
    for finding in _examine(session, limit, python):
        findings.append(finding)
        if not as_json:
            _print(finding)
    problems = sum(finding.level == "problem" for finding in findings)
    if as_json:
        say_json(
            {
                "problems": problems,
                "findings": [
                    {
                        "level": f.level,
                        "what": f.what,
                        "remedy": f.remedy or None,
                        "id": f.execution_id,
                    }
                    for f in findings
                ],
            }
        )
    else:
        say("nothing is wrong" if not problems else f"problems: {problems}")
    ctx.exit(FAILED if problems else OK)


def _print(finding: Finding) -> None:
    colour = "green" if finding.level == "ok" else "red"
    say((f"{finding.level:7}", colour), f"  {finding.what}")
    if finding.remedy:
        say(f"         -> {finding.remedy}")


def _examine(session: Session, limit: int, python: str | None) -> Iterator[Finding]:
    yield Finding(
        "ok",
        f"mini-workflow {version('mini-workflow')}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}",
    )
    yield Finding("ok", f"backend {session.backend.name}, from {session.config.origin}")
    if isinstance(session.backend, SQLiteTarget):
        yield from _examine_folder(session.backend)
    elif isinstance(session.backend, AWSTarget):
        yield from examine_aws(session.backend)
    try:
        if isinstance(session.backend, PostgresTarget):
            yield from examine_postgres(session.backend)
        with session.backend.reader() as opened:
            client: Any = opened
            if isinstance(session.backend, SQLiteTarget):
                yield from _examine_rows(client.damaged(limit))
            yield from _examine_executions(session, client, limit)
            if python is not None:
                yield from examine_values(client, limit, python)
    except Exception as error:
        yield Finding("problem", in_one_line(error), "the message says what to do")


def _plain_lines(client: Client, execution_id: str) -> list[str]:
    """Return the events of an execution, decoded where that can be done here."""
    lines = client.lines(execution_id)
    try:
        recording = Recording.from_lines(execution_id, lines)
        codec = client.codec.for_execution(execution_id)
        return [*recording.decoded(codec).history.to_lines()]
    except (SerializationError, WireError):
        return lines


def examine_values(client: Client, limit: int, python: str) -> Iterator[Finding]:
    """Find the values with code in them, which only the version that stored them can read."""
    looked = 0
    for status in ("running", "blocked"):
        for one in client.list_executions(status=status, limit=limit):
            looked += 1
            others = {
                version
                for line in _plain_lines(client, one.id)
                for version in _STORED_UNDER.findall(line)
                if version != python
            }
            if others:
                named = " and ".join(f"Python {version}" for version in sorted(others))
                yield Finding(
                    "problem",
                    f"{one.id} ({one.workflow}) has values whose classes went along as code of "
                    f"{named}, which Python {python} cannot read",
                    "let it end before the upgrade, or terminate it; define such classes at the top "
                    "level of a module",
                    one.id,
                )
    yield Finding("ok", f"looked for values that Python {python} cannot read, executions: {looked}")


def _examine_folder(target: SQLiteTarget) -> Iterator[Finding]:
    path = target.path
    if path.exists():
        for place in (path, path.parent):
            if not os.access(place, os.R_OK | os.W_OK):
                yield Finding(
                    "problem", f"{place} is not readable and writable", f"chmod u+rw {place}"
                )


def _examine_rows(found: Iterable[Damage]) -> Iterator[Finding]:
    for damage in found:
        name = damage.execution_id
        yield Finding(
            "problem",
            f"the row of execution {name} in the file is damaged: {damage}",
            f"restore a backup, or mini-workflow resume {name} to write the row anew from its history",
            name,
        )


def _examine_executions(session: Session, client: Client, limit: int) -> Iterator[Finding]:
    running = client.list_executions(status="running", limit=limit)
    blocked = client.list_executions(status="blocked", limit=limit)
    yield Finding("ok", f"the store answers; running: {len(running)}, blocked: {len(blocked)}")
    served = session.backend.is_served(client)
    if running and not served:
        yield Finding(
            "problem",
            f"no worker is running for {session.backend.place}, and executions wait for one: "
            f"{len(running)}",
            "start one: mini-workflow worker MODULE",
        )
    for one in blocked:
        remedy = REMEDIES.get(one.blocked_kind or "", REMEDY).format(id=one.id)
        yield Finding(
            "problem", f"{one.id} ({one.workflow}) is blocked: {one.blocked_reason}", remedy, one.id
        )
    if not served:
        return
    now = datetime.now(UTC)
    for one in running:
        if one.next_wake_at is not None and now - one.next_wake_at > OVERDUE:
            yield Finding(
                "problem",
                f"{one.id} ({one.workflow}) should have gone on {duration(now - one.next_wake_at)} "
                "ago",
                "its worker hangs or cannot write: look at the worker's log, and restart it",
                one.id,
            )
        elif one.busy and now - one.started_at > LONG:
            yield from _examine_tasks(client, one, now)


def _examine_tasks(client: Client, one: Description, now: datetime) -> Iterator[Finding]:
    history = client.history(one.id)
    at = history.started.at
    begun: dict[int, int] = {}
    for event in history:
        at = getattr(event, "at", at)
        if isinstance(event, (TaskScheduled, TaskRetryStarted)):
            begun[event.seq] = at
    tasks: dict[int, Any] = history.state().tasks
    for seq, task in tasks.items():
        took = now - datetime.fromtimestamp(begun.get(seq, at) / 1000, UTC)
        if task.retry_at is None and took > LONG:
            what = f"attempt {task.attempt} of task #{seq} {task.name!r}"
            state, hint = (
                "has been running",
                "give the task a timeout= or a heartbeat_timeout=, if it hangs",
            )
            if task.worker:
                state = f"has been with worker {task.worker!r}, or waiting for it,"
                hint = f"if nobody serves it, {task_message(task.worker)}; else {hint}"
            yield Finding(
                "problem",
                f"{one.id} ({one.workflow}): {what} {state} for {duration(took)}",
                hint,
                one.id,
            )


COMMANDS: Final = (doctor,)

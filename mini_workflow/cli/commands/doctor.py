"""The command `doctor`: report problems, each with its remedy."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import click

from mini_workflow.cli.aws_checks import examine_aws
from mini_workflow.cli.backends import AWSTarget, PostgresTarget, SQLiteTarget
from mini_workflow.cli.failures import FAILED, OK, in_one_line
from mini_workflow.cli.output import say, say_json
from mini_workflow.cli.postgres_checks import examine_postgres
from mini_workflow.cli.session import Session, command, json_option, pass_session
from mini_workflow.doctor.executions import NEWEST, examine_executions
from mini_workflow.doctor.findings import Finding
from mini_workflow.engine.client import Client
from mini_workflow.engine.recording import Recording
from mini_workflow.errors import SerializationError, WireError

if TYPE_CHECKING:
    from mini_workflow.stores.sqlite.damage import Damage

_STORED_UNDER: Final = re.compile(r'"\$"\s*:\s*"dill"\s*,\s*"python"\s*:\s*"\w+-(\d+\.\d+)"')
"""A value with code in it, as a history holds it, and the version of Python that wrote it."""


def checked_version(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return the minor version of Python that is given. Raises BadParameter for anything else."""
    if value is not None and not re.fullmatch(r"3\.\d+", value):
        raise click.BadParameter(f"{value!r} is not a minor version of Python, such as 3.13")
    return value


@command("doctor", "mini-workflow doctor", "mini-workflow --backend aws --stack prod doctor --json")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=NEWEST,
    show_default=True,
    help="Examine so many executions that run, and so many that are blocked.",
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
    """Find problems, and print a remedy for each.

    Examines the settings, the store, and the newest executions. The exit status is 1 if there is a
    problem.
    """
    findings: list[Finding] = []
    for finding in examine(session, limit, python):
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


def examine(session: Session, limit: int = NEWEST, python: str | None = None) -> Iterator[Finding]:
    """Check the settings, the store, and the newest executions, at most `limit` of each status."""
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
            served = session.backend.is_served(client)
            place = session.backend.place
            yield from examine_executions(client, place, limit, served=served)
            if python is not None:
                yield from examine_values(client, limit, python)
    except Exception as error:
        yield Finding("problem", in_one_line(error), "do what the message says, then try again")


def _plain_lines(client: Client, execution_id: str) -> list[str]:
    """Return the lines of a history, decoded if the codec here can decode them."""
    lines = client.lines(execution_id)
    try:
        recording = Recording.from_lines(execution_id, lines)
        codec = client.codec.for_execution(execution_id)
        return [*recording.decoded(codec).history.to_lines()]
    except (SerializationError, WireError):
        return lines


def examine_values(client: Client, limit: int, python: str) -> Iterator[Finding]:
    """Find values that are stored with code which Python of another version cannot read."""
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
                    "let the execution end before the upgrade, or terminate it; define such classes at "
                    "the top level of a module",
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


COMMANDS: Final = (doctor,)

"""The commands of `deploy`, for new code on AWS: canary, promote, rollback, status, check and prune."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from mini_workflow.cli.backends import AWSTarget
from mini_workflow.cli.commands.doctor import checked_version, examine_values
from mini_workflow.cli.failures import FAILED, Failed
from mini_workflow.cli.output import Group, note, say, say_json
from mini_workflow.cli.session import (
    Seconds,
    Session,
    command,
    json_option,
    pass_session,
)
from mini_workflow.errors import UsageError

if TYPE_CHECKING:
    from mini_workflow.runtimes.aws.deployment import Deployment, Version
    from mini_workflow.runtimes.aws.runtime import AWSRuntime
    from mini_workflow.runtimes.aws.versions import Traffic

LOOK_EVERY: Final = 15.0
"""Seconds between two checks of a canary. CloudWatch has one point a minute."""

MANY: Final = 1_000_000
"""The number of open executions that are examined: in practice all of them."""


@click.group(
    "deploy",
    cls=Group,
    examples=(
        "mini-workflow --stack prod deploy canary --weight 5",
        "mini-workflow --stack prod deploy promote",
    ),
)
def deploy() -> None:
    """Try new code on a share of the executions, and take it back.

    For an engine on AWS with the option canary (or versions). A deployment publishes a version of the
    orchestrator, which takes no executions yet. `canary` gives it a share of the executions that begin,
    watches it, and takes it back if it does harm; `promote` gives it all. An execution stays with its
    version until that is promoted or taken back.
    """


@command(
    "status",
    "mini-workflow deploy status",
    "mini-workflow --stack prod deploy status --json",
    group=deploy,
)
@json_option
@pass_session
def status(session: Session, as_json: bool) -> None:
    """Show which versions take executions, and how many executions are open with each."""
    with _opened(session) as client:
        deployment = client.deployment()
        traffic, executions = deployment.traffic(), deployment.executions()
    if as_json:
        say_json(_plain(traffic) | {"executions": executions})
        return
    say(_words(traffic))
    for version in sorted(executions, key=lambda one: int(one or 0)):
        say(f"open with {f'version {version}' if version else 'no version'}: {executions[version]}")


@command(
    "canary",
    "mini-workflow deploy canary --weight 5",
    "mini-workflow deploy canary --weight 20 --watch 1800 --promote --alarm orders-blocked",
    group=deploy,
)
@click.option(
    "--version", default="", metavar="N", help="The version to try.  [default: the newest]"
)
@click.option(
    "--weight",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    default=10.0,
    show_default=True,
    help="The percentage of the batches of events that go to it.",
)
@click.option(
    "--watch",
    type=Seconds(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Watch it for so long; 0 not to watch it.",
)
@click.option("--promote", "promotes", is_flag=True, help="Promote it if it did no harm.")
@click.option(
    "--alarm",
    "alarms",
    multiple=True,
    metavar="NAME",
    help="Take it back if this CloudWatch alarm goes off, too; may be repeated.",
)
@json_option
@pass_session
def canary(
    session: Session,
    version: str,
    weight: float,
    watch: float,
    promotes: bool,
    alarms: tuple[str, ...],
    as_json: bool,
) -> None:
    """Give a new version a share of the executions, watch it, and take it back if it does harm.

    It does harm if it has blocked an execution, if calls of it have failed, or if an alarm goes off that
    --alarm names. Then all executions go to the version before, as far as they fit, and the exit status
    is 1. Ctrl-C ends the watch and leaves the canary as it is.
    """
    if promotes and not watch:
        raise UsageError(
            "--promote needs a canary that is watched: give --watch SECONDS with more than 0"
        )
    with _opened(session) as client:
        deployment = client.deployment()
        since = datetime.now(UTC)
        traffic = deployment.begin(version, weight / 100)
        if not as_json:
            say(_words(traffic))
        problems = _watched(deployment, traffic, since, watch, alarms)
        if problems:
            traffic = deployment.rollback()
        elif promotes:
            traffic = deployment.promote()
    if as_json:
        say_json(_plain(traffic) | {"problems": problems})
    elif problems or promotes:
        say(_words(traffic))
    if problems:
        raise Failed(
            f"the canary was taken back: {'; '.join(problems)}. Fix the cause and deploy again; "
            "mini-workflow ls --status blocked lists the executions that wait for that",
            FAILED,
        )
    if not promotes:
        note(
            "`mini-workflow deploy promote` gives it all executions, `mini-workflow deploy rollback` "
            "takes it back"
        )


def _watched(
    deployment: Deployment,
    traffic: Traffic,
    since: datetime,
    seconds: float,
    alarms: tuple[str, ...],
) -> list[str]:
    """Watch a canary for so many seconds. Return its problems, as soon as there are any."""
    ends = time.monotonic() + seconds
    while seconds:
        problems = deployment.health(traffic.canary, since, alarms).problems
        left = ends - time.monotonic()
        if problems or left <= 0:
            return problems
        note(
            f"version {traffic.canary} does no harm; watching for {timedelta(seconds=round(left))} more"
        )
        time.sleep(min(LOOK_EVERY, left))
    return []


@command("promote", "mini-workflow deploy promote", group=deploy)
@json_option
@pass_session
def promote(session: Session, as_json: bool) -> None:
    """Give the canary all executions, those of the version before included."""
    with _opened(session) as client:
        _tell(client.deployment().promote(), as_json)


@command(
    "rollback",
    "mini-workflow deploy rollback",
    "mini-workflow deploy rollback --to 7",
    group=deploy,
)
@click.option("--to", default="", metavar="N", help="The version that takes all executions.")
@json_option
@pass_session
def rollback(session: Session, to: str, as_json: bool) -> None:
    """Take the canary back, or return to any version with --to.

    Executions that the newer version has advanced go on with the older code as far as that fits. An
    execution that does not fit is blocked: deploy code that fits, and resume it.
    """
    with _opened(session) as client:
        _tell(client.deployment().rollback(to), as_json)


@command("check", "mini-workflow deploy check --python 3.14", group=deploy)
@click.option(
    "--python",
    required=True,
    metavar="3.X",
    callback=checked_version,
    help="The version of Python that will be deployed.",
)
@click.option(
    "--accept",
    is_flag=True,
    help="Only list the executions that would be blocked; the exit status is 0.",
)
@json_option
@pass_session
@click.pass_context
def check(ctx: click.Context, session: Session, python: str, accept: bool, as_json: bool) -> None:
    """Find the open executions that another version of Python could not read.

    For a pipeline, before it deploys. Values whose classes are not at the top level of a module are
    stored with their code, which no other minor version reads. The exit status is 1 if open executions
    have such values: let them end first.
    """
    with _opened(session) as client:
        deployed = client.deployment().runtime()
        found = list(examine_values(client, MANY, python)) if deployed != python else []
    problems = [one for one in found if one.level == "problem"]
    if as_json:
        ids = [one.execution_id for one in problems]
        say_json({"deployed": deployed or None, "wanted": python, "executions": ids})
    else:
        for one in problems:
            say((f"{one.level:7}", "red"), f"  {one.what}")
        say(f"deployed: Python {deployed or 'of an image'}; wanted: {python}")
    if problems and not accept:
        if not as_json:
            note("let them end, or terminate them; or add --accept, and they will be blocked")
        ctx.exit(FAILED)


@command(
    "prune",
    "mini-workflow deploy prune --dry-run",
    "mini-workflow deploy prune --keep 5",
    group=deploy,
)
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Keep so many of the newest versions of each function, to roll back to.",
)
@click.option("--dry-run", is_flag=True, help="Only list the versions that would be deleted.")
@json_option
@pass_session
def prune(session: Session, keep: int, dry_run: bool, as_json: bool) -> None:
    """Delete versions of the functions that are no longer needed.

    These stay: the newest few; versions that an alias leads to; those with open executions, or with
    tasks that an open execution may try again; and those that were the newest within the last 7 hours,
    since calls of them may be on their way. All versions of an account share 75 GB.
    """
    with _opened(session) as client:
        deployment = client.deployment()
        unneeded: list[Version] = []
        for one in deployment.unneeded(keep):
            if not dry_run and not deployment.delete(one):
                continue
            unneeded.append(one)
            if not as_json:
                say(f"{one.function}:{one.number}: {'not needed' if dry_run else 'deleted'}")
    if as_json:
        names = [{"function": one.function, "version": one.number} for one in unneeded]
        say_json({"not_needed" if dry_run else "deleted": names})
    else:
        note(f"versions: {len(unneeded)}")


@contextmanager
def _opened(session: Session) -> Generator[AWSRuntime]:
    if not isinstance(session.backend, AWSTarget):
        raise UsageError(
            f"deploy is for an engine on AWS, and the backend is {session.backend.name}: give --backend "
            "aws, or --stack NAME"
        )
    with session.backend.client() as client:
        yield client


def _tell(traffic: Traffic, as_json: bool) -> None:
    if as_json:
        say_json(_plain(traffic))
    else:
        say(_words(traffic))


def _words(traffic: Traffic) -> str:
    if not traffic.canary:
        return f"version {traffic.main} takes all executions"
    share = f"{100 * traffic.weight:g} %"
    return f"version {traffic.canary} takes {share} of the batches, and version {traffic.main} the rest"


def _plain(traffic: Traffic) -> dict[str, Any]:
    return {
        "version": traffic.main,
        "canary": traffic.canary or None,
        "weight": 100 * traffic.weight if traffic.canary else None,
    }


COMMANDS: Final = (deploy,)

"""The commands `deploy canary`, `promote`, `rollback`, `status`, `check` and `prune`: new code on AWS."""

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
from mini_workflow.cli.output import note, say, say_json
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
"""Seconds between two looks at a canary. CloudWatch has a point a minute."""

MANY: Final = 1_000_000
"""Open executions that are looked at by default: all of them."""


@click.group("deploy")
def deploy() -> None:
    """Try new code on a share of the executions, and take it back.

    For an engine on AWS with the option canary (or versions). A deployment publishes a version of the
    orchestrator, which waits; `canary` has it take a share of the executions that begin, watches it, and
    takes it back by itself if it does harm; `promote` has it take all. An execution is never passed to and
    fro: it stays with its version until that is promoted or taken back.
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
    """Say which version takes executions, and how many are open with each."""
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
    help="Percent of the batches of events that go to it.",
)
@click.option(
    "--watch",
    type=Seconds(min=0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Watch it for so long; 0 to leave it alone.",
)
@click.option("--promote", "promotes", is_flag=True, help="Promote it if it did well.")
@click.option(
    "--alarm",
    "alarms",
    multiple=True,
    metavar="NAME",
    help="Take it back if this alarm rings, too.",
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
    """Have a new version take a share of the executions, watch it, and take it back if it does harm.

    It does harm if it has blocked an execution, if calls of it have failed, or if an alarm rings that
    --alarm names. Then all goes to the version before, the status is 1, and executions that it began go
    on there as far as they fit. Ctrl-C ends the watch and leaves the canary as it is.
    """
    if promotes and not watch:
        raise UsageError(
            "--promote is about a canary that was watched: give --watch more than 0 too"
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
            "mini-workflow ls --status blocked says what waits for that",
            FAILED,
        )
    if not promotes:
        note("mini-workflow deploy promote has it take all, deploy rollback takes it back")


def _watched(
    deployment: Deployment,
    traffic: Traffic,
    since: datetime,
    seconds: float,
    alarms: tuple[str, ...],
) -> list[str]:
    """Return what speaks against the canary, as soon as there is something."""
    ends = time.monotonic() + seconds
    while seconds:
        problems = deployment.health(traffic.canary, since, alarms).problems
        left = ends - time.monotonic()
        if problems or left <= 0:
            return problems
        note(
            f"version {traffic.canary} does well; watched for {timedelta(seconds=round(left))} more"
        )
        time.sleep(min(LOOK_EVERY, left))
    return []


@command("promote", "mini-workflow deploy promote", group=deploy)
@json_option
@pass_session
def promote(session: Session, as_json: bool) -> None:
    """Have the canary take all executions, those of the version before included."""
    with _opened(session) as client:
        _tell(client.deployment().promote(), as_json)


@command(
    "rollback",
    "mini-workflow deploy rollback",
    "mini-workflow deploy rollback --to 7",
    group=deploy,
)
@click.option("--to", default="", metavar="N", help="The version that is to take all.")
@json_option
@pass_session
def rollback(session: Session, to: str, as_json: bool) -> None:
    """Take the canary back, or with --to any deployment.

    Executions that the version has advanced go on with the older code as far as that fits. One that does
    not fit is blocked, and says so: deploy code that fits, and resume it.
    """
    with _opened(session) as client:
        _tell(client.deployment().rollback(to), as_json)


@command("check", "mini-workflow deploy check --python 3.14", group=deploy)
@click.option(
    "--python",
    required=True,
    metavar="3.X",
    callback=checked_version,
    help="The version of Python that is to be deployed.",
)
@click.option(
    "--accept", is_flag=True, help="Name what would be blocked, and let it pass: the status is 0."
)
@json_option
@pass_session
@click.pass_context
def check(ctx: click.Context, session: Session, python: str, accept: bool, as_json: bool) -> None:
    """Refuse a deployment with another Python while executions need the one that is there.

    For a pipeline, before it deploys. Values whose classes are not at the top level of a module are
    stored with their code, which no other minor version reads. The status is 1 if open executions have
    such values: let them end first.
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
            note("let them end, or terminate them; --accept lets it pass, and they will be blocked")
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
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@json_option
@pass_session
def prune(session: Session, keep: int, dry_run: bool, as_json: bool) -> None:
    """Delete versions of the functions that nothing needs any more.

    A version stays that an alias leads to, that an open execution is with, or whose tasks an open
    execution may try again; that was the newest within the last 7 hours, as long as calls may be on
    their way; and the newest few. All versions of an account share 75 GB.
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
            f"versions are about AWS, and the backend is {session.backend.name}: give --backend aws"
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

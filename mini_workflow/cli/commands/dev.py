"""The command `dev`: run a worker and the page on this machine, or the tasks of a deployed stack."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Final

import click

from mini_workflow import settings
from mini_workflow.cli.backends import DEFAULT_GRACE, AWSTarget, open_backend
from mini_workflow.cli.commands.run import Stop, prepare_logging, until_stopped
from mini_workflow.cli.commands.ui import listen
from mini_workflow.cli.output import note, say, say_json
from mini_workflow.cli.session import Session, command, json_option, pass_session
from mini_workflow.core.records import replace
from mini_workflow.errors import UsageError
from mini_workflow.settings import DEV_PREFIX, DEV_WORKER, WORKER_NAME, dev_worker_message


@command(
    "dev",
    "mini-workflow dev app.workflows",
    "mini-workflow dev --stack staging app.workflows",
    "mini-workflow dev --stack staging app.workflows --as ann --run 'python -m app.server'",
)
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--stack", metavar="NAME", help="The Pulumi stack whose outputs have the settings.")
@click.option(
    "--as",
    "developer",
    metavar="NAME",
    help="The developer whose tasks run here.  [default: your login name]",
)
@click.option(
    "--tasks",
    type=click.IntRange(1, 1_000),
    default=4,
    show_default=True,
    help="Run so many tasks at a time.",
)
@click.option(
    "--run",
    metavar="COMMAND",
    help="Start this command with the engine's settings, and end with it.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8233,
    show_default=True,
    help="The port of the page; 0 for any that is free.",
)
@click.option(
    "--open/--no-open",
    "opens",
    default=None,
    help="Open the page of each failure in a browser.  [default: on a terminal with a screen]",
)
@click.option("--handed", hidden=True)
@click.option("--url", hidden=True)
@json_option
@click.pass_context
@pass_session
def dev(
    session: Session,
    ctx: click.Context,
    modules: tuple[str, ...],
    stack: str | None,
    developer: str | None,
    tasks: int,
    run: str | None,
    port: int,
    opens: bool | None,
    handed: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Run a worker and the page, anew whenever the code changes; or the tasks of a deployed stack.

    On SQLite and Postgres this runs the executions, logs how they go, and serves the page. A browser
    shows executions that have failed or are blocked: each failure once, at most five until the code
    changes. When a Python file below the current directory changes, the process starts anew. It then
    resumes the blocked executions that the code fits now, and prints why others are still blocked.

    With --stack the workflows run on AWS, as they were deployed. Executions that were started with
    MINI_WORKFLOW_DEV_WORKER in the environment, and their children, have their tasks run on this machine,
    with the modules that are here. Tasks of other executions stay where they are. Functions that tasks
    name run as in your checkout; lambdas and functions inside of a workflow run as deployed.

    The command of --run gets the engine's settings and that variable, so that executions that it starts
    are yours. The stack needs a worker for each developer, such as
    workers={"dev-ann": {"pull": true}}.

    Ctrl-C hands running tasks back to the queue. They wait there for up to 14 days, like tasks that are
    scheduled while `dev` does not run. An attempt whose machine died is reported as lost to the next
    `dev`, and tried again according to its retry policy.
    """
    backend = session.backend
    if stack is not None:
        backend = open_backend(replace(session.config, backend="aws", stack=stack))
    if not isinstance(backend, AWSTarget):
        if run is not None or developer is not None:
            raise UsageError("--as and --run are for an engine on AWS: name its stack with --stack")
        _develop(session, modules, port, opens, handed, url, as_json=as_json)
        return
    if opens:
        raise UsageError(
            "--open is for the page that dev serves, and with --stack it serves none: leave out --open"
        )
    name = _worker_of(developer)
    variables = {**backend.environment(), DEV_WORKER: name}
    known = settings.Settings({**os.environ, **variables})
    if not settings.is_queue(known.workers().get(name, "")):
        raise UsageError(
            f"{backend.name} has no worker {name!r} that pulls; it has {known.dev_workers()}. "
            f"{dev_worker_message(name)}; or name yours with --as NAME"
        )
    # Modules may open a runtime of their own: let it be of the same engine, and route its executions.
    os.environ.update(variables)
    session.import_modules(*modules)
    prepare_logging()
    with until_stopped() as stop, backend.pull(variables, {name: tasks}):
        if as_json:
            say_json({"serving": backend.name, "worker": name, "variables": {DEV_WORKER: name}})
        else:
            say(f"serving {backend.name}: tasks of executions started with {DEV_WORKER}={name}")
        sys.stdout.flush()
        if run is None:
            stop.wait()
            status = 0
        else:
            status = _run_beside(shlex.split(run), stop)
    note("stopped; tasks of these executions wait in their queue until `dev` runs again")
    ctx.exit(status)


def _develop(
    session: Session,
    modules: tuple[str, ...],
    port: int,
    opens: bool | None,
    handed: str | None,
    url: str | None,
    *,
    as_json: bool,
) -> None:
    """Serve the socket that was handed over, or supervise a process that does."""
    from mini_workflow.cli.development import check_extra, has_window, serve, supervise

    if handed is not None:
        serve(session, modules, handed, url or "", opens=bool(opens))
        return
    check_extra()
    wanted = (*session.config.modules, *modules)
    if not wanted:
        raise UsageError("no workflow is defined: name the modules that define workflows")
    with closing(listen("127.0.0.1", port)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        if as_json:
            say_json({"url": url})
        else:
            say(url)
            note("Ctrl-C ends it; executions stay in the store")
        sys.stdout.flush()
        program = [
            sys.executable,
            "-m",
            "mini_workflow.cli",
            "dev",
            *wanted,
            "--open" if (has_window() if opens is None else opens) else "--no-open",
            "--url",
            url,
            "--handed",
        ]
        variables = {"MINI_WORKFLOW_BACKEND": session.config.backend}
        if session.config.direct_url is not None:
            variables["MINI_WORKFLOW_DIRECT_URL"] = session.config.direct_url
        if session.config.codec is not None:
            variables["MINI_WORKFLOW_CODEC"] = session.config.codec
        supervise(program, variables, listening, Path.cwd())


def _run_beside(command: list[str], stop: Stop) -> int:
    """Run a command until it ends, or this process is asked to stop. Return its exit status."""
    try:
        child = subprocess.Popen(command)
    except (OSError, IndexError) as error:
        raise UsageError(f"--run {shlex.join(command)}: {error}") from error

    def wait() -> None:
        child.wait()
        stop.request()

    waiting = threading.Thread(target=wait, name="mini-workflow-dev-run", daemon=True)
    waiting.start()
    stop.wait()
    if child.poll() is not None:
        return child.returncode
    child.terminate()
    waiting.join(DEFAULT_GRACE)
    child.kill()
    return 0


def _worker_of(developer: str | None) -> str:
    """Return the worker of a developer, by default of the user who has logged in. Raises UsageError."""
    given = os.environ.get(DEV_WORKER, "") if developer is None else developer
    plain = given or re.sub(r"[^A-Za-z0-9]+", "-", getpass.getuser()).strip("-")
    name = plain if plain.startswith(DEV_PREFIX) else f"{DEV_PREFIX}{plain}"
    if WORKER_NAME.fullmatch(name) is None:
        raise UsageError(f"--as {given or plain!r}: {name!r} is not {settings.WORKER_NAME_RULE}")
    return name


COMMANDS: Final = (dev,)

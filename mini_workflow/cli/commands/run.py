"""Commands that start executions, or run them: run, start, worker."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import click

from mini_workflow.cli.app import Session, json_option, pass_session
from mini_workflow.cli.arguments import find_workflow, read_arguments
from mini_workflow.cli.output import remark, say, say_json
from mini_workflow.cli.timelines import print_outcome, print_timeline
from mini_workflow.errors import UsageError

place_argument = click.argument("place", metavar="MODULE:WORKFLOW")
call_arguments = click.argument("arguments", nargs=-1, metavar="[ARGUMENT]...")
id_option = click.option("--id", "execution_id", help="The same id again is the same execution.")


@click.command("start")
@place_argument
@call_arguments
@id_option
@json_option
@pass_session
def start(
    session: Session,
    place: str,
    arguments: tuple[str, ...],
    execution_id: str | None,
    as_json: bool,
) -> None:
    """Start an execution, and print its id.

    An ARGUMENT is key=value, a JSON array of positional arguments, or a JSON object. Values are
    JSON, or else texts.
    """
    session.import_modules()
    workflow = find_workflow(place)
    args, kwargs = read_arguments(arguments, workflow)
    with session.backend.client(create=True) as client:
        execution = _start(client, workflow, args, kwargs, execution_id)
        why = session.backend.remark(client)
        if as_json:
            say_json({"id": execution.id, "served": not why})
        else:
            say(execution.id)
        remark(why)


def _start(client: Any, workflow: Any, args: Any, kwargs: Any, execution_id: str | None) -> Any:
    if "id" in kwargs:
        raise UsageError("an argument called id has to be given by position, in a JSON array")
    return client.start_execution(workflow, *args, id=execution_id, **kwargs)


@click.command("run")
@place_argument
@call_arguments
@id_option
@click.option("--processes", type=click.IntRange(0), default=0, help="Run tasks in so many.")
@click.option("--quiet", "-q", is_flag=True, help="Print the result alone.")
@json_option
@click.pass_context
@pass_session
def run(
    session: Session,
    ctx: click.Context,
    place: str,
    arguments: tuple[str, ...],
    execution_id: str | None,
    processes: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Start an execution and follow it to its end.

    Prints its timeline as it grows, and then its result. On SQLite this process runs it, and
    whatever else in the file nobody runs. After Ctrl-C it stays in the store, and `worker`, or the
    same command with its --id, continues it.
    """
    session.import_modules()
    workflow = find_workflow(place)
    args, kwargs = read_arguments(arguments, workflow)
    aws = session.config.backend == "aws"
    opened = session.backend.client() if aws else session.backend.server(processes)
    with opened as runtime:
        execution = _start(runtime, workflow, args, kwargs, execution_id)
        try:
            if quiet:
                runtime.wait(execution.id, None)
            else:
                click.echo(f"{execution.id}  {workflow.name}", err=True)
                print_timeline(
                    runtime,
                    execution,
                    follow=True,
                    write=lambda line: say(line, err=True),
                )
        except KeyboardInterrupt:
            remark(f"{execution.id} is not done; `worker`, or `run` with its --id, continues it")
            raise
        ctx.exit(print_outcome(execution, as_json, trust=True))


@click.command("worker")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option(
    "--processes",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Run tasks in so many processes; 0 runs them on threads.",
)
@json_option
@pass_session
def worker(session: Session, modules: tuple[str, ...], processes: int, as_json: bool) -> None:
    """Run the executions in an SQLite file, until Ctrl-C or SIGTERM.

    Several workers may serve one file; the others take over when one dies. Executions whose
    workflow no module defines are blocked until a worker has it.
    """
    session.import_modules(*modules)
    from mini_workflow.workflow import REGISTRY

    known = REGISTRY.names()
    if not known:
        raise UsageError("no workflow is defined: name the modules that define them")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with _until_told() as told, session.backend.server(processes):
        if as_json:
            say_json({"serving": session.backend.name, "workflows": known})
        else:
            say(f"serving {session.backend.name}: {', '.join(known)}")
        sys.stdout.flush()
        told.wait()
    remark("stopped; what is running stays in the store")


@contextmanager
def _until_told() -> Generator[threading.Event]:
    """An event that is set by Ctrl-C and SIGTERM."""
    told = threading.Event()

    def tell(_number: int, _frame: FrameType | None) -> None:
        told.set()

    before = {n: signal.signal(n, tell) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


COMMANDS: Final = (run, start, worker)

"""Commands that start executions, or run them: run, start, worker."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from copy import copy
from types import FrameType
from typing import Any, Final, Unpack

import click

from mini_workflow import settings
from mini_workflow.cli.arguments import find_workflow, read_arguments
from mini_workflow.cli.live_tree import follow_on_terminal
from mini_workflow.cli.output import console, note, say, say_json
from mini_workflow.cli.remedy import translate
from mini_workflow.cli.session import (
    Moment,
    Seconds,
    Session,
    Tag,
    arguments_argument,
    command,
    json_option,
    pass_session,
)
from mini_workflow.cli.timelines import print_outcome, print_timeline
from mini_workflow.core.retry import MAXIMUM_ATTEMPTS, RetryPolicy
from mini_workflow.core.start_options import BoundWorkflow, StartOptions
from mini_workflow.core.validation import worker_of
from mini_workflow.engine.client import Client
from mini_workflow.engine.execution import Execution
from mini_workflow.errors import ExecutionNotFound, UsageError
from mini_workflow.ports import CLOSED, Status
from mini_workflow.workflow import REGISTRY

place_argument = click.argument("place", metavar="MODULE:WORKFLOW")
id_option = click.option(
    "--id",
    "execution_id",
    help="The id of the execution: started twice, it runs once.  [default: a new one]",
)


def _worker_name(option: str, name: str) -> str:
    try:
        return worker_of(name)
    except UsageError:
        raise UsageError(f"{option} {name!r}: give {settings.WORKER_NAME_RULE}") from None


def _read_workers(
    _context: click.Context, _option: click.Parameter, given: tuple[str, ...]
) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in given:
        name, _, count = text.partition("=")
        if not _worker_name("--worker", name) or not (count or "0").isdecimal():
            raise UsageError(
                f"--worker {text}: give NAME or NAME=PROCESSES, as in gpu=1; --processes is for tasks "
                "that name no worker"
            )
        found[name] = int(count or "0")
    return found


processes_option = click.option(
    "--processes",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Run tasks in so many processes; 0 runs them on threads.",
)

worker_option = click.option(
    "--worker",
    "workers",
    multiple=True,
    metavar="NAME[=PROCESSES]",
    callback=_read_workers,
    help="Run the tasks of this worker too, in so many processes of their own; may be repeated.",
)


def _read_labels(
    _context: click.Context, _option: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...]:
    return tuple(name for name in (_worker_name("--label", one) for one in given) if name)


label_option = click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME",
    callback=_read_labels,
    help="Run the tasks of this worker like those that name none, also for executions of other processes; "
    "may be repeated.",
)


def _start_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare the options of a start."""
    for option in (
        click.option(
            "--priority",
            type=int,
            metavar="N",
            help="The highest number gets a slot first.  [default: 0]",
        ),
        click.option(
            "--limit-key",
            metavar="KEY",
            help="The customer or tenant for whom it runs: keys take turns.",
        ),
        click.option(
            "--queue",
            metavar="LIMIT",
            help="Wait for a slot of this limit before its code begins.",
        ),
        click.option(
            "--retry",
            type=click.IntRange(1, MAXIMUM_ATTEMPTS),
            metavar="ATTEMPTS",
            help="Try again after a failure, up to so many runs in all.",
        ),
        click.option(
            "--timeout",
            type=Seconds(0, min_open=True),
            metavar="SECONDS",
            help="Cancel it so long after its code began; the code may clean up.",
        ),
        click.option(
            "--start-at",
            type=Moment(to_come=True),
            metavar="WHEN",
            help="Begin its code at this time: 2026-05-04, 2026-05-04T12:00+02:00.",
        ),
        click.option(
            "--delay", type=Seconds(0), metavar="SECONDS", help="Begin its code so much later."
        ),
        click.option(
            "--tag",
            "tags",
            type=Tag(),
            multiple=True,
            metavar="NAME=VALUE",
            help="A tag by which it can be found; may be repeated.",
        ),
    ):
        function = option(function)
    return function


def _read_options(
    tags: tuple[tuple[str, str], ...], retry: int | None, **others: Any
) -> StartOptions:
    policy = None if retry is None else RetryPolicy(max_attempts=retry)
    return StartOptions(tags=dict(tags) or None, retry=policy, **others)


@command(
    "start",
    "mini-workflow start orders:order order_id=o-17 --id order-17",
    "mini-workflow start orders:order '[\"o-17\", 3]'",
    'mini-workflow start orders:order \'{"order_id": "o-17", "amount": 3}\' --json',
    "mini-workflow start orders:order order_id=o-17 --tag customer=c-7 --delay 3600",
)
@place_argument
@arguments_argument
@id_option
@_start_options
@json_option
@pass_session
def start(
    session: Session,
    place: str,
    arguments: tuple[str, ...],
    execution_id: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Start an execution, and print its id. A worker runs it.

    An ARGUMENT is key=value, a JSON array of positional arguments, or a JSON object. Values are
    JSON, or else texts.
    """
    session.import_modules()
    workflow = find_workflow(place)
    args, kwargs = read_arguments(arguments, workflow)
    with session.backend.client(create=True) as client:
        bound = workflow.bind(*args, **kwargs)
        execution, before = _start(client, bound, execution_id, **_read_options(**options))
        served = before in CLOSED or session.remark_unserved(client, saved=True)
        if as_json:
            status = before or "running"
            say_json(
                {"id": execution.id, "started": not before, "status": status, "served": served}
            )
        else:
            say(execution.id)


def _start(
    client: Client,
    bound: BoundWorkflow[Any],
    execution_id: str | None,
    **options: Unpack[StartOptions],
) -> tuple[Execution[Any], Status | None]:
    """Start an execution. If it was started before, print a note and return its status, too."""
    before = None if execution_id is None else _status_of(client, execution_id)
    options["id"] = execution_id
    execution = client.start_execution(bound, **options)
    if before in CLOSED:
        note(
            f"{execution.id} was started before, with the same arguments, and has closed "
            f"({before}): nothing was started. `mini-workflow result {execution.id}` prints its "
            "outcome; to start another one choose another --id"
        )
    elif before is not None:
        note(f"{execution.id} was started before, and is {before}: nothing was started")
    return execution, before


def _status_of(client: Client, execution_id: str) -> Status | None:
    try:
        return client.head(execution_id).status
    except ExecutionNotFound:
        return None


@command(
    "run",
    "mini-workflow run orders:order order_id=o-17",
    "mini-workflow run orders:order order_id=o-17 --id order-17 --quiet --json",
)
@place_argument
@arguments_argument
@id_option
@_start_options
@processes_option
@worker_option
@label_option
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
    workers: dict[str, int],
    labels: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Start an execution, follow it to its end, and print its result.

    Where the standard error stream is a terminal, its operations are drawn as a tree, with a bar for
    each map; elsewhere its timeline is printed as it grows. On SQLite and Postgres this process runs it,
    and other executions of the store that no process runs. After Ctrl-C the execution stays in the
    store: `worker`, or the same command with its --id, continues it.
    """
    session.import_modules()
    workflow = find_workflow(place)
    args, kwargs = read_arguments(arguments, workflow)
    aws = session.config.backend == "aws"
    opened = (
        session.backend.client()
        if aws
        else session.backend.server({"default": processes, **workers}, labels)
    )
    with opened as runtime:
        bound = workflow.bind(*args, **kwargs)
        execution, _ = _start(runtime, bound, execution_id, **_read_options(**options))
        try:
            if quiet:
                runtime.wait(execution.id, None)
            elif console(err=True).is_terminal:
                follow_on_terminal(runtime, execution, workflow.name)
            else:
                say(f"{execution.id}  {workflow.name}", err=True)
                print_timeline(runtime, execution, follow=True, err=True)
        except KeyboardInterrupt:
            note(
                f"{execution.id} is not done; `mini-workflow worker MODULE`, or `run` with --id "
                f"{execution.id}, continues it"
            )
            raise
        ctx.exit(print_outcome(execution, as_json, trust=True))


@command(
    "worker",
    "mini-workflow worker orders",
    "mini-workflow --backend sqlite:orders.db worker orders invoices --processes 4 --worker gpu=1",
    "mini-workflow --backend postgresql://db/app worker orders --label gpu",
)
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@processes_option
@worker_option
@label_option
@json_option
@pass_session
def worker(
    session: Session,
    modules: tuple[str, ...],
    processes: int,
    workers: dict[str, int],
    labels: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the executions in an SQLite file or a database, until Ctrl-C or SIGTERM.

    Several workers may serve one store; the others take over when one dies. An execution whose workflow
    no imported module defines is blocked until a worker imports it. A task that names a worker waits
    until a process runs with that --label or --worker.

    On AWS this runs the tasks of workers that take them from a queue: --worker big=4 runs four at a
    time, and --label big one.
    """
    session.import_modules(*modules)
    known = REGISTRY.names()
    if not known:
        raise UsageError("no workflow is defined: name the modules that define workflows")
    prepare_logging()
    served = sorted({*workers, *labels})
    server = session.backend.server({"default": processes, **workers}, labels)
    with until_stopped() as stop, server:
        if as_json:
            say_json({"serving": session.backend.name, "workflows": known, "workers": served})
        else:
            also = f"; also tasks of {', '.join(served)}" if served else ""
            say(f"serving {session.backend.name}: {', '.join(known)}{also}")
        sys.stdout.flush()
        stop.wait()
    note("stopped; executions that are not done stay in the store")


class _Formatter(logging.Formatter):
    """Writes a log record with commands in the place of the library's calls."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._ctx = click.get_current_context(silent=True)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or the lines, of a record."""
        if record.name.startswith("mini_workflow") and isinstance(record.msg, str):
            record = copy(record)  # other handlers have the original
            name = getattr(record, "execution_id", "")
            record.msg = translate(record.msg, self._ctx, name)
        return super().format(record)


def prepare_logging() -> None:
    """Write log records from INFO on to the standard error stream, with times in UTC."""
    formatter = _Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class Stop:
    """A request to stop, which a signal handler may make.

    It is waited for at a socket, to which Python writes each signal as it comes: one that comes just before
    the main thread begins to wait, or to another thread, would not end the wait for a lock.
    """

    def __init__(self) -> None:
        self._requested = False
        self._receiver, self.sender = socket.socketpair()
        self.sender.setblocking(False)

    def request(self) -> None:
        """End the wait."""
        self._requested = True
        with suppress(OSError):  # full, and then the wait has much to read; or closed meanwhile
            self.sender.send(b"\0")

    def wait(self) -> None:
        """Wait for a request."""
        while not self._requested:
            self._receiver.recv(1024)

    def close(self) -> None:
        """Close the socket."""
        self._receiver.close()
        self.sender.close()


@contextmanager
def until_stopped() -> Generator[Stop]:
    """Return a Stop that Ctrl-C and SIGTERM request, inside the block."""
    stop = Stop()

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.request()

    known = signal.set_wakeup_fd(stop.sender.fileno(), warn_on_full_buffer=False)
    before = {n: signal.signal(n, request) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(known)
        stop.close()


COMMANDS: Final = (run, start, worker)

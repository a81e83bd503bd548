"""Give commands their client and output, and declare commands and the options that several take."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any, Final, cast

import click
from click.shell_completion import CompletionItem

from mini_workflow.cli.arguments import import_modules
from mini_workflow.cli.backends import Backend, open_backend
from mini_workflow.cli.config import Config, find_config
from mini_workflow.cli.output import Command, note
from mini_workflow.core.records import frozen
from mini_workflow.engine.client import Client
from mini_workflow.ports import STATUSES


@frozen
class Session:
    """The means of a command: its client, its output and its options."""

    config: Config
    backend: Backend
    debug: bool

    def import_modules(self, *names: str) -> None:
        """Import these modules, and those that are configured."""
        import_modules((*self.config.modules, *names))

    def remark_unserved(self, client: Client, *, saved: bool = False) -> bool:
        """Return whether a worker is running, and print a note if none is.

        `saved` says that a request was just stored for it.
        """
        if self.backend.is_served(client):
            return True
        kept = ". The request is saved; start" if saved else ": start"
        note(
            f"No worker is running for {self.backend.place}{kept} one with "
            "`mini-workflow worker MODULE`."
        )
        return False


pass_session: Final = click.make_pass_decorator(Session)


def command(
    name: str, *examples: str, group: click.Group | None = None
) -> Callable[[Callable[..., Any]], Command]:
    """Make a command of a function, in a group if one is given.

    Its help is the docstring of the function, followed by the examples.
    """

    def make(function: Callable[..., Any]) -> Command:
        made = click.command(name, cls=Command, examples=examples)(function)
        if group is not None:
            group.add_command(made)
        return made

    return make


class Seconds(click.FloatRange):
    """A finite number of seconds."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds; refuse everything that is not a finite number in the range."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return number


def complete_id(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return those of the newest 200 ids that begin with a text; none where the store cannot be read."""
    options = ctx.find_root().params
    try:
        config = find_config(
            Path.cwd(),
            backend=options.get("backend") or os.environ.get("MINI_WORKFLOW_BACKEND"),
            stack=options.get("stack"),
            bucket=options.get("bucket"),
            codec=options.get("codec") or os.environ.get("MINI_WORKFLOW_CODEC"),
        )
        with open_backend(config).reader() as client:
            found = client.list_executions(limit=200)
    except Exception:
        return []
    return [
        CompletionItem(one.id, help=one.status) for one in found if one.id.startswith(incomplete)
    ]


class Moment(click.ParamType[datetime]):
    """A date with or without a time, in UTC unless it has a zone, or an age: 90s, 15m, 2h, 7d.

    With `to_come` ages are refused.
    """

    name = "moment"

    def __init__(self, *, to_come: bool = False) -> None:
        self._to_come = to_come

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the moment, with its time zone."""
        if isinstance(value, datetime):
            return value
        try:
            age = _AGE.fullmatch(value)
            if age is not None and self._to_come:
                self.fail(f"{value!r} is a time that has passed: give --delay SECONDS.", param, ctx)
            if age is not None:
                return datetime.now(UTC) - int(age[1]) * _UNITS[age[2]]
            when = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no time: give 2026-05-04, or 2026-05-04T12:00+02:00"
                f"{'' if self._to_come else ', or an age (90s, 15m, 2h, 7d)'}.",
                param,
                ctx,
            )
        return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


class Tag(click.ParamType["tuple[str, str]"]):
    """NAME=VALUE."""

    name = "tag"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return the name and the value."""
        if isinstance(value, tuple):
            return cast("tuple[str, str]", value)
        name, equals, rest = value.partition("=")
        if not equals:
            self.fail(f"{value!r} is no tag: give NAME=VALUE, as in customer=c-7.", param, ctx)
        return name, rest


_AGE: Final = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def timeout_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare the option --timeout, in seconds, with a help text."""
    return click.option(
        "--timeout",
        type=Seconds(0, min_open=True),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help=text,
    )


json_option: Final = click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")
trust_option: Final = click.option(
    "--trust",
    is_flag=True,
    help="Load stored values as Python objects, which may run code from the store.",
)
modules_option: Final = click.option(
    *("-m", "--module", "modules"),
    multiple=True,
    metavar="MODULE",
    help="Import this module first; may be repeated.",
)
id_argument: Final = click.argument("execution_id", metavar="ID", shell_complete=complete_id)
arguments_argument: Final = click.argument("arguments", nargs=-1, metavar="[ARGUMENT]...")
workflow_option: Final = click.option(
    "--workflow", metavar="NAME", help="Only executions of this workflow."
)
tag_option: Final = click.option(
    "--tag",
    "tags",
    type=Tag(),
    multiple=True,
    metavar="NAME=VALUE",
    help="Only executions that have this tag; repeated, those that have all of them.",
)
status_option: Final = click.option(
    "--status", type=click.Choice(STATUSES), help="Only executions with this status."
)

_FILTERS: Final = (
    workflow_option,
    status_option,
    tag_option,
    click.option(
        "--started-after",
        type=Moment(),
        metavar="WHEN",
        help="Started then or later: 2026-05-04, 2026-05-04T12:00Z, or an age such as 2h or 7d.",
    ),
    click.option(
        "--started-before",
        "--older-than",
        type=Moment(),
        metavar="WHEN",
        help="Started before then.",
    ),
    click.option("--closed-after", type=Moment(), metavar="WHEN", help="Closed then or later."),
    click.option("--closed-before", type=Moment(), metavar="WHEN", help="Closed before then."),
    click.option("--parent", metavar="ID", help="Only children of this execution."),
    click.option("--id-prefix", metavar="TEXT", help="Only executions whose ids begin with it."),
)


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that filter executions.

    It gets them as keyword arguments, named as those of `Client.list_executions`.
    """

    @wraps(function)
    def with_tags(*args: Any, tags: tuple[tuple[str, str], ...], **options: Any) -> Any:
        return function(*args, tags=dict(tags) or None, **options)

    decorated: Callable[..., Any] = with_tags
    for option in reversed(_FILTERS):
        decorated = option(decorated)
    return decorated

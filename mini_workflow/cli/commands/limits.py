"""The command `limits`: show limits, and change them."""

from __future__ import annotations

from typing import Any, Final

import click

from mini_workflow.cli.failures import NotDone
from mini_workflow.cli.output import say, say_json, say_table
from mini_workflow.cli.session import (
    Seconds,
    Session,
    command,
    json_option,
    pass_session,
    timeout_option,
)
from mini_workflow.engine.limits import LimitDescription
from mini_workflow.errors import UsageError

COLUMNS: Final = ("name", "allows", "held", "waiting")


class _Count(click.ParamType[Any]):
    """A number, or the word "none"."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or the word."""
        return value if value == "none" else click.INT.convert(value, param, ctx)


class _Rate(click.ParamType[Any]):
    """A number within a number of seconds, as 100/60, or the word "none"."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the pair, or the word."""
        if value == "none" or isinstance(value, tuple):
            return value  # pyright: ignore[reportUnknownVariableType]
        count, slash, span = str(value).partition("/")
        if not slash or not count.isdecimal():
            self.fail(f"{value!r} is no rate: give COUNT/SECONDS, as in 100/60.", param, ctx)
        number = int(count)
        return number, Seconds(0).convert(span, param, ctx)


@command(
    "limits",
    "mini-workflow limits",
    "mini-workflow limits openai --json",
    "mini-workflow limits openai --concurrency 20 --rate 100/60",
)
@click.argument("limit_name", metavar="[NAME]", required=False)
@click.option(
    "--concurrency",
    type=_Count(),
    metavar="COUNT|none",
    help="Let so many slots be held at a time.",
)
@click.option(
    "--rate",
    type=_Rate(),
    metavar="COUNT/SECONDS|none",
    help="Grant so many slots within so many seconds.",
)
@click.option(
    "--per-key/--shared",
    default=None,
    help="Let each key have these numbers for itself, or all keys share them.",
)
@timeout_option("Wait so long for a worker to take a change; it stays sent after that.")
@json_option
@pass_session
def limits(
    session: Session, limit_name: str | None, timeout: float, as_json: bool, **options: Any
) -> None:
    """List the limits, or show one with its holders, and the number of waiting operations per key.

    --concurrency, --rate, --per-key and --shared change the limit first. The change holds at once, also
    for waiting operations, until the code declares other numbers than before.
    """
    changes = {
        name: None if value == "none" else value
        for name, value in options.items()
        if value is not None
    }
    if limit_name is None:
        if changes:
            raise UsageError("only one limit can be changed at a time: give its NAME")
        with session.backend.reader() as client:
            found = [one.describe() for one in client.limits.list()]
        if as_json:
            say_json([_plain(about) for about in found])
            return
        say_table(COLUMNS, [_row(about) for about in found])
        return
    if changes:
        with session.backend.client() as client:
            limit = client.limits.get(limit_name, timeout=timeout)
            session.remark_unserved(client, saved=True)
            try:
                limit.update(**changes)
            except TimeoutError:
                raise NotDone(
                    f"the change of limit {limit_name!r} is not done after {timeout:g} s, and stays "
                    f"sent; `mini-workflow limits {limit_name}` shows when it is done"
                ) from None
            about = limit.describe()
    else:
        with session.backend.reader() as client:
            about = client.limits.get(limit_name).describe()
    if as_json:
        say_json(_plain(about))
    else:
        _show(about)


def _row(about: LimitDescription) -> tuple[str, ...]:
    return about.name, about.allows, str(about.held), str(about.waiting)


def _show(about: LimitDescription) -> None:
    for name, text in zip(COLUMNS, _row(about), strict=True):
        say(f"{name:<10} {text}")
    for one in about.keys:
        say(f"{'key':<10} {one.key or '-'}  held {one.held}, waiting {one.waiting}")
    for one in about.holders:
        say(f"{'holder':<10} {one.execution_id}  {one.held}{f' for {one.key}' if one.key else ''}")


def _plain(about: LimitDescription) -> dict[str, Any]:
    """Return a description as plain JSON; the time of a rate is in seconds."""
    rate = about.rate
    return {
        "name": about.name,
        "concurrency": about.concurrency,
        "rate": None if rate is None else [rate[0], rate[1].total_seconds()],
        "per_key": about.per_key,
        "held": about.held,
        "waiting": about.waiting,
        "keys": [{"key": o.key, "held": o.held, "waiting": o.waiting} for o in about.keys],
        "holders": [
            {"execution": o.execution_id, "key": o.key, "held": o.held} for o in about.holders
        ],
    }


COMMANDS: Final[tuple[click.Command, ...]] = (limits,)

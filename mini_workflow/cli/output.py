"""Print all output by rich: colours and tables on a terminal, lines of text elsewhere, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TextIO, cast

import click
from rich import box
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style
from rich.table import Table
from rich.text import Text

from mini_workflow.codecs.standard import StandardCodec
from mini_workflow.engine.description import Description
from mini_workflow.printable import printable

Part = str | tuple[str, str]
"""A text, or a text and its style, such as ``("failed", "red")``."""

_STYLES: Final = {
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "terminated": "yellow",
    "blocked": "magenta",
}


@lru_cache(maxsize=2)
def _console_on(stream: TextIO) -> Console:
    return Console(file=stream, highlight=False, markup=False, emoji=False)


def console(*, err: bool = False) -> Console:
    """Return the console that writes to the standard output, or to the standard error stream."""
    return _console_on(sys.stderr if err else sys.stdout)


@contextmanager
def progress_bar(what: str) -> Generator[Callable[[int, int], None]]:
    """Show a bar on the standard error stream, where that is a terminal.

    Inside the block, call the function with how much is done, and of how much.
    """
    from rich.progress import Progress

    where = console(err=True)
    with Progress(console=where, transient=True, disable=not where.is_terminal) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class Command(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line, and keep the context of an error: see `failed_context`."""
        with _kept_on_error(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and keep the context of an error: see `failed_context`."""
        with _kept_on_error(ctx):
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each on a line of its own."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Group(Command, click.Group):
    """A group of commands whose help ends with examples."""


_FAILED: Final = "mini_workflow.failed"


@contextmanager
def _kept_on_error(ctx: click.Context) -> Generator[None]:
    try:
        yield
    except Exception:
        ctx.meta.setdefault(_FAILED, ctx)  # the innermost is the first to get here
        raise


def failed_context() -> click.Context | None:
    """Return the context of the command that has failed, or of the one that runs."""
    ctx = click.get_current_context(silent=True)
    return None if ctx is None else ctx.meta.get(_FAILED, ctx)


def discard() -> None:
    """Drop the output that an interrupt has left unprinted."""
    _console_on.cache_clear()


def is_terminal() -> bool:
    """Return whether the output goes to a terminal."""
    return sys.stdout.isatty()


def say(*parts: Part, err: bool = False) -> None:
    """Print one line of the answer, made of parts, without control characters. It stays one line whatever is
    in it, so that no stored text forges another.

    `err` prints it to the standard error stream.
    """
    styled_parts = ((part, "") if isinstance(part, str) else part for part in parts)
    _write([(printable(text), style) for text, style in styled_parts], err)


def say_text(text: str, *, err: bool = False) -> None:
    """Print a text of any number of lines, such as a result, without control characters. See `say`."""
    _write([(printable(text, line=False), "")], err)


def _write(parts: Sequence[tuple[str, str]], err: bool = False) -> None:
    # Segments, since rich expands the tabs of a Text and cuts it at the width.
    made = [Segment(text, Style.parse(style)) for text, style in parts]
    console(err=err).print(Segments([*made, Segment.line()]), crop=False, soft_wrap=True)


def say_line_of_json(text: str) -> None:
    """Print a line of the answer that is JSON already."""
    _write([(printable(text, line=False, json=True), "")])


def note(text: str) -> None:
    """Print a line about the answer to the standard error stream; nothing for an empty text."""
    if text:
        say(("note", "yellow"), f": {text}", err=True)


def say_json(value: Any) -> None:
    """Print the answer as one JSON text: indented for people, on one line for programs."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    say_line_of_json(
        json.dumps(value, indent=2 if is_terminal() else None, ensure_ascii=not unicode)
    )


def styled(status: str) -> Part:
    """Return a status in its colour."""
    return status, _STYLES.get(status, "")


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal; elsewhere its rows alone, with tabs between the columns."""
    if not is_terminal():
        for row in rows:
            say_text("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in row))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="")
    for column in columns:
        table.add_column(column, overflow="fold" if column == "id" else "ellipsis", no_wrap=False)
    for row in rows:
        table.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
    console().print(table)


def to_json(value: Any, path: str = "result") -> Any:
    """Return a value as the library writes it: plain JSON as it is, other values with their types."""
    return StandardCodec().encode(value, path).tree


def shown(value: Any) -> str:
    """Return a value for people: a text as it is, plain JSON as JSON, others as their `repr`."""
    if isinstance(value, str):
        return value
    try:
        text = json.dumps(value, ensure_ascii=False, indent=2 if is_terminal() else None)
        same = not isinstance(value, tuple) and json.loads(text) == value
    except (TypeError, ValueError):
        same, text = False, ""
    return text if same else repr(cast(object, value))


def shortened(value: Any, width: int) -> str:
    """Return a value on one line of at most `width` characters; 0 for no limit."""
    return cut(repr(value), width)


def cut(text: str, width: int) -> str:
    """Return a text on one line of at most `width` characters; 0 for no limit."""
    text = " ".join(text.split())
    return text if not width or len(text) <= width else f"{text[: width - 1]}…"


def at_second(time: datetime | None) -> str:
    """Return a time to the second with its zone, UTC, or nothing."""
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}Z"


def duration_text(description: Description) -> timedelta:
    """Return how long an execution took, or has been running until now."""
    return (description.closed_at or datetime.now(UTC)) - description.started_at


def description_json(description: Description) -> dict[str, Any]:
    """Return a description as plain JSON; times are ISO 8601 in UTC."""

    def iso(time: datetime | None) -> str | None:
        return None if time is None else time.isoformat()

    return {
        "id": description.id,
        "workflow": description.workflow,
        "status": description.status,
        "started_at": iso(description.started_at),
        "closed_at": iso(description.closed_at),
        "next_wake_at": iso(description.next_wake_at),
        "run": description.run,
        "busy": description.busy,
        "blocked_kind": description.blocked_kind,
        "blocked_reason": description.blocked_reason,
        "parent": description.parent,
        "forked_from": description.forked_from,
        "failure": None if description.failure is None else asdict(description.failure),
        "mismatch": None if description.mismatch is None else asdict(description.mismatch),
        "tags": description.tags,
        "waits": [_plain_fields(one) for one in description.waits],
        "progress": [_plain_fields(one) for one in description.progress],
    }


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return to_json(value, name) if name == "details" else value


def _plain_fields(fields: Any) -> dict[str, Any]:
    """Return the fields of a wait or of progress as plain JSON."""
    return {
        one.name: _plain(one.name, getattr(fields, one.name)) for one in dataclass_fields(fields)
    }

"""The command `backup`: a copy of the file, while it is in use."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from mini_workflow.cli.backends import PostgresTarget, SQLiteTarget
from mini_workflow.cli.output import console, say, say_json
from mini_workflow.cli.session import Session, command, json_option, pass_session
from mini_workflow.errors import UsageError


@command(
    "backup",
    "mini-workflow backup backups/monday.db",
    "mini-workflow --backend sqlite:orders.db backup /mnt/copies/orders.db --force",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
@pass_session
def backup(session: Session, file: Path, force: bool, as_json: bool) -> None:
    """Copy the store to FILE, also while it is in use, and check the copy.

    On SQLite only: on Postgres use pg_dump, or the backups of whoever runs the server; on AWS switch on
    the versions of the bucket.
    """
    if isinstance(session.backend, PostgresTarget):
        raise UsageError(
            "backup copies an SQLite file, and the executions are in Postgres; use pg_dump, or the "
            "backups of whoever runs the server"
        )
    if not isinstance(session.backend, SQLiteTarget):
        raise UsageError(
            "backup copies an SQLite file, and the executions are on AWS; switch on the versions of "
            "the bucket instead"
        )
    from mini_workflow.stores.sqlite.backup import back_up

    with _progress() as show:
        size = back_up(session.backend.path, file, force=force, progress=show)
    if as_json:
        say_json({"file": str(file), "bytes": size, "checked": True})
    else:
        say(f"{file}: {size} bytes, copied and checked")


@contextmanager
def _progress() -> Generator[Callable[[int, int], None]]:
    """Return a bar on the standard error stream, where that is a terminal."""
    from rich.progress import Progress

    where = console(err=True)
    with Progress(console=where, transient=True, disable=not where.is_terminal) as bar:
        task = bar.add_task("copying")
        yield lambda done, total: bar.update(task, completed=done, total=total)


COMMANDS: Final = (backup,)

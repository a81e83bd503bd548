"""The command `backup`: a copy of the file, while it is in use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from mini_workflow.cli.app import Session, json_option, pass_session
from mini_workflow.cli.backends import SQLiteTarget
from mini_workflow.cli.output import say, say_json
from mini_workflow.errors import UsageError


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
@pass_session
def backup(session: Session, file: Path, force: bool, as_json: bool) -> None:
    """Copy the store to FILE, also while it is in use, and check the copy.

    On SQLite only: on AWS switch on the versions of the bucket.
    """
    if not isinstance(session.backend, SQLiteTarget):
        raise UsageError(
            "backup copies an SQLite file, and the executions are on AWS; switch on the versions of "
            "the bucket instead"
        )
    from mini_workflow.stores.sqlite.backup import back_up

    size = back_up(session.backend.path, file, force=force, progress=_show)
    if as_json:
        say_json({"file": str(file), "bytes": size, "checked": True})
    else:
        say(f"{file}: {size} bytes, copied and checked")


def _show(done: int, total: int) -> None:
    if sys.stderr.isatty() and total:
        click.echo(f"\r{100 * done // total:3} %", nl=done == total, err=True)


COMMANDS: Final = (backup,)

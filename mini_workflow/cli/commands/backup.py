"""The commands `backup` and `vacuum`: copy the file of a store, and write it anew."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from mini_workflow.cli.backends import PostgresTarget, SQLiteTarget
from mini_workflow.cli.output import progress_bar, say, say_json
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

    On SQLite only. On Postgres use pg_dump or the backups of the server; on AWS switch on the versions
    of the bucket.
    """
    if isinstance(session.backend, PostgresTarget):
        raise UsageError(
            "backup copies an SQLite file, and the executions are in Postgres: use pg_dump, or the "
            "backups of the server"
        )
    if not isinstance(session.backend, SQLiteTarget):
        raise UsageError(
            "backup copies an SQLite file, and the executions are on AWS: switch on the versions of "
            "the bucket"
        )
    from mini_workflow.stores.sqlite.backup import back_up

    with progress_bar("copying") as show:
        size = back_up(session.backend.path, file, force=force, progress=show)
    if as_json:
        say_json({"file": str(file), "bytes": size, "checked": True})
    else:
        say(f"{file}: {size} bytes, copied and checked")


@command(
    "vacuum", "mini-workflow vacuum", "mini-workflow --backend sqlite:orders.db vacuum --force"
)
@click.option("--force", is_flag=True, help="Also while other processes use the file: they wait.")
@json_option
@pass_session
def vacuum(session: Session, force: bool, as_json: bool) -> None:
    """Write the file anew, without the space that deletions have left in it.

    From then on the file gives space back by itself, like files made by this version. It needs as much
    free space as the file has, and nobody can write to the file meanwhile. On SQLite only.
    """
    if isinstance(session.backend, PostgresTarget):
        raise UsageError(
            "vacuum is for an SQLite file, and the executions are in Postgres, whose autovacuum does "
            "this by itself"
        )
    if not isinstance(session.backend, SQLiteTarget):
        raise UsageError(
            "vacuum is for an SQLite file, and the executions are on AWS, where no space is left over"
        )
    with session.backend.client() as client:
        if client.is_served() and not force:
            raise UsageError(
                f"{session.backend.path} is in use, and nobody could write to it meanwhile: stop the "
                "workers, or add --force; nothing was changed"
            )
        before, after = client.vacuum()
    if as_json:
        say_json({"file": str(session.backend.path), "bytes": after, "before": before})
    else:
        say(f"{session.backend.path}: {after} bytes, {before} before")


COMMANDS: Final = (backup, vacuum)

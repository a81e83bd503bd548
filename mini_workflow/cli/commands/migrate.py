"""The command `migrate`: make the tables of a database, or upgrade them to this release."""

from __future__ import annotations

from typing import Final

import click

from mini_workflow.cli.backends import PostgresTarget
from mini_workflow.cli.output import say, say_json
from mini_workflow.cli.session import Session, command, json_option, pass_session
from mini_workflow.errors import UsageError


@command(
    "migrate",
    "mini-workflow --backend postgresql://user@host/orders migrate",
    "mini-workflow --backend postgresql://user@host/orders migrate --sql > tables.sql",
)
@click.option("--sql", is_flag=True, help="Print the statements, and change nothing.")
@json_option
@pass_session
def migrate(session: Session, sql: bool, as_json: bool) -> None:
    """Make the tables of a Postgres database, or upgrade them.

    Programs of the release before keep running meanwhile, and after. A runtime does the same when it is
    opened, unless it has migrate=False.
    """
    if not isinstance(session.backend, PostgresTarget):
        raise UsageError(
            "migrate is for Postgres: give --backend postgresql://USER@HOST/DATABASE; an SQLite file is "
            "upgraded when it is opened"
        )
    from mini_workflow.stores.postgres.connection import Address, Connection
    from mini_workflow.stores.postgres.schema import MIGRATIONS, script, upgrade, version

    address = Address(session.backend.url, session.backend.schema)
    connection = Connection(address)
    try:
        if sql:
            found = version(connection, address)[0]
            click.echo(script(address, found), nl=False)
            return
        done = upgrade(connection, address)
    finally:
        connection.close()
    if as_json:
        say_json({"version": len(MIGRATIONS), "done": done})
    elif done:
        say(f"{address.place}: version {len(MIGRATIONS)}, upgrades done: {len(done)}")
    else:
        say(f"{address.place}: nothing to do")


COMMANDS: Final = (migrate,)

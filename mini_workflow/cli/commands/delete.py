"""The command `delete`: remove executions that have closed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import click

from mini_workflow.cli.commands.run import prepare_logging
from mini_workflow.cli.output import note, progress_bar, say, say_json
from mini_workflow.cli.selection import Selection, agreed, selecting
from mini_workflow.cli.session import Session, command, json_option, pass_session
from mini_workflow.engine.bulk import taken_in
from mini_workflow.engine.client import Client


@command(
    "delete",
    "mini-workflow delete order-17",
    "mini-workflow delete --status completed --closed-before 90d --yes",
)
@selecting
@click.option("--reason", default="", help="The reason, logged.")
@click.option("--by", default="", help="The name of the person who asks, logged.")
@json_option
@pass_session
def delete(session: Session, selection: Selection, reason: str, by: str, as_json: bool) -> None:
    """Delete an execution that has closed, or all that match: history, tags and messages.

    To keep their histories, `export` them first. Their children stay.
    """
    if reason or by:
        prepare_logging()
    with session.backend.client() as client:
        name = selection.execution_id
        if name is None:
            _delete_all(client, selection, reason, by, as_json)
            return
        client.delete_execution(name, reason, by=by)
    if as_json:
        say_json({"id": name, "deleted": True})
    else:
        say(f"{name}: deleted")


def _delete_all(client: Client, selection: Selection, reason: str, by: str, as_json: bool) -> None:
    taken_in("delete", selection.filters["status"])
    # Executions that close after the count are not deleted.
    until = {"closed_before": selection.filters["closed_before"] or datetime.now(UTC)}
    query: dict[str, Any] = {**selection.filters, **until}
    matched = client.count_executions(**query)
    if not selection.yes and matched and not agreed("delete", matched):
        note("nothing was changed")
        return
    with progress_bar("deleting") as show:
        deleted = client.purge(
            **query, reason=reason, by=by, progress=lambda done: show(done, matched)
        )
    if as_json:
        say_json({"matched": matched, "deleted": deleted})
    else:
        note(f"delete: {deleted} deleted")


COMMANDS: Final = (delete,)

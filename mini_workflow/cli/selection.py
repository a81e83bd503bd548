"""Select the executions of a command: one by its id, or all that match filters."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Final

import click

from mini_workflow.cli.failures import FAILED, in_one_line
from mini_workflow.cli.output import note, say, say_json
from mini_workflow.cli.session import Session, complete_id, filter_options
from mini_workflow.cli.taken import wait_until_taken
from mini_workflow.core.records import frozen
from mini_workflow.engine.bulk import Matching, do_each
from mini_workflow.engine.client import Client
from mini_workflow.engine.execution import Execution
from mini_workflow.errors import UsageError


@frozen
class Selection:
    """The part of a command line that selects executions."""

    execution_id: str | None
    filters: dict[str, Any]
    everything: bool
    yes: bool

    def check(self) -> None:
        """Raise UsageError unless there is exactly one of an id, filters, and --all."""
        found = sorted(name for name, value in self.filters.items() if value is not None)
        if self.execution_id is None and not found and not self.everything:
            raise UsageError(
                "which executions? Give an id, or filters such as --status, --workflow and --tag, or "
                "--all; nothing was changed"
            )
        if self.execution_id is not None and (found or self.everything):
            other = f"--{found[0].replace('_', '-')}" if found else "--all"
            raise UsageError(
                f"give an id, or filters: not both an id and {other}; nothing was changed"
            )
        if found and self.everything:
            raise UsageError("give filters, or --all: not both; nothing was changed")


@frozen
class Action:
    """The action of a command on each execution, by its name in `TAKEN_IN`."""

    verb: str
    do: Callable[[Execution[Any]], None]


def selecting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that select executions, and pass them to it as a Selection."""

    @wraps(function)
    def with_selection(
        *args: Any,
        execution_id: str | None,
        everything: bool,
        yes: bool,
        **options: Any,
    ) -> Any:
        filters = {name: options.pop(name) for name in _NAMES}
        chosen = Selection(execution_id, filters, everything, yes)
        chosen.check()
        return function(*args, selection=chosen, **options)

    decorated: Callable[..., Any] = with_selection
    for decorate in (
        click.option("--yes", is_flag=True, help="Do not ask for confirmation."),
        click.option(
            "--all", "everything", is_flag=True, help="All executions whose status allows it."
        ),
        filter_options,
        click.argument("execution_id", metavar="[ID]", required=False, shell_complete=complete_id),
    ):
        decorated = decorate(decorated)
    return decorated


_NAMES: Final = (
    *("workflow", "status", "tags", "parent", "id_prefix"),
    *("started_after", "started_before", "closed_after", "closed_before"),
)


def act(session: Session, client: Client, chosen: Selection, action: Action, as_json: bool) -> None:
    """Do an action to all executions that match, once the user has agreed to their number.

    After an error the others are still done; the exit status is 1 then.
    """
    matching = Matching.of(client, action.verb, chosen.filters, datetime.now(UTC))
    matched = matching.count()
    if not chosen.yes and matched and not agreed(action.verb, matched):
        note("nothing was changed")
        return
    done, failed = list[str](), list[dict[str, str]]()
    for name, error in do_each(client, matching.names(), action.do):
        if error is not None:
            said = in_one_line(error, execution_id=name)
            failed.append({"id": name, "error": said})
            if not as_json:
                note(f"{name}: {said}")
        else:
            done.append(name)
            if not as_json:
                say(f"{name}: asked to {action.verb}")
    served = remark_request(session, client, action.verb, done) if done else True
    if as_json:
        say_json({"matched": matched, "sent": len(done), "failed": failed, "served": served})
    else:
        note(f"{action.verb}: {len(done)} asked, {len(failed)} refused")
    if failed:
        click.get_current_context().exit(FAILED)


def remark_request(
    session: Session, client: Client, verb: str, execution_ids: Sequence[str]
) -> bool:
    """Return whether a worker is running, once it has taken the requests; print a note if none is, or if it
    has not taken them in time.
    """
    if not session.remark_unserved(client, saved=True):
        return False
    if (late := wait_until_taken(client, verb, execution_ids)) is not None:
        note(f"{late}: the request is saved, and no worker has taken it yet")
    return True


def agreed(verb: str, matched: int) -> bool:
    """Ask whether that many executions are meant. Raises UsageError where there is no terminal."""
    what = f"{matched} execution{'s' if matched > 1 else ''}"
    if not sys.stdin.isatty():
        raise UsageError(
            f"this would {verb} {what}, and there is no terminal to ask at: add --yes to go on; "
            "nothing was changed"
        )
    return click.confirm(f"{verb} {what}?", err=True)

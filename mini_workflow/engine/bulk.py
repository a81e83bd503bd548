"""Do an action to all executions that match filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from mini_workflow.core.records import frozen
from mini_workflow.engine.client import Client
from mini_workflow.engine.execution import Execution
from mini_workflow.errors import MiniWorkflowError, UsageError
from mini_workflow.ports import CLOSED, STATUSES, Status

OPEN: Final = STATUSES[:2]
"""The statuses of executions that have not closed."""

TAKEN_IN: Final[Mapping[str, tuple[Status, ...]]] = {
    "cancel": OPEN,
    "terminate": OPEN,
    "pause": ("running",),
    "resume": ("blocked",),
    "retry": ("failed", "cancelled", "terminated"),
    "restart": CLOSED,
    "delete": CLOSED,
}
"""The statuses of the executions for which each action makes sense."""


def taken_in(action: str, only: Status | None) -> tuple[Status, ...]:
    """Return the statuses of the executions that an action is for, or just the status `only`. Raises
    UsageError if that is not one of them.
    """
    statuses = TAKEN_IN[action]
    if only is None:
        return statuses
    if only not in statuses:
        raise UsageError(
            f"{action} is for executions that are {' or '.join(statuses)}, not {only}; "
            "nothing was changed"
        )
    return (only,)


@frozen
class Matching:
    """All executions that an action is for and that match filters, the arguments of `list_executions`.
    Executions that start, or close, after the time `until` are left out.
    """

    client: Client
    statuses: tuple[Status, ...]
    filters: dict[str, Any]
    until: datetime

    @classmethod
    def of(
        cls, client: Client, action: str, filters: Mapping[str, Any], until: datetime
    ) -> Matching:
        """Return the executions of an action. Raises UsageError if it is not for the status of the
        filters.
        """
        before = filters.get("started_before") or until
        kept: dict[str, Any] = {**filters, "started_before": before}
        return cls(client, taken_in(action, kept.pop("status", None)), kept, until)

    def count(self) -> int:
        """Return the number of the executions."""
        return sum(
            self.client.count_executions(status=status, **self.filters) for status in self.statuses
        )

    def names(self) -> list[str]:
        """Return the ids of the executions, each once."""
        found = (
            one
            for status in self.statuses
            for one in self.client.list_executions(status=status, **self.filters)
        )
        return list(
            dict.fromkeys(
                one.id for one in found if one.closed_at is None or one.closed_at <= self.until
            )
        )


def do_each(
    client: Client, names: Iterable[str], do: Callable[[Execution[Any]], object]
) -> Iterator[tuple[str, MiniWorkflowError | None]]:
    """Do an action to executions, one after the other. Yields the id of each, and the error if it was
    refused, which does not stop the others.
    """
    for name in names:
        try:
            do(client.get_execution(name))
        except MiniWorkflowError as error:
            yield name, error
        else:
            yield name, None

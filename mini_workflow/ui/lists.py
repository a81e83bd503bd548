"""Choose the executions that a page shows, by its address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from urllib.parse import urlencode

from mini_workflow.core.records import defaults_of, frozen, replace
from mini_workflow.engine.client import Client
from mini_workflow.engine.description import Description
from mini_workflow.engine.picture import words
from mini_workflow.errors import ExecutionPaused, UsageError
from mini_workflow.ports import STATUSES, Status
from mini_workflow.ui.actions import ACTIONS, possible

PAGE: Final = 50
"""Executions on a page."""

SINCE: Final = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
}
"""The times that a list can be limited to, by the start of executions."""


@frozen
class Filter:
    """The filter of a list: of its address, and as arguments of the client."""

    status: str = ""
    workflow: str = ""
    tag: str = ""
    since: str = ""
    parent: str = ""
    prefix: str = ""

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Filter:
        """Return the filter of an address. Raises UsageError."""
        given = {name: asked.get(name, "").strip() for name in defaults_of(Filter)}
        if given["status"] and given["status"] not in STATUSES:
            raise UsageError(f"status={given['status']!r}: choose one of {', '.join(STATUSES)}")
        if given["since"] and given["since"] not in SINCE:
            raise UsageError(f"since={given['since']!r}: choose one of {', '.join(SINCE)}")
        if given["tag"] and "=" not in given["tag"]:
            raise UsageError(f"tag={given['tag']!r}: give NAME=VALUE")
        return cls(**given)

    def asked(self, now: datetime, **other: str) -> dict[str, Any]:
        """Return the arguments of `Client.list_executions`."""
        name, _, value = self.tag.partition("=")
        found: dict[str, Any] = {
            "status": cast("Status", other.get("status", self.status)) or None,
            "workflow": self.workflow or None,
            "tags": {name: value} if self.tag else None,
            "parent": self.parent or None,
            "id_prefix": self.prefix or None,
        }
        if self.since:
            found["started_after"] = now - SINCE[self.since]
        return found

    def address(self, **changes: str) -> str:
        """Return the query of an address with some parts changed; an empty part is left out."""
        return urlencode(replace(self, **changes).parts_of_form())

    def parts_of_form(self) -> list[tuple[str, str]]:
        """Return the fields of a form with the same filter; an empty part is left out."""
        parts = [(name, getattr(self, name)) for name in defaults_of(Filter)]
        return [(name, value) for name, value in parts if value]

    @property
    def is_empty(self) -> bool:
        """Return whether the filter is empty."""
        return not self.address()

    def parts(self) -> list[tuple[str, Filter]]:
        """Return each part in words, with the filter without it."""
        return [
            (f"{name} {getattr(self, name)}", replace(self, **{name: ""}))
            for name in defaults_of(Filter)
            if getattr(self, name)
        ]


@frozen
class Line:
    """An execution in a list."""

    description: Description
    word: str
    icon: str
    now: str
    started: str
    took: str
    can: str


def lines_of(client: Client, wanted: Filter, after: str, now: datetime) -> tuple[list[Line], str]:
    """Return a page of executions, newest first, and the cursor of the next one, if there is one."""
    page, following = client.list_page(size=PAGE, after=after or None, **wanted.asked(now))
    return [line_of(one, now) for one in page], following or ""


def line_of(one: Description, now: datetime) -> Line:
    """Return the line of an execution."""
    word, icon = shape_of(one)
    lasted = (one.closed_at or now) - one.started_at
    bulk = [name for name in possible(one) if ACTIONS[name].bulk]
    return Line(
        one,
        word,
        icon,
        one.sentence(now),
        words.ago(one.started_at, now),
        words.span(lasted / timedelta(milliseconds=1)),
        " ".join(bulk),
    )


def with_names(sentence: str, one: Description) -> list[tuple[str, bool]]:
    """Return the parts of an execution's sentence, and of each whether it is the name of what it waits for,
    to be told from the words around it.
    """
    names = sorted({wait.name for wait in one.waits if wait.name}, key=len, reverse=True)
    if not names or one.status != "running":
        return [(sentence, False)]
    found = re.split(rf"(?<!\w)({'|'.join(map(re.escape, names))})(?!\w)", sentence)
    return [(part, number % 2 == 1) for number, part in enumerate(found) if part]


def shape_of(one: Description) -> tuple[str, str]:
    """Return the word and the sign of an execution's status."""
    if one.blocked_kind == ExecutionPaused.__name__:
        return "paused", "paused"
    if one.status == "running" and not one.busy:
        return "running", "waits"
    return one.status, one.status


def counts_of(client: Client, wanted: Filter, now: datetime) -> list[tuple[str, int]]:
    """Return how many executions there are of each status, and in all first (as an empty one)."""
    by_status = [
        (status, client.count_executions(**wanted.asked(now, status=status))) for status in STATUSES
    ]
    return [("", sum(number for _, number in by_status)), *by_status]


def counts_by_part(client: Client, wanted: Filter, now: datetime) -> list[tuple[str, str, int]]:
    """Return each part of a filter in words, with the address without it, and how many executions match the
    rest.
    """
    return [
        (part, rest.address(), client.count_executions(**rest.asked(now)))
        for part, rest in wanted.parts()
    ]


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)

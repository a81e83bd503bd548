"""Show the operations of a group of a timeline, some at a time."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final
from urllib.parse import urlencode

from mini_workflow.core.records import frozen
from mini_workflow.engine.looks import Looks
from mini_workflow.engine.picture.drawing import Row, group_of, rows_of, scale_of
from mini_workflow.engine.picture.operations import State, milliseconds
from mini_workflow.errors import UsageError
from mini_workflow.ui.execution_page import whole, window_of
from mini_workflow.ui.followed import AllFollowed
from mini_workflow.ui.last_heartbeats import last_heartbeats
from mini_workflow.ui.lists import utc_now

MEMBERS: Final = 100
"""Operations on a page."""

ONLY: Final[Mapping[str, tuple[State, ...]]] = {
    "all": ("completed", "failed", "running", "retrying", "waiting", "cancelled"),
    "failed": ("failed",),
    "running": ("running",),
    "waiting": ("retrying", "waiting"),
    "completed": ("completed",),
    "cancelled": ("cancelled",),
}
"""What the members can be limited to, and the states of these."""


@frozen
class MembersPage:
    """Some members of a group: `number` of them match `only`, and the first `after` are on pages before.
    `kept` is the part of the address that all its pages have.
    """

    execution: str
    title: str
    kept: dict[str, str]
    only: str
    after: int
    number: int
    rows: list[Row]
    counts: list[tuple[str, int]]

    @classmethod
    def read(
        cls, known: AllFollowed, name: str, asked: Mapping[str, str], looks: Looks
    ) -> MembersPage:
        """Read the members that an address asks for. Raises ExecutionNotFound or UsageError."""
        only = asked.get("only", "") or "all"
        if only not in ONLY:
            raise UsageError(f"only={only!r}: choose one of {', '.join(ONLY)}")
        first, after = whole("of", asked.get("of", "")), whole("after", asked.get("after", "")) or 0
        child, now = asked.get("child", ""), milliseconds(utc_now())
        true = asked.get("scale") == "true"
        with known.at(name) as outer:
            scale = scale_of(outer.counts, now, true=true)
            window = window_of(asked, outer.counts, now, true=true)
        with known.at(child or name) as one:
            group = group_of(one.counts, now, first or 0, window)
            if group is None:
                raise UsageError(
                    f"of={first}: {child or name} has no group that begins with this operation now"
                )
            found = group.members if only == "all" else group.of(*ONLY[only])
            shown = list(islice(found, after, after + MEMBERS))
            beats = last_heartbeats(
                looks, one.execution.id, one.execution.codec, one.counts, among=shown
            )
            rows = rows_of(shown, scale, one.counts, now, beats)
            counts = [(which, group.count(*states)) for which, states in ONLY.items()]
        for row in rows:
            row.key = f"{child}--{row.key}" if child else row.key
            row.cls = f"{row.cls} l1".strip()
        kept = {key: asked[key] for key in _KEPT if asked.get(key)}
        number = dict(counts)[only]
        return cls(name, group.name or group.kind, kept, only, after, number, rows, counts)

    def address(self, only: str, after: int = 0) -> str:
        """Return the query of another page."""
        return urlencode({**self.kept, "only": only, "after": after})

    @property
    def before(self) -> int:
        """The number of members before the page before."""
        return max(self.after - MEMBERS, 0)

    @property
    def last(self) -> int:
        """The number of the last member on the page, from 1."""
        return self.after + len(self.rows)


_KEPT: Final = ("of", "child", "from", "to", "scale")

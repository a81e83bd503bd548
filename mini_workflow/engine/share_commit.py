"""Commit many requests in several batches: while one is committed, the turns of the next one are made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mini_workflow.core.commands import StartChild
from mini_workflow.core.records import frozen
from mini_workflow.engine.batch import Batch, brings_a_message, look_up
from mini_workflow.engine.group_commit import GroupCommit
from mini_workflow.engine.requests import Input, Start
from mini_workflow.ports import Found, Store, TaskOutcome

SHARE: Final = 200
"""The number of executions in one of several batches: their turns take some 20 ms, and most commits less. Our
own bound."""

_KINDS: Final = frozenset({Start, TaskOutcome})


def may_divide(requests: Sequence[Input]) -> bool:
    """Return whether there are enough requests for several batches."""
    return len(requests) >= 2 * SHARE


def divide(requests: Sequence[Input]) -> list[Sequence[Input]]:
    """Return the requests in shares, each for a batch of its own. Those about one execution are in one share.

    One share has all where they are about few executions, or some are other than plain starts and outcomes.
    """
    if not _KINDS.issuperset(map(type, requests)):
        return [requests]
    about: dict[str, list[Input]] = {}
    for request in requests:
        about.setdefault(request.execution_id, []).append(request)  # type: ignore[union-attr]
    if len(about) < 2 * SHARE or any(map(brings_a_message, requests)):
        return [requests]
    each = list(about.values())
    return [
        [request for some in each[first : first + SHARE] for request in some]
        for first in range(0, len(each), SHARE)
    ]


Make = Callable[[Sequence[Input], int, Mapping[str, Found] | None], Batch]
"""Makes a batch with the turns of requests at a time. If it is told what starts have found, the requests are
a share of many, and nothing else gets a turn."""


@frozen
class CommitInFlight:
    """A commit that has begun: its share of the requests, its batch, and what waits for its end."""

    share: Sequence[Input]
    batch: Batch
    finish: Callable[[], list[bool]]


class ShareCommit:
    """Has batches made and committed, with one commit at a time in flight, on a store that can begin one and
    end it later.

    `make` makes a batch, `settle` goes on with one that is committed, and `discard` forgets one that is not.
    """

    def __init__(
        self,
        group_commit: GroupCommit,
        store: Store,
        make: Make,
        settle: Callable[[Batch, Sequence[bool], int], None],
        discard: Callable[[Batch], None],
    ) -> None:
        self._begin, self._write = group_commit.begin, group_commit.commit
        self._store = store
        self._make, self._settle, self._discard = make, settle, discard

    def process(self, left: list[Input], now: int) -> None:
        """Make the turns of the requests, and commit them. Removes from the list what is done with: after an
        error, what is left was not committed.
        """
        in_flight: CommitInFlight | None = None
        shares = divide(left)
        several = len(shares) > 1
        # One look will do: of what is created after it, the fence of the commit tells.
        found = look_up(left, self._store) if several else None
        try:
            for share in shares:
                batch = self._make(share, now, found)
                before, in_flight = in_flight, None
                try:
                    answers = () if before is None else self._end(before)
                    try:
                        if several and _is_plain(batch):
                            in_flight = CommitInFlight(share, batch, self._begin(batch))
                    finally:
                        if before is not None:
                            self._done(before.share, before.batch, answers, left, now)
                    if in_flight is None:
                        answers = self._write(batch, now)
                except BaseException:
                    if in_flight is None:
                        self._discard(batch)
                    raise
                if in_flight is None:
                    self._done(share, batch, answers, left, now)
            if in_flight is not None:
                before, in_flight = in_flight, None
                self._done(before.share, before.batch, self._end(before), left, now)
        except (Exception, KeyboardInterrupt):
            if in_flight is not None:
                with contextlib.suppress(Exception):  # then its share is left, too
                    answers = self._end(in_flight)
                    self._done(in_flight.share, in_flight.batch, answers, left, now)
            raise

    def _end(self, commit: CommitInFlight) -> list[bool]:
        try:
            return commit.finish()
        except BaseException:
            self._discard(commit.batch)
            raise

    def _done(
        self,
        share: Sequence[Input],
        batch: Batch,
        answers: Sequence[bool],
        left: list[Input],
        now: int,
    ) -> None:
        self._settle(batch, answers, now)
        done = set(map(id, share))
        left[:] = [request for request in left if id(request) not in done]


def _is_plain(batch: Batch) -> bool:
    """Return whether the turns of a batch concern no other execution, and no stream."""
    return bool(batch.turns) and not any(
        turn.commit.outbox or turn.commit.chunks or turn.deletes or StartChild in turn.commands
        for turn in batch.turns.values()
    )

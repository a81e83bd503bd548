"""Find the last heartbeats of attempts that run, for the rows of a timeline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mini_workflow.core.codec import Codec
from mini_workflow.engine.description import Description
from mini_workflow.engine.looks import HEARTBEATS, Looks, details_of
from mini_workflow.engine.picture.counts import Counts
from mini_workflow.engine.picture.drawing import Beat, Beats
from mini_workflow.engine.picture.operations import Operation, milliseconds

WATCHED: Final = 10
"""Attempts whose heartbeats a live page follows; those of others are as of the last change."""


def last_heartbeats(
    looks: Looks,
    name: str,
    codec: Codec,
    counts: Counts,
    known: Description | None = None,
    among: Iterable[Operation] | None = None,
) -> Beats:
    """Return the last heartbeats of attempts that run in an execution: of those that a description tells
    (it is `known`), and of others that are read; `among` some operations, or else of the oldest.
    """
    found = dict[int, Beat]()
    attempts = counts.at_work(HEARTBEATS) if among is None else _at_work(counts, among)
    for wait in () if known is None else known.waits:
        if wait.kind == "task":
            attempts.pop(wait.number, None)
            if wait.heartbeat is not None:
                found[wait.number] = Beat.of(milliseconds(wait.heartbeat), wait.details)
    for seq, beat in looks.heartbeats(name, attempts).items():
        found[seq] = Beat.of(beat.at, details_of(beat, codec))
    return found


def _at_work(counts: Counts, operations: Iterable[Operation]) -> dict[int, int]:
    if counts.course.ended is not None:
        return {}
    return {
        one.seq: one.attempts for one in operations if one.kind == "task" and one.state == "running"
    }

"""Count the progress of maps, and write the progress that workflow code reports."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, Final

from mini_workflow.core.events import TaskCancelled, TaskCompleted, TaskFailed, TaskScheduled
from mini_workflow.core.validation import shown
from mini_workflow.errors import UsageError

LONGEST: Final = 200
"""Characters of the text of a progress. Our own bound: every head keeps the text."""

_dump = json.JSONEncoder(separators=(",", ":")).encode

Progress = tuple[float, "float | None", str]
"""The amount that is done, the total (None if it is not known), and a text."""


class MapCount:
    """The progress of a ``ctx.map`` over so many `items`: the numbers of tasks that were started, have
    succeeded (`done`), have failed, and are open.
    """

    __slots__ = ("concurrency", "done", "failed", "items", "name", "open", "started")

    def __init__(self, name: str, items: int, concurrency: int | None) -> None:
        self.name = name
        self.items = items
        self.concurrency = concurrency
        self.started = self.done = self.failed = self.open = 0

    @classmethod
    def of(cls, plain: dict[str, Any]) -> MapCount:
        """Return the count of a map that begins, from the record with its first task."""
        return cls(str(plain.get("name")), int(plain.get("items") or 0), plain.get("concurrency"))


def count_started(maps: dict[int, MapCount], event: TaskScheduled) -> dict[int, MapCount]:
    """Return the counts with a task added that begins. A new map drops the maps without open tasks."""
    if event.map is not None:
        maps = {seq: count for seq, count in maps.items() if count.open}
        maps[event.seq] = MapCount.of(event.map)
    mapped = maps.get(event.part_of)
    if mapped is not None:
        mapped.started += 1
        mapped.open += 1
    return maps


def count_ended(
    maps: dict[int, MapCount],
    part_of: int,
    event: TaskCompleted | TaskFailed | TaskCancelled,
) -> None:
    """Count a task of a map that has ended or was cancelled. `part_of` is the number of the map."""
    mapped = maps.get(part_of)
    if mapped is not None:
        mapped.open -= 1
        mapped.done += type(event) is TaskCompleted
        mapped.failed += type(event) is TaskFailed


def text_of_progress(done: object, total: object, text: object) -> str:
    """Return the arguments of `ctx.progress` as JSON text. Raises UsageError if they are not allowed."""
    for name, value in (("done", done), ("total", total)):
        if value is None and name == "total":
            continue
        if type(value) not in (int, float) or not isfinite(value) or value < 0:  # type: ignore[arg-type, operator]
            raise UsageError(f"ctx.progress({name}={value!r}): give a number of 0 or more")
    if not isinstance(text, str) or len(text) > LONGEST:
        raise UsageError(
            f"ctx.progress({shown(text)}): give a text of at most {LONGEST} characters"
        )
    return _dump([done, total, text])


def read_progress(stored: str) -> Progress | None:
    """Return the progress in a stored text; None if the text is empty or not readable."""
    try:
        done, total, text = json.loads(stored)
    except (ValueError, TypeError):
        return None
    numbers = type(done) in (int, float) and (total is None or type(total) in (int, float))
    return (done, total, text) if numbers and isinstance(text, str) else None

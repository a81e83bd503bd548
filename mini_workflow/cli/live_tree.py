"""Draw the operations of a running execution as a tree on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from mini_workflow.cli.output import console
from mini_workflow.cli.timelines import growth
from mini_workflow.core import wire
from mini_workflow.core.records import mutable
from mini_workflow.core.state import ExecutionState
from mini_workflow.engine.client import Client
from mini_workflow.engine.execution import Execution
from mini_workflow.engine.picture import words
from mini_workflow.engine.picture.operations import CourseReader, Operation
from mini_workflow.engine.timeline import Entry, Reader
from mini_workflow.printable import printable

LINES: Final = 24
"""Lines of a tree. Our own bound: the lines that completed first are left out."""

BAR: Final = 30
"""Columns of a bar."""

PER_SECOND: Final = 4
"""How many times a second the tree is drawn anew."""

_SIGNS: Final = {
    "completed": ("\N{CHECK MARK}", "green"),
    "failed": ("\N{MULTIPLICATION SIGN}", "red"),
    "cancelled": ("-", "yellow"),
    "retrying": ("\N{CLOCKWISE OPEN CIRCLE ARROW}", "yellow"),
    "waiting": ("\N{HORIZONTAL ELLIPSIS}", "cyan"),
    "running": ("\N{BLACK RIGHT-POINTING SMALL TRIANGLE}", "cyan"),
}


@mutable
class Line:
    """Operations of one kind and name: the latest, and how many were started, are done and have failed."""

    kind: str
    name: str
    latest: Operation
    made: int = 0
    done: int = 0
    failed: int = 0

    @property
    def is_open(self) -> bool:
        """Return whether any of them has not ended."""
        return self.done + self.failed < self.made


class LiveTree:
    """The tree of a run. The cost of an event, and of drawing, does not grow with the history."""

    def __init__(self, title: str, now: Callable[[], float] = time.time) -> None:
        self._title = title
        self._now = now
        self._course = CourseReader()
        self._state = ExecutionState()
        self._lines: dict[tuple[str, str], Line] = {}
        self._ended: set[int] = set()
        self._began: datetime | None = None
        self._message = ""

    def take(self, entry: Entry) -> None:
        """Add the next entry of the timeline."""
        self._began = self._began or entry.at
        self._state.apply(entry.event)
        if entry.kind in ("SignalReceived", "UpdateAccepted"):
            self._message = f"{entry.subject} {entry.happened}"
        one = self._course.read(entry)
        if one is None:
            return
        line = self._lines.get((one.kind, one.name))
        if line is None:
            line = self._lines[one.kind, one.name] = Line(one.kind, one.name, one)
        if one.event == entry.number:
            line.made += 1
        line.latest = one
        if not one.is_open and one.seq not in self._ended:
            self._ended.add(one.seq)
            line.failed += one.state == "failed"
            line.done += one.state != "failed"

    def __rich__(self) -> RenderableType:
        """Return the tree as rich draws it."""
        title = Text(printable(self._title), style="bold")
        if self._began is not None:
            title.append(
                f"  {words.span(self._now() * 1000 - self._began.timestamp() * 1000)}", "dim"
            )
        tree = Tree(title)
        lines = list(self._lines.values())
        surplus = len(lines) - LINES
        omitted = 0
        items = {one.name: one.items for one in self._state.maps.values()}
        for line in lines:
            if omitted < surplus and not line.is_open and not line.failed:
                omitted += 1
            elif line.made > 1 or line.name in items:
                tree.add(_bar(line, items.get(line.name) or line.made))
            else:
                tree.add(_single(line.latest, self._now() * 1000))
        parts: list[RenderableType] = [tree]
        if omitted:
            parts.append(Text(f"{omitted} more have completed", style="dim"))
        if self._message:
            parts.append(Text(printable(self._message), style="dim"))
        return Group(*parts)


def _single(one: Operation, now: float) -> Text:
    sign, style = _SIGNS[one.state]
    took = "" if one.inline else words.span((one.ended or now) - one.started)
    text = Text.assemble((f"{sign} ", style), printable(one.name or one.kind), (f"  {took}", "dim"))
    if one.attempts > 1:
        text.append(f"  attempt {one.attempts}", "yellow")
    if one.error and one.state != "completed":
        text.append(f"  {printable(one.error)}", "red")
    text.truncate(200, overflow="ellipsis")
    return text


def _bar(line: Line, total: int) -> Table:
    ended = line.done + line.failed
    grid = Table.grid(padding=(0, 1))
    said = Text(f"{words.number(ended)} of {words.number(max(total, line.made))}")
    if line.failed:
        said.append(f", {words.number(line.failed)} failed", "red")
    bar = ProgressBar(total=max(total, line.made, 1), completed=ended, width=BAR)
    grid.add_row(Text(printable(line.name or line.kind)), bar, said)
    return grid


def follow_on_terminal(client: Client, execution: Execution[Any], name: str) -> None:
    """Draw an execution on the standard error stream until it has closed or is blocked."""
    tree = LiveTree(f"{execution.id}  {name}")
    reader: Reader = execution.reader()
    at_run = 0
    with Live(tree, console=console(err=True), refresh_per_second=PER_SECOND) as live:
        for run, lines in growth(client, execution.id, while_running=True):
            if run != at_run and at_run:
                tree = LiveTree(f"{execution.id}  {name}, run {run}")
                reader = execution.reader()
                live.update(tree)
            at_run = run
            for line in lines:
                tree.take(reader.read(wire.decode(line)))

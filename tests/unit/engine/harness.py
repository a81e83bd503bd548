"""What the tests of the engine share: states to open, and a shape run from start to end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.engine.requests import Reply
from mini_workflow.ports import Backend
from mini_workflow.stores.memory import MemoryBackend, MemoryState
from mini_workflow.stores.sqlite import SQLiteBackend
from mini_workflow.testing.clock import ManualClock
from mini_workflow.testing.simulation import corpus
from mini_workflow.testing.simulation.crash import SimulatedCrash
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import Shape
from mini_workflow.testing.simulation.stepping import LEASE, OpenBackend, Stepper

ID = "x-1"

MakeState = Callable[[], OpenBackend]
"""Makes a new, empty state, and answers how to open it."""


def in_memory() -> OpenBackend:
    state = MemoryState()

    def open_backend(owner: str, clock: ManualClock) -> Backend:
        return MemoryBackend(state, owner=owner, address=owner, clock=clock, lease=LEASE)

    return open_backend


class Files:
    """SQLite files, copied from an empty one: to make a new one takes much longer."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._empty = directory / "empty.db"
        self._count = 0
        self._open(self._empty, "nobody", ManualClock()).close()

    def __call__(self) -> OpenBackend:
        self._count += 1
        path = self._directory / f"{self._count}.db"
        shutil.copyfile(self._empty, path)
        return lambda owner, clock: self._open(path, owner, clock)

    def _open(self, path: Path, owner: str, clock: ManualClock) -> Backend:
        return SQLiteBackend(
            path, owner=owner, address=owner, clock=clock, lease=LEASE, synchronous="NORMAL"
        )


@contextmanager
def stepping(make: MakeState, shape: Shape | None = None, **options: Any) -> Iterator[Stepper]:
    """A stepper on a new state, opened, and let go of at the end."""
    if shape is not None:
        options.setdefault("slow", shape.slow)
        options.setdefault("dies", shape.dies)
    options.setdefault("registry", corpus.registry())
    stepper = Stepper(make(), **options)
    if shape is not None and shape.says:
        stepper.speak(ID, shape.says)
    try:
        yield stepper
    finally:
        stepper.discard()


def finish(stepper: Stepper, shape: Shape) -> None:
    if shape.wide:
        stepper.run_wide()
    else:
        stepper.run()


def check(stepper: Stepper, shape: Shape, ledger: Ledger, *, lost: int | None = 0) -> None:
    """The execution came to its right end; at most `lost` attempts were lost (None: any number)."""
    assert stepper.faults(ID) == []
    head = stepper.head(ID)
    assert head is not None
    assert head.status == shape.status
    assert not head.busy
    assert stepper.outcome(ID) == (shape.result if shape.failure is None else shape.failure)
    assert stepper.outside is None or stepper.outside.faults() == []
    history = stepper.record.events(ID)
    assert ledger.faults(ID, history) == []
    attempts = sum(ledger.names(ID).values())
    done = count(history, events.TaskCompleted)
    if lost == 0:
        assert attempts == shape.attempts
        assert done == dict(shape.done)
        return
    given_up = count(history, events.TaskCancelled)
    for name, times in shape.done.items():
        # A result that nobody waits for may be lost; all others are there, once.
        assert times - given_up.get(name, 0) <= done.get(name, 0) <= times, name
    if lost is not None:
        assert attempts <= shape.attempts + lost


def count(history: Iterable[Event], kind: type[Any]) -> dict[str, int]:
    """How many tasks of each name have an event of that kind."""
    names: dict[int, str] = {}
    counts: dict[str, int] = {}
    for event in history:
        if isinstance(event, events.TaskScheduled):
            names[event.seq] = event.name
        elif isinstance(event, kind):
            assert isinstance(event, (events.TaskCompleted, events.TaskCancelled))
            name = names[event.seq]
            counts[name] = counts.get(name, 0) + 1
    return counts


def run_through(stepper: Stepper, shape: Shape, crashes: list[tuple[int, bool]]) -> int:
    """Run the shape to its end through crashes; answers how many have come.

    Each is (n, after): at the n-th call since the opening before. Who started the execution and
    was not answered starts it again; who was answered relies on it.
    """
    met = 0
    answered = False
    seen: list[str] = []
    plan = iter(crashes)
    while True:
        n, after = next(plan, (None, False))
        stepper.crashes.crash_at(n, after=after)
        start = None
        try:
            stepper.open()
            if not answered:
                start = stepper.start(shape.name, execution_id=ID)
            finish(stepper, shape)
            return met
        except SimulatedCrash:
            met += 1
            lines = stepper.record.lines(ID)
            stored = stepper.lines(ID)
            assert lines[len(lines) - len(stored) :] == stored
            answered = answered or (start is not None and is_answered(start.reply))
            stepper.crash()
            assert lines[: len(seen)] == seen
            seen = lines
            if answered:
                assert lines


def is_answered(reply: Reply[Any]) -> bool:
    """Whether there is an answer; raises it if it is an error."""
    try:
        reply.wait(0)
    except TimeoutError:
        return False
    return True

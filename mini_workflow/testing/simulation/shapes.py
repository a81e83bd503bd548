"""Define shapes of workflows, and the tasks of shapes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mini_workflow.context import Context
from mini_workflow.core import events
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.core.timing import UNTIMED, Timing
from mini_workflow.task import current_task
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.outside import Say
from mini_workflow.workflow import Registry, Workflow


@dataclass(frozen=True)
class Shape:
    """A workflow with its expected outcome. `tags` name the features that it uses: see `TAGS`.

    `result` is its result, unless `failure` names the exception that it fails with, or is
    "ExecutionCancelled". `done` has the number of completed tasks by name, and `attempts` the number
    of all attempts if none is lost. `slow` has the milliseconds that tasks take, and `dies` the number
    of attempts in which their worker dies, by name; 0 for others. `says` are the requests from outside.
    The execution is started with `timing` and `headers`.
    """

    workflow: Workflow[Any, Any]
    tags: frozenset[str]
    result: Any = None
    failure: str | None = None
    done: Mapping[str, int] = field(default_factory=dict[str, int])
    attempts: int = 0
    slow: Mapping[str, int] = field(default_factory=dict[str, int])
    dies: Mapping[str, int] = field(default_factory=dict[str, int])
    says: tuple[Say, ...] = ()
    timing: Timing = UNTIMED
    headers: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.workflow.name

    @property
    def wide(self) -> bool:
        """Whether it has very many tasks."""
        return "wide" in self.tags

    @property
    def status(self) -> str:
        """The status in which it ends."""
        if self.failure is None:
            return "completed"
        return "cancelled" if self.failure == "ExecutionCancelled" else "failed"


TAGS: Final[dict[str, str]] = {
    "tasks": "starts tasks",
    "inline": "runs tasks inside the turn",
    "retries": "has attempts that fail and are made again",
    "timers": "sleeps, or limits a wait",
    "gives-up": "gives up tasks or timers before they end",
    "signals": "is sent signals",
    "updates": "is asked for updates",
    "promises": "makes promises",
    "children": "has children",
    "starts": "starts executions that go on by themselves",
    "limits": "has tasks that need slots of limits",
    "asks": "asks other executions for something, and waits for the answer",
    "tells": "sends signals, requests to cancel or values of promises to other executions",
    "cancelled": "is asked to cancel itself",
    "continues": "continues as new",
    "patches": "takes a new path by `patched`",
    "fails": "does not complete",
    "timed": "is started with a delay, with a deadline, or to be tried again",
    "wide": "has very many tasks at once",
    "ordered": "returns the order in which things happened: not the same after a crash, or on threads",
}
"""The tags of shapes, with their meaning."""

_SHAPES: Final[list[Shape]] = []


def choose(*tags: str, without: Sequence[str] = ()) -> dict[str, Shape]:
    """Return the shapes that have all of these tags and none of those in `without`, by name.

    A shape is known once its module is imported. Raises ValueError for an unknown tag, or if two chosen
    shapes have the same name.
    """
    if unknown := {*tags, *without} - set(TAGS):
        raise ValueError(f"no shape is tagged {sorted(unknown)}: choose of {', '.join(TAGS)}")
    chosen: dict[str, Shape] = {}
    for shape in _SHAPES:
        if shape.tags.issuperset(tags) and shape.tags.isdisjoint(without):
            if shape.name in chosen:
                raise ValueError(f"two shapes are called {shape.name!r}: choose by more tags")
            chosen[shape.name] = shape
    return chosen


def registry() -> Registry:
    """Return a registry of all shapes whose result is the same everywhere."""
    made = Registry()
    for shape in choose(without=["ordered"]).values():
        made.add(shape.workflow)
    return made


def shape(
    result: Any = None,
    *,
    tags: str = "",
    failure: str | None = None,
    attempts: int | None = None,
    slow: Mapping[str, int] | None = None,
    dies: Mapping[str, int] | None = None,
    says: Sequence[Say] = (),
    also: Mapping[str, int] | None = None,
    timing: Timing = UNTIMED,
    headers: Mapping[str, str] | None = None,
    **done: int,
) -> Callable[[Any], Any]:
    """Return a decorator that enters a workflow for `choose`. By default no attempt fails.

    `tags` are some of `TAGS`, separated by spaces. Raises ValueError if there is no such tag.
    `also` are tasks, as in `done`, whose name is no identifier.
    """
    done = {**done, **(also or {})}
    about = frozenset(tags.split())
    if about - set(TAGS):
        raise ValueError(f"a shape is tagged {tags!r}: choose of {', '.join(TAGS)}")

    def enter(handler: Any) -> Any:
        entry = Shape(
            Workflow(handler.__name__, handler),
            about,
            result,
            failure,
            done,
            sum(done.values()) if attempts is None else attempts,
            slow or {},
            dies or {},
            tuple(says),
            timing,
            headers,
        )
        _SHAPES.append(entry)
        return handler

    return enter


def signals(
    name: str, values: Sequence[Any], after: type[Any] = events.ExecutionStarted
) -> list[Say]:
    """Signals with these values, one after the other."""
    return [Say("signal", name, value, after) for value in values]


PATIENT: Final = RetryPolicy(max_attempts=12, initial=2.0, factor=1.5, jitter="none")
"""Survives a few lost attempts on top of those that fail by themselves."""


def work(value: Any = None) -> Any:
    """Note the task in the ledger, and return the argument."""
    Ledger.note()
    return value


async def work_async(value: Any = None) -> Any:
    """Note the task in the ledger, and return the argument, as an async task."""
    Ledger.note()
    await asyncio.sleep(0)
    return value


def flaky(good: int) -> int:
    """Fail, as a task, before attempt number `good`."""
    Ledger.note()
    if current_task().attempt < good:
        raise ConnectionError(f"attempt {current_task().attempt}")
    return good


def broken(text: str) -> None:
    """Fail in every attempt, as a task."""
    Ledger.note()
    raise ValueError(text)


def step(ctx: Context, name: str, value: Any = None, **options: Any) -> asyncio.Future[Any]:
    """Start `work` under a name."""
    return ctx.task(work, value, name=name, **options)

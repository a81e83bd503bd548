"""Run a task for every item of a `ctx.map`, a bounded number of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import partial
from types import CellType, FunctionType
from typing import Any, Literal, TypedDict

from mini_workflow.core.limit import Limit
from mini_workflow.core.recorder import Recorder
from mini_workflow.core.records import frozen
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.errors import TaskCancelled, UsageError
from mini_workflow.loop.loop import WorkflowLoop
from mini_workflow.loop.ordered import WorkflowFuture


class MappedOptions(TypedDict, total=False):
    """The options of every ``ctx.map``."""

    concurrency: int | None
    name: str | Callable[[Any], str] | None
    retry: RetryPolicy | None
    timeout: float | timedelta | None
    heartbeat_timeout: float | timedelta | None
    worker: str | None
    limit: str | Limit | None
    limit_key: str | None
    priority: int | None


class MapOptions(MappedOptions, total=False):
    """The options of a ``ctx.map`` that raises its first failure."""

    return_exceptions: Literal[False]
    min_successful: None
    tolerated_failures: None


class TolerantMapOptions(MappedOptions, total=False):
    """The options of a ``ctx.map`` with exceptions among its results."""

    return_exceptions: bool
    min_successful: int | None
    tolerated_failures: int | None


@frozen
class Tolerance:
    """The number of tasks of a map that may fail, and the number of successes after which it ends; None
    if it waits for all.
    """

    failures: int = 0
    successes: int | None = None

    @classmethod
    def of(
        cls, items: int, return_exceptions: bool, successes: int | None, failures: int | None
    ) -> Tolerance:
        """Return the tolerance that the options of a map over so many items mean.

        `successes` is the option min_successful, `failures` is tolerated_failures. Raises UsageError if
        they are out of range or contradict each other.
        """
        if successes is not None and not _is_whole(successes, 1):
            raise UsageError(
                f"ctx.map(min_successful={successes!r}): give a whole number of 1 or more, or None"
            )
        if failures is not None and not _is_whole(failures, 0):
            raise UsageError(
                f"ctx.map(tolerated_failures={failures!r}): give a whole number of 0 or more, or None"
            )
        if return_exceptions:
            if successes is not None or failures is not None:
                raise UsageError(
                    "ctx.map(return_exceptions=True) tolerates all failures: leave it out, or leave out "
                    "min_successful and tolerated_failures"
                )
            return cls(items)
        if successes is not None and successes > items:
            raise UsageError(
                f"ctx.map(min_successful={successes}): there are only {items} items; give at most "
                "their number"
            )
        spare = items if successes is None else items - successes
        default = 0 if successes is None else spare
        return cls(min(spare, default if failures is None else failures), successes)


def _is_whole(value: object, least: int) -> bool:
    return type(value) is int and value >= least


class Mapping(WorkflowFuture[Any]):
    """A future of the results, in the order of the items. Cancelling it cancels the open tasks.

    Each task that ends starts the next one, so that the work per event does not grow with the items. A
    tolerated failure has its exception in place of the result; a task that was cancelled because enough
    others have succeeded has a TaskCancelled.
    """

    def __init__(
        self,
        start: Callable[[Any, int, dict[str, Any] | None], Any],
        items: list[Any],
        concurrency: int | None,
        tolerance: Tolerance,
        name: str,
        *,
        loop: WorkflowLoop,
    ) -> None:
        super().__init__(loop=loop)
        self._start = start
        self._name = name
        self._first = 0
        """The number of the first task."""
        self._about: dict[str, Any] | None = {"name": name, "items": len(items)}
        if concurrency is not None:
            self._about["concurrency"] = concurrency
        self._results: list[Any] = [None] * len(items)
        self._waiting: Iterator[tuple[int, Any]] = iter(enumerate(items))
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._tolerated = tolerance.failures
        self._wanted = tolerance.successes or 0
        """The number of successes after which the map ends early; 0 if it waits for all."""
        if not items:
            self.set_result([])
            return
        limit = len(items) if concurrency is None else concurrency
        try:
            while len(self._open) < limit and self._begin_next():
                pass
        except BaseException:
            self._give_up()
            raise

    def subject(self) -> tuple[str, str, int]:
        """See `WorkflowFuture.subject`."""
        return "map", self._name, self._first

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the map and its open tasks."""
        if self.done():
            return False
        self._give_up(msg)
        return super().cancel(msg)

    def _begin_next(self) -> bool:
        for index, item in self._waiting:
            future = self._start(item, self._first, self._about)
            self._first, self._about = self._first or future.seq, None
            self._open[index] = future
            future.add_done_callback(partial(self._ended, index))
            return True
        return False

    def _ended(self, index: int, future: asyncio.Future[Any]) -> None:
        self._open.pop(index, None)
        if self.done() or future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._results[index] = future.result()
            if self._wanted:
                self._wanted -= 1
                if not self._wanted:
                    self._end_early()
                    return
        elif self._tolerated:
            self._tolerated -= 1
            self._results[index] = error
            error = None
        if error is None:
            try:
                if self._begin_next() or self._open:
                    return
            except Exception as failure:
                error = failure
        if error is None:
            self.set_result(self._results)
        else:
            self._give_up()
            self.set_exception(error)

    def _end_early(self) -> None:
        left = [*self._open, *(index for index, _ in self._waiting)]
        for index in left:
            self._results[index] = TaskCancelled("given up: enough of the others have succeeded")
        self._give_up("enough of the others have succeeded")
        self.set_result(self._results)

    def _give_up(self, msg: Any = None) -> None:
        self._waiting = iter(())
        still_open, self._open = self._open, {}
        for future in still_open.values():
            future.cancel(msg)


def map_items(
    recorder: Recorder,
    start: Callable[[Any, int, dict[str, Any] | None], Any],
    items: list[Any],
    concurrency: int | None,
    tolerance: Tolerance,
    name: str,
) -> WorkflowFuture[Any]:
    """Start a task for every item, and return a future of the results in the order of the items.

    `start` takes an item, the number of the first task of the map (0 for that task itself), and what is
    recorded of the map with the first task (None for the others).
    """
    if not recorder.may_start():
        return recorder.loop.create_future()
    return Mapping(start, items, concurrency, tolerance, name, loop=recorder.loop)


def as_it_is_now(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy of the function with its captured variables as they are now. Later assignments do
    not change them.
    """
    if not isinstance(function, FunctionType) or not function.__closure__:
        return function
    closure = tuple(_copied(cell) for cell in function.__closure__)
    frozen = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, closure
    )
    frozen.__kwdefaults__ = function.__kwdefaults__
    frozen.__qualname__ = function.__qualname__
    frozen.__module__ = function.__module__
    frozen.__dict__.update(function.__dict__)
    return frozen


def _copied(cell: CellType) -> CellType:
    try:
        return CellType(cell.cell_contents)
    except ValueError:  # not assigned yet
        return CellType()


def items_of(fn: object, items: Iterable[Any]) -> list[Any]:
    """Return the items of a map. Raises UsageError if there are none, or if `fn` is no function."""
    if not callable(fn):
        raise UsageError(f"ctx.map({fn!r}, ...): give a function, as in ctx.map(load, paths)")
    try:
        each = iter(items)
    except TypeError as error:
        raise UsageError(f"ctx.map(..., {items!r}): {error}; give the items to map") from error
    return list(each)


def item_name(name_of: Callable[[Any], object], item: object) -> str:
    """Return the name of the task of an item. Raises UsageError if `name_of` returns no text."""
    name = name_of(item)
    if not isinstance(name, str):
        raise UsageError(f"ctx.map(name=...) returned {name!r} for {item!r}: return a text")
    return name

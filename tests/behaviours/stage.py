"""The runtimes under test, gates that hold tasks, and the ledger that tasks write to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from mini_workflow import Context, Execution, ExecutionNotFound
from mini_workflow.runners import event_loop
from tests.waiting import WAIT

MINUTE: Final = 60.0
DAY: Final = 24 * 3600.0


class Stage:
    """One runtime after the other on the same state; calls go to the one that is open.

    Args:
        open_runtime: opens a runtime on the state of that name, with the options that all have:
            `grace` and `turn_timeout`.
        virtual: whether its clock jumps to the next timer while somebody waits for a result.
        replays: whether it replays the history at every event, so that n events cost n².
        posts: whether a child is started by a message, so that it can be seen a moment later.
    """

    def __init__(
        self,
        open_runtime: Callable[..., Any],
        *,
        virtual: bool,
        replays: bool = False,
        posts: bool = False,
    ) -> None:
        self._open_runtime = open_runtime
        self.virtual = virtual
        self.replays = replays
        self.posts = posts
        self.runtime = open_runtime("state")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runtime, name)

    def start(self, workflow: Any, *args: Any, **kwargs: Any) -> Execution:
        """Start an execution."""
        execution: Execution = self.runtime.start_execution(workflow, *args, **kwargs)
        return execution

    def run(self, workflow: Any, *args: Any, **kwargs: Any) -> Any:
        """Start an execution, and wait for its result."""
        return self.start(workflow, *args, **kwargs).result(WAIT)

    def get_execution(self, id: str) -> Execution:  # noqa: A002
        """A handle to an execution, also to a child whose start is on its way."""
        ends = time.monotonic() + (WAIT if self.posts else 0)
        while True:
            try:
                found: Execution = self.runtime.get_execution(id)
                return found
            except ExecutionNotFound:
                if time.monotonic() >= ends:
                    raise
                time.sleep(0.05)

    def reopen(self, **options: Any) -> None:
        """Close the runtime, and open another one on what it has left, with these options."""
        self.runtime.close()
        self.runtime = self._open_runtime("state", **options)

    def serve(self, *workers: str) -> None:
        """Have these workers served from now on: an environment serves all, and the cloud of the tests
        has those that it has.
        """
        if not self.virtual and not self.posts:
            self.reopen(labels=workers)

    def die(self) -> None:
        """Lose the process: what its tasks do comes to nobody, and no attempt is handed back."""
        runner = getattr(self.runtime, "_runner", None)
        if runner is not None:
            close = runner.close

            def hand_nothing_back(grace: float) -> list[Any]:
                close(0)
                return []

            runner.close = hand_nothing_back
        # A lost process does not wait for async tasks that clean up.
        with patch.object(event_loop, "CLEANUP_GRACE", 0.0):
            self.runtime.close()

    def hand_over(self) -> None:
        """Open another runtime on the same state, and close the one before; where two cannot be
        open at a time, the other way round."""
        if self.virtual:
            self.reopen()
        else:
            before, self.runtime = self.runtime, self._open_runtime("state")
            before.close()

    def apart(self) -> Any:
        """Another runtime, on a state of its own; the caller closes it."""
        return self._open_runtime("apart")

    @contextmanager
    def beside(self) -> Iterator[Any]:
        """Another runtime on the same state, as in another process; the same, if that cannot be."""
        if self.virtual:
            yield self.runtime
        else:
            with self._open_runtime("state") as other:
                yield other

    def again(self, execution: Execution) -> Execution:
        """A handle of the open runtime to an execution of an earlier one."""
        found: Execution = self.runtime.get_execution(execution.id)
        return found

    def far(self, seconds: float) -> float:
        """The seconds to sleep where so many are meant: as many, if that takes no time here."""
        return seconds if self.virtual else min(seconds, 0.02)

    def close(self) -> None:
        """The end."""
        self.runtime.close()


class Gate:
    """A task that goes through it says so, and waits until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def wait_until_reached(self) -> None:
        """Wait until a task stands before the gate."""
        assert self.reached.wait(WAIT)

    def open(self) -> None:
        """Let everybody through, from now on."""
        self.opened.set()


GATES: dict[str, Gate] = {}


def gate(name: str) -> Gate:
    """The gate of that name."""
    return GATES.setdefault(name, Gate())


def go_through(name: str) -> str:
    """A task: wait at the gate of that name."""
    GATES.setdefault(name, Gate()).reached.set()
    assert GATES[name].opened.wait(WAIT)
    return name


LEDGER: list[Any] = []
"""What tasks write down, in the order in which they did."""


def note(entry: Any) -> Any:
    """A task: write something down."""
    LEDGER.append(entry)
    return entry


def watched(ctx: Context) -> dict[str, bool]:
    """State of a workflow in which it says whether it waits for its next signal."""
    state = {"waits": False}

    async def settled() -> None:
        await ctx.wait_for(lambda: state["waits"])

    ctx.on_update("settled", settled)
    return state


def settle(execution: Any) -> None:
    """Wait until the round that is under way waits for its signal."""
    execution.update("settled", timeout=WAIT)


class Background:
    """A call on a thread of its own, and what becomes of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error

    def get(self) -> Any:
        """The value, or the exception."""
        self._thread.join(WAIT)
        assert not self._thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._value

"""Carry requests of clients to the engine that runs the executions, and the replies back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol, TypeVar

from mini_workflow.engine.execution import Settled
from mini_workflow.engine.requests import Post, Request, Start
from mini_workflow.loop.running import running_loop
from mini_workflow.ports import Head, Page, Query, Stored, StreamStore

T = TypeVar("T")

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
"""Seconds between two looks at an execution that somebody waits for. A pause is one and a half times as long
as the one before, and is drawn between a half and the whole of that. Our own bounds."""


class Transport(Protocol):
    """The way of requests to the engine. Every method may be called on any thread, and raises RuntimeClosed
    once the runtime or client is closed, and NotAllowedInWorkflow in a workflow.
    """

    def start(self, requests: Sequence[Start]) -> None:
        """Have executions started, in as few commits as possible; the replies have the outcomes."""
        ...

    def ask(self, request: Request[T], timeout: float | None = None) -> T:
        """Have the request answered. Raises the error of its reply, or TimeoutError after `timeout` seconds.

        A message is durable on return. If another process answers an update, the reply is an empty Answer:
        the caller looks for the answer in the history.
        """
        ...

    def post(self, requests: Sequence[Post]) -> None:
        """Have messages taken, in as few commits as possible; the replies have the outcomes, as for
        `ask`.
        """
        ...

    def wait(self, execution_id: str, timeout: float | None) -> Settled:
        """Wait until the execution has closed or is blocked.

        Raises ExecutionNotFound, and TimeoutError after `timeout` seconds.
        """
        ...

    async def wait_async(self, execution_id: str) -> Settled:
        """Do the same on the running event loop."""
        ...

    def watch(self, execution_id: str) -> AbstractContextManager[Callable[[float], None]]:
        """Notice changes of an execution from now on. The function waits for one, for at most as many
        seconds as it is given; it may return without a change.
        """
        ...

    @property
    def streams(self) -> StreamStore:
        """The streams of executions."""
        ...

    def changes(
        self, execution_id: str, wake: Callable[[], None]
    ) -> AbstractContextManager[Pauses]:
        """Have `wake` called, on any thread, after each change of an execution or its streams that this
        process hears of, from now on. `wake` must not block. Other changes are found by looking again after
        each of the returned pauses.
        """
        ...

    def now(self) -> int:
        """Return the time in milliseconds since the epoch."""
        ...


class ReadableStore(Protocol):
    """The part of a store that a client reads. See `Store`."""

    def head(self, execution_id: str) -> Head | None:
        """Return the head as of the last commit, or None."""
        ...

    def load(self, execution_id: str) -> Stored | None:
        """Return the execution as of the last commit, or None."""
        ...

    def history(self, execution_id: str, since: int = 0) -> list[str]:
        """Return the lines of the current run's history."""
        ...

    def ends(self, execution_id: str, last: int) -> list[str]:
        """Return the first line of the current run's history, and the last ones."""
        ...

    def list(self, query: Query) -> Page:
        """Return the heads that match, in their order."""
        ...

    def count(self, query: Query) -> int:
        """Return how many match."""
        ...


class CheckedStore:
    """Reads a store for users, after a check that they may.

    Args:
        store: returns the store.
        check: raises if the store cannot be used now, or not by the caller.
        load: loads an execution, where not every thread may do that.
    """

    def __init__(
        self,
        store: Callable[[], ReadableStore],
        check: Callable[[], None],
        load: Callable[[str], Stored | None] | None = None,
    ) -> None:
        self.check = check
        self._store = store
        self._load = load

    def head(self, execution_id: str) -> Head | None:
        """See `Store.head`."""
        return self._read(lambda store: store.head(execution_id))

    def history(self, execution_id: str, since: int = 0) -> list[str]:
        """See `Store.history`."""
        return self._read(lambda store: store.history(execution_id, since))

    def ends(self, execution_id: str, last: int) -> list[str]:
        """See `Store.ends`."""
        return self._read(lambda store: store.ends(execution_id, last))

    def list(self, query: Query) -> Page:
        """See `Store.list`."""
        return self._read(lambda store: store.list(query))

    def count(self, query: Query) -> int:
        """See `Store.count`."""
        return self._read(lambda store: store.count(query))

    def load(self, execution_id: str) -> Stored | None:
        """See `Store.load`."""
        load = self._load
        return self._read(
            lambda store: store.load(execution_id) if load is None else load(execution_id)
        )

    def _read(self, read: Callable[[ReadableStore], T]) -> T:
        self.check()
        try:
            return read(self._store())
        except Exception:
            self.check()  # if the runtime was closed in between, that is the error to raise
            raise


class Pauses:
    """Growing pauses with jitter between looks at a store, in seconds.

    `begin` is called before each pause; where it returns False there is none: a look comes first.
    """

    def __init__(
        self,
        first: float = FIRST_PAUSE,
        longest: float = LONGEST_PAUSE,
        begin: Callable[[], bool] | None = None,
    ) -> None:
        self._first = self._next = first
        self._longest = longest
        self._begin = begin

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self._next = self._first

    def take(self, at_most: float | None = None) -> float:
        """Return the seconds to wait now, at most `at_most`."""
        if self._begin is not None and not self._begin():
            return 0.0
        from random import uniform

        pause = uniform(self._next / 2, self._next)
        self._next = min(self._longest, self._next * 1.5)
        return pause if at_most is None else max(0.0, min(pause, at_most))


def refuse_in_workflow() -> None:
    """Refuse a call from workflow code, which must not use a runtime. Raises NotAllowedInWorkflow."""
    loop = running_loop()
    if loop is None:
        return
    from mini_workflow.loop.loop import WorkflowLoop

    if isinstance(loop, WorkflowLoop):
        loop.refuse("using a runtime", "do it in a task: await ctx.task(...)")


def wait_until_settled(
    execution_id: str,
    look: Callable[[], Settled | None],
    timeout: float | None,
    pause: Callable[[float | None], object],
) -> Settled:
    """Look until the execution has settled. Between two looks `pause` waits for a change, for at most
    the seconds that are left, if they are limited. Raises TimeoutError after `timeout` seconds.
    """
    ends = None if timeout is None else time.monotonic() + timeout
    while (found := look()) is None:
        left = None if ends is None else ends - time.monotonic()
        if left is not None and left <= 0:
            raise still_running(execution_id, timeout)
        pause(left)
    return found


async def wait_until_settled_async(look: Callable[[], Settled | None]) -> Settled:
    """Look with growing pauses until the execution has settled, on a thread, since each look blocks."""
    import asyncio

    pauses = Pauses()
    while True:
        found = await asyncio.to_thread(look)
        if found is not None:
            return found
        await asyncio.sleep(pauses.take())


def still_running(execution_id: str, timeout: float | None) -> TimeoutError:
    """Return the error of `result(timeout)`."""
    return TimeoutError(f"execution {execution_id!r} is still running after {timeout:g} s")

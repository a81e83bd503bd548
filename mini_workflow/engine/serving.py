"""Serving: what the handles of executions ask of a runtime, whose common part this is."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

from mini_workflow.core import events, wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import CLOSING, Event
from mini_workflow.core.history import History
from mini_workflow.core.loop import WorkflowLoop, running_loop
from mini_workflow.core.starting import check_id
from mini_workflow.engine.driver import ENDED, Driver
from mini_workflow.engine.engine import Engine, Ports
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.messenger import Messenger
from mini_workflow.engine.requests import Reply, Request, Resume
from mini_workflow.engine.turn import UNKNOWN_WORKFLOW
from mini_workflow.errors import (
    ExecutionNotFound,
    NotAllowedInWorkflow,
    RuntimeClosed,
    StoreCorrupt,
    StoreError,
    UsageError,
)
from mini_workflow.ports import Head

T = TypeVar("T")

RECHECK: Final = 5.0
"""Seconds after which somebody who waits for an execution looks at the store, because the process
that runs it may have died without a word."""


class Serving:
    """Answers handles from the store, or through the engine. Made by a Runtime only."""

    _ports: Ports
    _codec: Codec
    _driver: Driver
    _engine: Engine
    _messenger: Messenger
    _process: int
    _closed: bool

    # For handles

    def settled(self, execution_id: str, timeout: float | None) -> Settled:
        """See `Service.settled`."""
        self._check_caller()
        reply: Reply[Settled] = Reply()
        self._driver.waiters.add(execution_id, reply.give)
        try:
            left = timeout
            while True:
                found = self._settled_now(execution_id)
                if found is not None:
                    return found
                wait = RECHECK if left is None else min(RECHECK, left)
                try:
                    return opened(reply.wait(wait))
                except TimeoutError:
                    if left is not None:
                        left -= wait
                        if left <= 0:
                            raise still_running(execution_id, timeout) from None
        finally:
            self._driver.waiters.remove(execution_id, reply.give)

    async def settled_async(self, execution_id: str) -> Settled:
        """See `Service.settled_async`."""
        self._check_caller()
        future, deliver = awaitable_reply()
        self._driver.waiters.add(execution_id, deliver)
        try:
            while True:
                found = self._settled_now(execution_id)
                if found is not None:
                    return found
                done, _ = await asyncio.wait([future], timeout=RECHECK)
                if done:
                    return opened(future.result())
        finally:
            self._driver.waiters.remove(execution_id, deliver)

    def closing(self, execution_id: str) -> Event:
        """See `Service.closing`."""
        for line in reversed(self._lines(execution_id)):
            if line.startswith('{"event":"Execution'):
                event = wire.decode(line)
                if type(event) in CLOSING:
                    return event
        raise StoreCorrupt(f"execution {execution_id!r} has closed without a closing event")

    def head(self, execution_id: str) -> Head:
        """See `Service.head`."""
        check_id(execution_id)
        head = self._read(lambda: self._ports.store.head(execution_id))
        if head is None:
            raise ExecutionNotFound(
                f"there is no execution {execution_id!r} in this store; list_executions() shows "
                "all",
                execution_id=execution_id,
            )
        return head

    def history(self, execution_id: str) -> History:
        """See `Service.history`."""
        return History.from_lines(self._lines(execution_id))

    def signal(self, execution_id: str, name: str, value: Any) -> None:
        """See `Service.signal`."""
        self._messenger.post(execution_id, self._messenger.make_signal(name, value))

    def query(self, execution_id: str, name: str, args: Any, kwargs: Any) -> Any:
        """See `Service.query`."""
        return self._messenger.query(execution_id, name, args, kwargs)

    def update(
        self,
        execution_id: str,
        name: str,
        args: Any,
        kwargs: Any,
        update_id: str | None,
        timeout: float | None,
    ) -> Any:
        """See `Service.update`."""
        return self._messenger.update(execution_id, name, args, kwargs, update_id, timeout)

    def cancel(self, execution_id: str, reason: str) -> None:
        """See `Service.cancel`."""
        _check_reason(reason)
        message = events.CancelRequested(self._ports.clock.now(), reason)
        self._messenger.post(execution_id, message)

    def terminate(self, execution_id: str, reason: str) -> None:
        """See `Service.terminate`."""
        _check_reason(reason)
        message = events.ExecutionTerminated(self._ports.clock.now(), reason)
        self._messenger.post(execution_id, message)

    def resume(self, execution_id: str) -> None:
        """See `Service.resume`."""
        self.head(execution_id)
        request = Resume(execution_id)
        self._ask(request, request.reply)

    # For the messenger

    def ask(self, request: Request, reply: Reply[T]) -> T:
        """See `Desk.ask`."""
        return self._ask(request, reply)

    def ask_within(self, request: Request, reply: Reply[T], timeout: float | None) -> T:
        """See `Desk.ask_within`."""
        self._check_caller()
        return self._driver.ask_within(request, reply, timeout)

    def clock_now(self) -> int:
        """See `Desk.clock_now`."""
        return self._ports.clock.now()

    def lines(self, execution_id: str) -> list[str]:
        """See `Desk.lines`."""
        return self._lines(execution_id)

    # For other parts of the runtime

    def look_around(self) -> None:
        """Another process has rung: look at the store. Callable from any thread."""
        self._driver.nudge()

    def evict(self) -> None:
        """Drop all live executions from memory; the next event of each replays it."""
        self._check_caller()
        self._driver.call(self._engine.evict)

    # Inside

    def _ask(self, request: Request, reply: Reply[T]) -> T:
        self._check_caller()
        return self._driver.ask(request, reply)

    def _read(self, read: Callable[[], T]) -> T:
        """Read from the store, on the calling thread."""
        self._check_caller()
        try:
            return read()
        except StoreError:
            self._check_open()  # was it closed in between?
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeClosed("the runtime was closed; open a new one")
        if self._process != os.getpid():
            raise RuntimeClosed(
                "the runtime belongs to the process that forked this one; open one in this process"
            )

    def _check_caller(self) -> None:
        self._check_open()
        self._check_not_inside()

    def _check_not_inside(self) -> None:
        """Refuse a call from workflow code, which would wait for itself."""
        loop = running_loop()
        if isinstance(loop, WorkflowLoop):
            loop.refuse("using a runtime", "do it in a task: await ctx.task(...)")
        if self._driver.is_current():
            raise NotAllowedInWorkflow(
                "a runtime cannot be used by an inline task, which the engine itself runs; drop "
                "inline=True"
            )

    def _lines(self, execution_id: str) -> list[str]:
        check_id(execution_id)
        lines = self._read(lambda: self._ports.store.history(execution_id))
        if not lines:
            self.head(execution_id)
        return lines

    def _settled_now(self, execution_id: str) -> Settled | None:
        head = self.head(execution_id)
        if head.blocked_kind == UNKNOWN_WORKFLOW:
            # Is it known now, and the block is not lifted yet?
            if self._driver.resumes(execution_id):
                return None
            head = self.head(execution_id)
        return None if head.status == "running" else Settled(head)


def opened(settled: Settled) -> Settled:
    """What a waiter was told, unless that is the end of the runtime: then RuntimeClosed."""
    if settled is ENDED:
        raise RuntimeClosed("the runtime was closed while the execution was running")
    return settled


def still_running(execution_id: str, timeout: float | None) -> TimeoutError:
    """The error of `result(timeout)`."""
    return TimeoutError(f"execution {execution_id!r} is still running after {timeout:g} s")


def awaitable_reply() -> tuple[asyncio.Future[Settled], Callable[[Settled], None]]:
    """A future of the running loop, and what sets it from any thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Settled] = loop.create_future()

    def set_result(settled: Settled) -> None:
        if not future.done():
            future.set_result(settled)

    def deliver(settled: Settled) -> None:
        # A loop that was closed meanwhile has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(set_result, settled)

    return future, deliver


def _check_reason(reason: object) -> None:
    if not isinstance(reason, str):
        raise UsageError(f"{reason!r} is not a reason: give a text")

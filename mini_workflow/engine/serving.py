"""Serving: a client whose requests are answered by an engine on a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Final, TypeVar

from mini_workflow.engine.client import Client, refuse_in_workflow, still_running
from mini_workflow.engine.engine import Engine, Ports
from mini_workflow.engine.engine_thread import ENDED, EngineThread
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.requests import Reply, Request, Start
from mini_workflow.engine.turn import UNKNOWN_WORKFLOW
from mini_workflow.errors import NotAllowedInWorkflow, RuntimeClosed, StoreError
from mini_workflow.ports import Stored
from mini_workflow.waiting import blocking_wait

T = TypeVar("T")

RECHECK: Final = 5.0
"""Seconds after which somebody who waits for an execution looks at the store, because the process
that runs it may have died without a word."""


class Serving(Client):
    """Hands requests to the engine, and waits for it. Made by a Runtime only."""

    _ports: Ports
    _driver: EngineThread
    _engine: Engine
    _process: int
    _closed: bool

    # For handles

    def settled(self, execution_id: str, timeout: float | None) -> Settled:
        """See `Service.settled`."""
        self._check_caller()
        found = self._settled_now(execution_id)
        if found is not None:
            return found
        reply: Reply[Settled] = Reply()
        self._driver.waiters.add(execution_id, reply.give)
        try:
            with blocking_wait(reply.fail):
                return self._wait_until_settled(execution_id, reply, timeout)
        finally:
            self._driver.waiters.remove(execution_id, reply.give)

    def _wait_until_settled(
        self, execution_id: str, reply: Reply[Settled], timeout: float | None
    ) -> Settled:
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

    # For the messenger

    def put_all(self, requests: Iterable[Start]) -> None:
        """See `Client.put_all`. Raises RuntimeClosed."""
        self._driver.put_all(requests)

    def ask_within(self, request: Request, reply: Reply[T], timeout: float | None) -> T:
        """See `Desk.ask_within`."""
        self._check_caller()
        return self._driver.ask_within(request, reply, timeout)

    def clock_now(self) -> int:
        """See `Desk.clock_now`."""
        return self._ports.clock.now()

    @contextlib.contextmanager
    def watch(self, execution_id: str) -> Generator[Callable[[float], None]]:
        """See `Desk.watch`."""
        lookers, changed = self._driver.lookers, threading.Event()
        ended = threading.Event()

        def tell(settled: Settled) -> None:
            if settled is ENDED:
                ended.set()
            changed.set()

        def wait(seconds: float) -> None:
            changed.wait(seconds)
            # Callbacks are called once. What comes from here on is looked at next.
            changed.clear()
            lookers.remove(execution_id, tell)
            lookers.add(execution_id, tell)
            if ended.is_set():
                raise RuntimeClosed("the runtime was closed meanwhile; open a new one")

        lookers.add(execution_id, tell)
        try:
            yield wait
        finally:
            lookers.remove(execution_id, tell)

    # For other parts of the runtime

    def look_around(self) -> None:
        """Another process has rung: look at the store. Callable from any thread."""
        self._driver.nudge()

    def evict(self) -> None:
        """Drop all live executions from memory; the next event of each replays it."""
        self._check_caller()
        self._driver.call(self._engine.evict)

    # Inside

    def _load(self, execution_id: str) -> Stored | None:
        # This part of a store belongs to the engine's thread.
        found: list[Stored | None] = []
        self._check_caller()
        self._driver.call(lambda: found.append(self._store.load(execution_id)))
        return found[0]

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
        refuse_in_workflow()
        if self._driver.is_current():
            raise NotAllowedInWorkflow(
                "a runtime cannot be used by an inline task, which the engine itself runs; drop "
                "inline=True"
            )

    def _settled_now(self, execution_id: str) -> Settled | None:
        found = super()._settled_now(execution_id)
        if found is None or found.head.blocked_kind != UNKNOWN_WORKFLOW:
            return found
        # Is it known now, and the block is about to be lifted?
        if self._driver.resumes(execution_id):
            return None
        return super()._settled_now(execution_id)


def opened(settled: Settled) -> Settled:
    """What a waiter was told, unless that is the end of the runtime: then RuntimeClosed."""
    if settled is ENDED:
        raise RuntimeClosed("the runtime was closed while the execution was running")
    return settled


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

"""Tell open pages about changes, by server-sent events.

A page gets one line for each change and asks for itself anew: so what is shown is always made in one
place. All pages of a process share one look at the store a second, and none is made while no page is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from hashlib import sha256
from typing import Final

from starlette.concurrency import run_in_threadpool

from mini_workflow.engine.client import Client
from mini_workflow.errors import ExecutionNotFound, MiniWorkflowError, RuntimeClosed
from mini_workflow.ports import STATUSES
from mini_workflow.ui.followed import AllFollowed, Followed
from mini_workflow.ui.last_heartbeats import WATCHED

LOOK_EVERY: Final = 1.0
"""Seconds between two reads of the executions on open pages."""

KEEP_ALIVE: Final = 15.0
"""Seconds after which a line is sent without a change, so that no proxy ends a quiet connection."""


class Watch:
    """The executions that open pages show, for one event loop. A list watches `everything`."""

    def __init__(self, client: Client, known: AllFollowed) -> None:
        self._client = client
        self._known = known
        self._pages: dict[str, list[asyncio.Queue[str]]] = {}
        self._joined: dict[str, list[tuple[asyncio.Queue[str], str]]] = {}
        """Pages that have come since the last look, by what they watch, with the sign of what they show:
        what has changed since such a page was made, and before that look, is told."""
        self._task: asyncio.Task[None] | None = None

    async def changes(self, name: str, shown: str = "") -> AsyncIterator[str]:
        """Return the lines of a page of an execution, or of a list if the name is empty, as long as it is
        open. `shown` is the `sign_of` what the page shows; without it the first look is told.
        """
        mine: asyncio.Queue[str] = asyncio.Queue(1)
        self._pages.setdefault(name, []).append(mine)
        self._joined.setdefault(name, []).append((mine, shown))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            yield "retry: 2000\n\n"
            while True:
                try:
                    said = await asyncio.wait_for(mine.get(), KEEP_ALIVE)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                yield f"event: {said}\ndata: {said}\n\n"
                if said == "gone":
                    return
        finally:
            self._pages[name].remove(mine)
            if not self._pages[name]:
                del self._pages[name]

    async def _look(self) -> None:
        """Look at the executions that are shown, as long as there are any."""
        known: dict[str, Hashable] = {}
        while self._pages:
            for name in list(self._pages):
                joined = self._joined.pop(name, [])
                try:
                    found = await run_in_threadpool(self._state, name)
                except ExecutionNotFound:
                    self._tell(name, "gone")
                    continue
                except RuntimeClosed:
                    return
                except MiniWorkflowError:
                    # The store does not answer: the page keeps what it has.
                    self._joined.setdefault(name, []).extend(joined)
                    continue
                if known.get(name, found) != found:
                    self._tell(name, "changed")
                for page, shown in joined:
                    if shown != sign_of(found):
                        _put(page, "changed")
                known[name] = found
            self._joined = {
                name: told for name, told in self._joined.items() if name in self._pages
            }
            known = {name: state for name, state in known.items() if name in self._pages}
            await asyncio.sleep(LOOK_EVERY)

    def _tell(self, name: str, what: str) -> None:
        for page in self._pages.get(name, ()):
            _put(page, what)

    def _state(self, name: str) -> Hashable:
        """Return a state that differs when the page does."""
        if not name:
            return state_of_list(self._client)
        with self._known.at(name) as one:
            working = one.counts.at_work(WATCHED)
            beats = self._client.looks.heartbeats(name, working)
            return *state_of(one), *((beat.key, beat.at) for beat in beats.values())


def state_of_list(client: Client) -> tuple[int, ...]:
    """Return the state of a list: the number of executions of each status."""
    return tuple(client.count_executions(status=status) for status in STATUSES)


def state_of(one: Followed) -> tuple[Hashable, ...]:
    """Return the state of the page of an execution, without heartbeats."""
    return one.head, len(one.entries)


def sign_of(state: Hashable) -> str:
    """Return a short text that stands for a state, for an address."""
    return sha256(repr(state).encode()).hexdigest()[:16]


def _put(page: asyncio.Queue[str], what: str) -> None:
    if page.empty():
        page.put_nowait(what)

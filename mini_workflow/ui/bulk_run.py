"""Run an action on many executions beside the pages, in small parts, with its progress."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Final

from mini_workflow.engine.bulk import do_each
from mini_workflow.engine.client import Client
from mini_workflow.errors import RuntimeClosed, StoreUnavailable, UsageError
from mini_workflow.ui.actions import Action, Asked
from mini_workflow.ui.forms import Form
from mini_workflow.ui.live import KEEP_ALIVE

PART: Final = 20
"""Executions after which open pages are told how far it has got."""

SHOWN: Final = 100
"""Of those that were left out, so many are shown with the reason; the others are counted."""

AT_ONCE: Final = 4
"""Bulk runs that go on at a time."""

REMEMBERED: Final = 50
"""Bulk runs that have ended and can be looked at."""


class BulkRun:
    """An action on the executions of these names, on a thread of its own. The thread goes on when the pages
    that show it are closed, and ends with the process.
    """

    def __init__(self, client: Client, action: Action, names: Sequence[str], form: Form) -> None:
        self.key: Final = secrets.token_urlsafe(9)
        self.action: Final = action
        self.total: Final = len(names)
        self.done = 0
        """Executions that were asked, or left out."""
        self.left: Final[list[tuple[str, str]]] = []
        """The first that were left out, and why."""
        self.refused = 0
        """How many were left out."""
        self.has_ended = False
        self.stopped = ""
        """Why it has ended before all were asked."""
        self._client = client
        self._names = names
        self._form = form
        self._lock = threading.Lock()
        self._watching: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def begin(self) -> None:
        """Start the thread, and return."""
        threading.Thread(target=self.run, name="mini-workflow-bulk", daemon=True).start()

    def run(self) -> None:
        """Do the action to all executions, until an error says that no other can be reached."""
        try:
            asked = do_each(
                self._client,
                self._names,
                lambda one: self.action.do(Asked(self._client, one, self._form)),
            )
            for name, error in asked:
                if isinstance(error, (RuntimeClosed, StoreUnavailable)):
                    self.stopped = f"{type(error).__name__}: {error}"
                    break
                if error is not None:
                    self.refused += 1
                    if len(self.left) < SHOWN:
                        self.left.append((name, str(error)))
                self.done += 1
                if self.done % PART == 0:
                    self._tell()
        except Exception as error:  # told on the page, as the thread has nobody else
            self.stopped = f"{type(error).__name__}: {error}"
        finally:
            self.has_ended = True
            self._tell()

    async def changes(self) -> AsyncIterator[str]:
        """Return the lines of an open page: one for each change, until the run has ended."""
        mine = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._watching.append(mine)
        try:
            yield "retry: 2000\n\n"
            while not self.has_ended:
                try:
                    await asyncio.wait_for(mine[1].wait(), KEEP_ALIVE)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                mine[1].clear()
                yield "event: changed\ndata: changed\n\n"
            yield "event: ended\ndata: ended\n\n"
        finally:
            with self._lock:
                self._watching.remove(mine)

    def _tell(self) -> None:
        with self._lock:
            for loop, event in self._watching:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(event.set)


class BulkRuns:
    """The bulk runs of a process: all that go on, and the last ones that have ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, BulkRun] = {}

    def begin(self, one: BulkRun) -> None:
        """Begin a bulk run. Raises UsageError if too many go on."""
        with self._lock:
            going_on = sum(not known.has_ended for known in self._known.values())
            if going_on >= AT_ONCE:
                raise UsageError(
                    f"{going_on} other bulk actions go on: wait until one has ended; nothing was changed"
                )
            self._known[one.key] = one
            over = [key for key, known in self._known.items() if known.has_ended]
            for key in over[: max(len(self._known) - REMEMBERED, 0)]:
                del self._known[key]
        one.begin()

    def get(self, key: str) -> BulkRun | None:
        """Return a bulk run, or None if this process has none of that key any more."""
        return self._known.get(key)

"""Inspection: what is asked of an execution directly, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mini_workflow.core import events
from mini_workflow.core.failure import Failure
from mini_workflow.core.run import Run
from mini_workflow.engine.cache import Cache
from mini_workflow.engine.queries import Queries
from mini_workflow.engine.replies import existing
from mini_workflow.engine.requests import Ask
from mini_workflow.engine.turn import Turns
from mini_workflow.engine.watchdog import Watchdog
from mini_workflow.errors import UsageError
from mini_workflow.ports.queue import FencedStore

T = TypeVar("T")


class Inspection:
    """Looks at runs in memory, once it is sure that they are as in the store, or at replayed ones."""

    def __init__(self, store: FencedStore, turns: Turns, cache: Cache, watchdog: Watchdog) -> None:
        self._store = store
        self._turns = turns
        self._cache = cache
        self._queries = Queries(turns, cache, watchdog)

    def ask(self, request: Ask) -> None:
        """Answer a query, by its reply."""
        self._refresh(request.execution_id)
        self._queries.answer(request)

    def refusal(self, execution_id: str, request: events.UpdateRequested) -> Failure | None:
        """Return why an update would be refused now, or None if it would be accepted or has been,
        and of an execution that is blocked: its code is not asked.

        Raises ExecutionNotFound, or what keeps its code from going on.
        """
        self._refresh(execution_id)
        head = self._store.head(execution_id)
        if head is not None and head.status == "blocked":
            return None

        def refusal(run: Run) -> Failure | None:
            if request.id in run.state.updates or run.state.closed:
                return None
            if run.fault is not None and type(run.fault) is not UsageError:
                raise run.fault
            return self._turns.watched(run, lambda: run.messages.refusal(request))

        return self._look(execution_id, refusal)

    def is_open(self, execution_id: str, seq: int, secret: str) -> bool:
        """Return whether a promise can be completed by that secret. Raises ExecutionNotFound."""
        self._refresh(execution_id)
        return self._look(
            execution_id,
            lambda run: seq in run.state.promises and run.state.secret(seq) == secret,
        )

    def _look(self, name: str, look: Callable[[Run], T]) -> T:
        run = existing(name, self._turns.look(name))
        try:
            return look(run)
        finally:
            if run.loop.touched:
                self._cache.drop(name)
            self._turns.let_go(run)

    def _refresh(self, name: str) -> None:
        """Have what is in memory be as of now."""
        standing = self._store.standing(name) if self._store.is_current(name) else None
        if standing is None:
            self._cache.drop(name)
        else:
            self._cache.drop_unless(name, standing.length)

"""LateOutcomes: what attempts have come to that could not be sent."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mini_workflow.core import wire
from mini_workflow.core.events import Message
from mini_workflow.core.report_limits import ReportLimits
from mini_workflow.core.state import ExecutionState
from mini_workflow.core.wire import decode_message
from mini_workflow.engine.cache import Cache
from mini_workflow.errors import WireError
from mini_workflow.ports import Reader
from mini_workflow.ports.queue import Dispatch

log = logging.getLogger("mini_workflow.engine")


class LateOutcomes:
    """Asked before a turn counts attempts as lost, or has them run once more."""

    def __init__(
        self, store: Reader, cache: Cache, dispatch: Dispatch, limits: ReportLimits
    ) -> None:
        self._store = store
        self._cache = cache
        self._dispatch = dispatch
        self._limits = limits

    def find(self, execution_id: str, now: int) -> list[Message]:
        """Return the outcomes of the attempts that are about to count as lost, where the workers could
        keep them and not send them: what is done is not done again. Raises StoreError.
        """
        try:
            late = self._late(execution_id, now)
        except WireError as error:
            log.error("[%s] its history is unreadable: %s", execution_id, error)
            return []
        return self.outcomes(execution_id, late)

    def outcomes(self, execution_id: str, attempts: Sequence[tuple[int, int]]) -> list[Message]:
        """Return the outcomes that are kept of attempts, (seq, attempt). Raises StoreError."""
        try:
            texts = self._dispatch.outcomes(execution_id, attempts) if attempts else []
            return [decode_message(line) for text in texts for line in text.split("\n")]
        except WireError as error:
            log.error("[%s] what its attempts have come to is unreadable: %s", execution_id, error)
            return []

    def _late(self, execution_id: str, now: int) -> list[tuple[int, int]]:
        """Return the attempts, as (seq, attempt), that should have been reported by now."""
        live = self._cache.get(execution_id)
        if live is not None:
            state = live.run.state
        else:
            stored, state = self._store.load(execution_id), ExecutionState()
            state.limits = self._limits
            for line in () if stored is None else stored.events:
                state.apply(wire.decode(line))  # type: ignore[arg-type]
        return [(seq, state.tasks[seq].attempt) for seq in state.deadlines.passed(now)]

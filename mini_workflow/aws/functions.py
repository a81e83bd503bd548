"""Functions: what the two functions of an engine do when Lambda invokes them."""

from __future__ import annotations

import secrets
import threading
from typing import Any, Final

from mini_workflow.aws.inbox import Inbox
from mini_workflow.aws.inquiry import Inquiry
from mini_workflow.aws.observe import Metrics, prepare_logging
from mini_workflow.aws.parts import Parts
from mini_workflow.aws.worker import Worker
from mini_workflow.backends.aws.store import Shelf
from mini_workflow.engine.orchestrator import Orchestrator
from mini_workflow.errors import UsageError
from mini_workflow.workflow import Registry

INQUIRIES: Final = ("query", "update", "promise")


class Functions:
    """Made once per process, when the first event comes."""

    def __init__(
        self,
        parts: Parts,
        registry: Registry,
        cache_size: int,
        turn_limit: float | None,
        history_limit: int,
    ) -> None:
        prepare_logging()
        self._shelf = Shelf(parts.histories, cache_size)
        self._metrics = Metrics()
        self._orchestrator = Orchestrator(
            self._shelf,
            parts.dispatch,
            parts.clock,
            codec=parts.codec,
            definitions=registry.get,
            entropy=lambda: secrets.randbits(53),
            cache_size=cache_size,
            turn_limit=turn_limit,
            history_limit=history_limit,
            each=parts.clients.each,
            on_turn=self._metrics.turn,
        )
        self._inbox = Inbox(parts, self._orchestrator, self._metrics)
        self._inquiry = Inquiry(parts, self._orchestrator.inspection, self._shelf)
        self._worker = Worker(parts)
        self._lock = threading.Lock()

    def orchestrate(self, event: Any, context: Any) -> Any:
        """See `AWSRuntime.orchestrate`."""
        if isinstance(event, dict) and isinstance(event.get("Records"), list):  # pyright: ignore[reportUnknownMemberType]
            with self._lock:
                return self._inbox.take(event["Records"])  # pyright: ignore[reportUnknownArgumentType]
        if isinstance(event, dict) and event.get("mini_workflow") in INQUIRIES:  # pyright: ignore[reportUnknownMemberType]
            with self._lock:
                return self._inquiry.answer(event)  # pyright: ignore[reportUnknownArgumentType]
        raise UsageError(
            "the orchestrator takes batches of its queue, and what a runtime asks of it; this is "
            f"neither: {str(event)[:500]}"  # pyright: ignore[reportUnknownArgumentType]
        )

    def execute(self, event: Any, context: Any) -> Any:
        """See `AWSRuntime.execute`."""
        return self._worker.execute(event, context)

    def evict(self) -> None:
        """See `AWSRuntime.evict`."""
        with self._lock:
            self._orchestrator.evict()
            self._shelf.forget_all()

    def close(self) -> None:
        """Release what this process holds."""
        with self._lock:
            self._orchestrator.close()
        self._worker.close()

"""Handle invocations of the two functions of an engine."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.core.records import replace
from mini_workflow.core.report_limits import ReportLimits
from mini_workflow.core.seed import ENTROPY_BITS
from mini_workflow.engine.deletions import retention_of
from mini_workflow.engine.delivery import OfAnotherVersion
from mini_workflow.engine.intercepted import telling
from mini_workflow.errors import UsageError
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.runtimes.aws.telemetry import Metrics, prepare_logging
from mini_workflow.runtimes.aws.time_left import TimeLeft
from mini_workflow.runtimes.aws.versions import remark_on
from mini_workflow.settings import is_queue
from mini_workflow.stores.aws.limits import (
    LONGEST_IN_HAND,
    LONGEST_INVOCATION,
    REPORT_MARGIN,
    WAITS_FOR_WORKER,
    WAITS_IN_QUEUE,
)
from mini_workflow.stores.cached import CachedStore
from mini_workflow.stores.s3.execution_object import ExecutionObject
from mini_workflow.workflow import Registry

if TYPE_CHECKING:
    from mini_workflow.engine.orchestrator import Orchestrator
    from mini_workflow.engine.turn import Turn
    from mini_workflow.runtimes.aws.event_batch import EventBatch
    from mini_workflow.runtimes.aws.query_handler import QueryHandler
    from mini_workflow.runtimes.aws.retention import Retention
    from mini_workflow.runtimes.aws.worker import Worker

LIMITS: Final = ReportLimits(
    queued=WAITS_FOR_WORKER * 1_000,
    longest=LONGEST_INVOCATION * 1_000,
    margin=REPORT_MARGIN * 1_000,
)
"""The limits of attempts that the worker function runs. An attempt may still wait for its function, which
cannot be seen. So all the time that Lambda allows has to pass before it counts as lost, whatever the task's
timeout: attempts of a fan-out that wait for workers must not count as lost."""

PULLED: Final = ReportLimits(
    queued=WAITS_IN_QUEUE * 1_000,
    longest=LONGEST_IN_HAND * 1_000,
    margin=REPORT_MARGIN * 1_000,
)
"""The limits of attempts that a pull worker takes from its queue, where they wait until there is one. Another
worker notices the death of a worker long before these limits."""

ASKED: Final = ("query", "update", "promise")


class Handlers:
    """The handlers of the two functions of an engine, made once per process with the first event. Each
    function makes, and imports, only the parts that it needs.
    """

    def __init__(
        self,
        parts: Container,
        registry: Registry,
        cache_size: int,
        turn_limit: float | None,
        history_limit: int,
        retention: int | None = None,
    ) -> None:
        prepare_logging()
        self._parts = parts
        self._registry = registry
        self._limits = (cache_size, turn_limit, history_limit)
        self._keep = retention
        self._metrics = Metrics()
        self._lock = threading.Lock()

    @cached_property
    def _cached(self) -> CachedStore[ExecutionObject]:
        return CachedStore(self._parts.histories, self._limits[0])

    @cached_property
    def _tell(self) -> Callable[[Turn], None] | None:
        return telling(self._parts.interceptors, self._cached)

    @cached_property
    def _orchestrator(self) -> Orchestrator:
        from mini_workflow.engine.orchestrator import Orchestrator

        cache_size, turn_limit, history_limit = self._limits
        return Orchestrator(
            self._cached,
            self._parts.dispatch,
            self._parts.clock,
            codec=self._parts.codec,
            definitions=self._parts.interceptors.definitions(self._registry.get),
            entropy=lambda: secrets.randbits(ENTROPY_BITS),
            cache_size=cache_size,
            turn_limit=turn_limit,
            history_limit=history_limit,
            limits=_limits(self._parts.settings.workers()),
            streams=self._parts.streams,
            each=self._parts.clients.each,
            on_turn=self._on_turn,
            around_task=self._parts.interceptors.around_task,
            claim=self._claim,
            behind=self._parts.backlog.is_behind,
        )

    def _on_turn(self, turn: Turn) -> None:
        self._metrics.turn(turn)
        if self._tell is not None:
            self._tell(turn)

    def _claim(self, name: str) -> str:
        """Let this version go on with an execution. Returns a remark for the case that its turn blocks it;
        empty for none. Raises OfAnotherVersion, StoreUnavailable.
        """
        versions, document = self._parts.versions, self._cached.document(name)
        written_by = "" if document is None else document.written_by
        if other := versions.other(written_by):
            raise OfAnotherVersion(other)
        if not versions.is_taken_back(written_by):
            return ""
        return remark_on(written_by, versions.own)

    @cached_property
    def _inbox(self) -> EventBatch:
        from mini_workflow.runtimes.aws.event_batch import EventBatch

        return EventBatch(self._parts, self._orchestrator, self._metrics)

    @cached_property
    def _retention(self) -> Retention | None:
        keep = self._keep
        if keep is None and (seconds := self._parts.settings.execution_retention()) is not None:
            keep = retention_of(seconds)
        if keep is None:
            return None
        from mini_workflow.runtimes.aws.retention import Retention

        return Retention(self._parts, keep)

    @cached_property
    def _query_handler(self) -> QueryHandler:
        from mini_workflow.runtimes.aws.query_handler import QueryHandler

        return QueryHandler(self._parts, self._orchestrator.queries, self._cached, self._claim)

    @cached_property
    def _worker(self) -> Worker:
        from mini_workflow.runtimes.aws.worker import Worker

        return Worker(self._parts)

    def orchestrate(self, event: Any, context: Any) -> Any:
        """See `AWSRuntime.orchestrate`."""
        try:
            return self._orchestrate(event, context)
        finally:
            self._parts.interceptors.flush()

    def _orchestrate(self, event: Any, context: Any) -> Any:
        if isinstance(event, dict) and isinstance(event.get("Records"), list):  # pyright: ignore[reportUnknownMemberType]
            from mini_workflow.engine.orchestrator import FOREVER

            time_left = TimeLeft(context, self._parts.clock, FOREVER, event.get("time_left"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
            with self._lock, self._handed_over(event):  # pyright: ignore[reportUnknownArgumentType]
                answer = self._inbox.take(event["Records"], time_left)  # pyright: ignore[reportUnknownArgumentType]
                if self._retention is not None:
                    self._retention.work(time_left)
                return answer
        if isinstance(event, dict) and event.get("mini_workflow") in ASKED:  # pyright: ignore[reportUnknownMemberType]
            with self._lock, self._handed_over(event):  # pyright: ignore[reportUnknownArgumentType]
                return self._query_handler.answer(event)  # pyright: ignore[reportUnknownArgumentType]
        raise UsageError(
            "the orchestrator takes batches of its queue and requests of a runtime. Check who invokes it: "
            f"this event is neither: {str(event)[:500]}"  # pyright: ignore[reportUnknownArgumentType]
        )

    @contextmanager
    def _handed_over(self, event: dict[str, Any]) -> Generator[None]:
        """Have this version handle an event that another version has handed over, and not route it again."""
        versions = self._parts.versions
        versions.is_handed_over = event.get("handed_over") is True
        try:
            yield
        finally:
            versions.is_handed_over = False

    def execute(self, event: Any, context: Any) -> Any:
        """See `AWSRuntime.execute`."""
        with self._lock:
            worker = self._worker
        try:
            return worker.execute(event, context)
        finally:
            self._parts.interceptors.flush()

    def evict(self) -> None:
        """See `AWSRuntime.evict`."""
        with self._lock:
            self._orchestrator.evict()
            self._cached.forget_all()

    def close(self) -> None:
        """Release the parts that this process has made."""
        with self._lock:
            if "_orchestrator" in vars(self):
                self._orchestrator.close()
        if "_worker" in vars(self):
            self._worker.close()


def _limits(workers: Mapping[str, str]) -> ReportLimits:
    """Return the limits of attempts, by the workers of the engine."""
    pulling = {name: PULLED for name, place in workers.items() if is_queue(place)}
    return replace(LIMITS, others=pulling) if pulling else LIMITS

"""Export traces and metrics of executions to OpenTelemetry, by an interceptor.

    runtime = LocalRuntime("state.db", interceptors=[OpenTelemetry()])

Only committed operations are exported. The identifier of each span is derived from the history, so that
replays, takeovers and other processes compute the same one, and no span is exported twice. Needs the extra
``mini-workflow[otel]``, and a TracerProvider and a MeterProvider of OpenTelemetry's SDK.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry import metrics, trace
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from mini_workflow.core import events
from mini_workflow.core.endings import Ended
from mini_workflow.core.failure import Failure
from mini_workflow.engine.runtime import Runtime
from mini_workflow.errors import RuntimeClosed
from mini_workflow.interceptors import ClientCall, Committed, Interceptor, SentCall
from mini_workflow.schedules.workflow import SCHEDULE
from mini_workflow.task import CurrentTask
from mini_workflow.trace_context import (
    HEADER,
    TraceContext,
    inside,
    read_traceparent,
    started_by,
)
from mini_workflow.workflow import BUILTIN

SCOPE: Final = "mini_workflow"
"""The name of the instrumentation scope, and the beginning of the names of attributes and metrics."""

FLUSH_TIMEOUT: Final = 5_000
"""Milliseconds that an exporter has at the end of a process or an invocation. Our own bound."""

_STATE: Final = "tracestate"
_CARRYING: Final = ("start", "fork", "signal", "update")
_ASKING: Final = ("query", "update")
_PROPAGATOR: Final = TraceContextTextMapPropagator()

Attributes = dict[str, AttributeValue]


class OpenTelemetry(Interceptor):
    """Exports a span per execution, run, attempt of a task, message and call of a client; and metrics.

    Give it to every process that works with the executions: clients, runtimes, workers.

    Args:
        configure: sets up OpenTelemetry. It is called once in each process before the first export, also
            in worker processes, to which it is copied by pickle: a function at the top level of a module.
        attributes: attributes of every span, by name.
        tracer_provider: exports the spans; by default the global one. A provider cannot be copied: with
            worker processes leave it out, and give `configure`, which sets the global ones.
        meter_provider: exports the metrics; by default the global one.
    """

    def __init__(
        self,
        configure: Callable[[], object] | None = None,
        *,
        attributes: Mapping[str, AttributeValue] | None = None,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._configure = configure
        self._attributes: Attributes = dict(attributes or {})
        self._providers = (tracer_provider, meter_provider)
        self._own: _Telemetry | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_own": None}

    @property
    def _telemetry(self) -> _Telemetry:
        own = self._own
        if own is None:
            with _CONFIGURING:
                if self._configure is not None and self._configure not in _CONFIGURED:
                    self._configure()
                    _CONFIGURED.append(self._configure)
                own = self._own = self._own or _Telemetry(self._attributes, *self._providers)
        return own

    @contextmanager
    def around_call(self, call: ClientCall) -> Generator[None]:
        """Make the span of a call, and put it into the headers of a start, a signal or an update."""
        telemetry = self._telemetry
        about: Attributes = {f"{SCOPE}.execution.id": call.execution_id}
        if call.workflow:
            about[f"{SCOPE}.workflow"] = call.workflow
        if call.name:
            about[f"{SCOPE}.name"] = call.name
        if call.count > 1:
            about[f"{SCOPE}.count"] = call.count
        kind = SpanKind.CLIENT if call.kind in _ASKING else SpanKind.PRODUCER
        name = " ".join(filter(None, (call.kind, call.workflow or call.name)))
        parent = None
        if not trace.get_current_span().get_span_context().is_valid:
            parent = _PROPAGATOR.extract(call.headers)  # the trace that the caller gave by headers=
        with telemetry.tracer.start_as_current_span(
            name, parent, kind, {**telemetry.attributes, **about}
        ):
            if call.kind in _CARRYING:
                _PROPAGATOR.inject(call.headers)
            yield

    def sending(self, call: SentCall) -> None:
        """Put the span of the sending run into the headers of a message."""
        if call.workflow == SCHEDULE:
            # Executions that it starts for years do not belong to the trace in which it was created.
            call.headers.pop(HEADER, None)
            call.headers.pop(_STATE, None)
            return
        if call.workflow.startswith(BUILTIN):
            return
        call.headers[HEADER] = str(_run(call.execution_id, call.received, call.run))
        if _STATE in call.received:
            call.headers[_STATE] = call.received[_STATE]

    @contextmanager
    def around_task(self, task: CurrentTask) -> Generator[None]:
        """Make the span of the attempt the parent of spans of the code. It is exported once its outcome is
        committed.
        """
        telemetry = self._telemetry
        scheduled = task.scheduled_at
        if scheduled is not None:
            waited = max(0.0, time.time() - scheduled.timestamp())
            telemetry.queue_wait.record(waited, {f"{SCOPE}.task": task.name})
        place = read_traceparent(task.traceparent)
        token = contexts.attach(_as_parent(place, task.headers))
        try:
            yield
        finally:
            contexts.detach(token)

    def committed(self, committed: Committed) -> None:
        """Export the spans and metrics of operations that have ended."""
        if not committed.workflow.startswith(BUILTIN):
            self._telemetry.tell(committed)

    def observe(self, runtime: Runtime) -> None:
        """Export gauges: the number of executions by status, and of the attempts that run and wait in this
        process. They are read whenever the meter provider collects.
        """
        meter = metrics.get_meter(SCOPE, meter_provider=self._providers[1])

        def executions(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            with suppress(RuntimeClosed):
                for status, count in runtime.metrics().executions.items():
                    yield metrics.Observation(count, {f"{SCOPE}.status": status})

        def tasks(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            with suppress(RuntimeClosed):
                now = runtime.metrics()
                yield metrics.Observation(now.tasks_running, {f"{SCOPE}.state": "running"})
                yield metrics.Observation(now.tasks_waiting, {f"{SCOPE}.state": "waiting"})

        meter.create_observable_gauge(
            f"{SCOPE}.executions", [executions], description="Executions in the store"
        )
        meter.create_observable_gauge(
            f"{SCOPE}.tasks", [tasks], description="Attempts in this process"
        )

    def flush(self) -> None:
        """Have the providers export their buffered data."""
        if self._own is None:
            return
        tracers, meters = self._providers
        for provider in (
            tracers or trace.get_tracer_provider(),
            meters or metrics.get_meter_provider(),
        ):
            force: Callable[..., object] | None = getattr(provider, "force_flush", None)
            if force is not None:
                force(timeout_millis=FLUSH_TIMEOUT)


_CONFIGURING: Final = threading.RLock()
_CONFIGURED: Final[list[Callable[[], object]]] = []


class _DerivedIds:
    """An IdGenerator whose next identifiers are those of `place`. The engine's threads take turns."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.place = TraceContext("1" * 32, "1" * 16)

    def generate_span_id(self) -> int:
        """Return the identifier of the span."""
        return int(self.place.span, 16)

    def generate_trace_id(self) -> int:
        """Return the identifier of its trace."""
        return int(self.place.trace, 16)

    def is_trace_id_random(self) -> bool:
        """Return whether the identifier of the trace is random."""
        return False


class _Telemetry:
    """The exporters of one process."""

    def __init__(
        self,
        attributes: Attributes,
        tracer_provider: trace.TracerProvider | None,
        meter_provider: metrics.MeterProvider | None,
    ) -> None:
        self.attributes = attributes
        self._provider = tracer_provider
        self._tracers: tuple[object, Any, _DerivedIds] | None = None
        meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
        self.queue_wait = meter.create_histogram(
            f"{SCOPE}.task.queue_wait",
            "s",
            description="Time that an attempt waited until its code began",
        )
        self._attempts = meter.create_histogram(
            f"{SCOPE}.task.duration",
            "s",
            description="Time from the due time of an attempt to its outcome",
        )
        self._executions = meter.create_histogram(
            f"{SCOPE}.execution.duration", "s", description="Time from the start to the end"
        )
        self._retries = meter.create_counter(
            f"{SCOPE}.task.retries", description="Attempts that failed and are made again"
        )
        self._blocked = meter.create_counter(
            f"{SCOPE}.execution.blocked", description="Number of times that executions were blocked"
        )

    @property
    def tracer(self) -> Any:
        """The tracer for spans of the running code."""
        provider = self._provider or trace.get_tracer_provider()
        return provider.get_tracer(SCOPE)

    @property
    def _exporting(self) -> tuple[Any, _DerivedIds]:
        """The tracer for committed operations, and the generator of its identifiers."""
        provider, known = self._provider or trace.get_tracer_provider(), self._tracers
        if known is None or known[0] is not provider:
            # A copy, since the provider keeps one tracer for all code. Without the SDK the tracer has no
            # generator, and exports nothing.
            tracer: Any = copy(provider.get_tracer(SCOPE))
            known = self._tracers = (provider, tracer, _DerivedIds())
            tracer.id_generator = known[2]
        return known[1:]

    def tell(self, committed: Committed) -> None:
        """Export the spans and metrics of the operations that a commit has ended."""
        workflow: Attributes = {f"{SCOPE}.workflow": committed.workflow}
        name, headers = committed.execution_id, committed.headers
        run = _run(name, headers, committed.run)
        for ended in committed.ended:
            if ended.kind == "attempt":
                self._attempt(committed, ended, run, workflow)
            else:
                self._update(committed, ended, run)
        for event in committed.events:
            if isinstance(event, (events.SignalReceived, events.SignalUnhandled)):
                self._signal(committed, event, run)
            elif type(event) in events.CLOSING:
                self._closed(committed, event, run, workflow)
        if committed.blocked_by:
            self._blocked.add(1, {**workflow, f"{SCOPE}.reason": committed.blocked_by})

    def _attempt(
        self, committed: Committed, ended: Ended, run: TraceContext, workflow: Attributes
    ) -> None:
        name, headers = committed.execution_id, committed.headers
        task: Attributes = {**workflow, f"{SCOPE}.task": ended.name}
        about: Attributes = {
            **task,
            f"{SCOPE}.task.number": ended.seq,
            f"{SCOPE}.attempt": ended.attempt,
            f"{SCOPE}.outcome": ended.how,
        }
        if ended.worker:
            about[f"{SCOPE}.worker"] = ended.worker
        place = inside(name, headers, f"{ended.seq}:{ended.attempt}")
        self._export(
            committed,
            f"task {ended.name}",
            place,
            run,
            (ended.since, ended.at),
            about,
            ended.failure,
        )
        seconds = (ended.at - ended.since) / 1_000
        self._attempts.record(seconds, {**task, f"{SCOPE}.outcome": ended.how})
        if ended.again:
            self._retries.add(1, task)

    def _update(self, committed: Committed, ended: Ended, run: TraceContext) -> None:
        place = inside(committed.execution_id, committed.headers, f"update:{ended.id}")
        about: Attributes = {f"{SCOPE}.name": ended.name, f"{SCOPE}.outcome": ended.how}
        when = (ended.since, ended.at)
        self._export(
            *(committed, f"update {ended.name}", place, run, when, about, ended.failure),
            kind=SpanKind.SERVER,
            sent_by=ended.headers,
        )

    def _signal(
        self,
        committed: Committed,
        event: events.SignalReceived | events.SignalUnhandled,
        run: TraceContext,
    ) -> None:
        if event.first_run:
            return  # an earlier run has received the signal, and handed it on
        sender = (event.headers or {}).get(HEADER, "")
        what = f"signal:{event.id or f'{event.name}:{event.at}:{sender}'}"
        place = inside(committed.execution_id, committed.headers, what)
        how = "received" if isinstance(event, events.SignalReceived) else "unhandled"
        about: Attributes = {f"{SCOPE}.name": event.name, f"{SCOPE}.outcome": how}
        self._export(
            *(committed, f"signal {event.name}", place, run, (event.at, event.at), about),
            kind=SpanKind.CONSUMER,
            sent_by=event.headers,
        )

    def _closed(
        self, committed: Committed, event: Any, run: TraceContext, workflow: Attributes
    ) -> None:
        name, headers = committed.execution_id, committed.headers
        at = committed.at
        failure: Failure | None = getattr(event, "failure", None)
        continues = isinstance(event, events.ContinuedAsNew)
        why = getattr(event, "reason", "")
        error = why if isinstance(event, events.ExecutionTerminated) else None
        about: Attributes = {
            f"{SCOPE}.run": committed.run,
            f"{SCOPE}.status": "continued" if continues else committed.status,
        }
        if why:
            about[f"{SCOPE}.reason"] = why
        again = f":{committed.rerun}" if committed.rerun else ""
        whole = inside(name, headers, f"execution{again}")
        when = (committed.run_started_at, at)
        label = f"run {committed.workflow}"
        self._export(committed, label, run, whole, when, about, failure, error=error)
        if continues:
            return
        began = committed.run_started_at if committed.rerun == committed.run else 0
        began = began or committed.started_at
        self._executions.record(
            max(0, at - began) / 1_000, {**workflow, f"{SCOPE}.status": committed.status}
        )
        self._export(
            *(committed, f"execution {committed.workflow}", whole, started_by(name, headers)),
            *((began, at), about, failure),
            error=error,
            kind=SpanKind.CONSUMER,
        )

    def _export(
        self,
        committed: Committed,
        name: str,
        place: TraceContext,
        parent: TraceContext,
        when: tuple[int, int],
        about: Attributes,
        failure: Failure | None = None,
        *,
        error: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        sent_by: Mapping[str, str] | None = None,
    ) -> None:
        attributes = {
            **self.attributes,
            f"{SCOPE}.execution.id": committed.execution_id,
            f"{SCOPE}.workflow": committed.workflow,
            **about,
        }
        begun, ended = when[0] * 1_000_000, max(when) * 1_000_000
        tracer, ids = self._exporting
        with ids.lock:
            ids.place = place
            span = tracer.start_span(
                name,
                _as_parent(parent, committed.headers),
                kind,
                attributes,
                links=list(_links(sent_by)),
                start_time=begun,
            )
        if failure is not None:
            span.set_status(
                StatusCode.ERROR, f"{failure.type.rpartition(':')[2]}: {failure.message}"
            )
            what: Attributes = {
                "exception.type": failure.type,
                "exception.message": failure.message,
                "exception.stacktrace": failure.traceback or "",
            }
            span.add_event("exception", what, timestamp=ended)
        elif error is not None:
            span.set_status(StatusCode.ERROR, error or "terminated")
        span.end(end_time=ended)


def _run(execution_id: str, headers: Mapping[str, str], run: int) -> TraceContext:
    """Return the trace context of a run."""
    return inside(execution_id, headers, f"run:{run}")


def _as_parent(place: TraceContext | None, headers: Mapping[str, str]) -> contexts.Context:
    """Return the context with that parent; an empty context if there is none."""
    if place is None or not place.span:
        return contexts.Context()
    carried = {HEADER: str(place)}
    if _STATE in headers:
        carried[_STATE] = headers[_STATE]
    return _PROPAGATOR.extract(carried, contexts.Context())


def _links(headers: Mapping[str, str] | None) -> Iterable[Link]:
    place = read_traceparent((headers or {}).get(HEADER))
    if place is not None:
        yield Link(
            SpanContext(
                int(place.trace, 16),
                int(place.span, 16),
                is_remote=True,
                trace_flags=trace.TraceFlags(place.flags),
            )
        )

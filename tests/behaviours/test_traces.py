"""112: traces of executions by OpenTelemetry. 113: metrics of a runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from mini_workflow import (
    ClientCall,
    Context,
    Interceptor,
    RetryPolicy,
    UsageError,
    current_task,
    workflow,
)
from mini_workflow.integrations.opentelemetry import OpenTelemetry
from tests.behaviours.stage import Stage, gate
from tests.waiting import WAIT, eventually


class Traces:
    """Keeps what is exported, in memory; `seen` is what happens in the code of tasks."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def interceptor(self) -> OpenTelemetry:
        return OpenTelemetry(tracer_provider=self.provider, meter_provider=self.meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def wait_for(self, name: str, count: int = 1) -> None:
        """The spans follow the commit: a result may be known a moment before."""
        eventually(lambda: self.names()[name] >= count)

    def names(self) -> Counter[str]:
        return Counter(span.name for span in self.spans)

    def find(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def check(self) -> None:
        """No span is there twice."""
        ids = Counter(span.context.span_id for span in self.spans if span.context is not None)
        twice = {span_id for span_id, count in ids.items() if count > 1}
        assert not [s.name for s in self.spans if s.context and s.context.span_id in twice]

    def tree(self, name: str) -> Any:
        """What is inside of the span of that name, by the names."""
        return self._inside(self.find(name))

    def _inside(self, span: ReadableSpan) -> Any:
        mine = span.context
        assert mine is not None
        inner = [s for s in self.spans if s.parent is not None and s.parent.span_id == mine.span_id]
        assert {s.context.trace_id for s in inner if s.context} <= {mine.trace_id}
        return sorted((s.name, self._inside(s)) for s in inner)

    def numbers(self) -> dict[str, float]:
        """The metrics by name: of a histogram how often it was measured."""
        data = self.reader.get_metrics_data()
        found: dict[str, float] = Counter()
        for resource in [] if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        found[metric.name] += getattr(point, "count", getattr(point, "value", 0))
        return found


TRACES: dict[str, Traces] = {}


@pytest.fixture(autouse=True)
def traces() -> Any:
    TRACES["now"] = Traces()
    yield TRACES["now"]
    TRACES["now"].provider.shutdown()
    TRACES.pop("now").meters.shutdown()


def inside(name: str) -> None:
    tracer = TRACES["now"].provider.get_tracer("tests")
    with tracer.start_as_current_span(f"{name} of {current_task().attempt}"):
        if name == "charge" and current_task().attempt == 1:
            raise ConnectionError("no answer")


async def inside_async(name: str) -> None:
    inside(name)


@workflow("traces.child")
async def child(ctx: Context) -> None:
    await ctx.task(inside, "pack", name="pack")


@workflow("traces.order")
async def order(ctx: Context, run: int = 1) -> str:
    ctx.on_update("change", lambda value: value)
    ctx.on_query("run", lambda: run)
    if run == 1:
        policy = RetryPolicy(max_attempts=2, initial=0.01)
        await ctx.task(inside, "charge", name="charge", retry=policy)
        await ctx.task(inside_async, "mail", name="mail")
        ctx.continue_as_new(2)
    await ctx.task(inside, "count", name="count", inline=True)
    await ctx.child(child)
    await ctx.wait_for_signal("go")
    return "done"


def test_112_one_trace_for_an_execution(runtime: Stage, traces: Traces) -> None:
    """The execution, its runs, each attempt, its children, and what the code of tasks traces."""
    runtime.reopen(interceptors=[traces.interceptor()])
    with traces.provider.get_tracer("tests").start_as_current_span("request"):
        execution = runtime.start(order, id="o-1")
        assert execution.update("change", 5, timeout=WAIT) == 5
        execution.signal("go")
        assert execution.result(WAIT) == "done"
    traces.wait_for("execution traces.order")
    traces.check()
    charges = [
        ("task charge", [("charge of 1", [])]),
        ("task charge", [("charge of 2", [])]),
    ]
    packs = [("task pack", [("pack of 1", [])])]
    packed = ("execution traces.child", [("run traces.child", packs)])
    counts = [("task count", [("count of 1", [])])]
    (top,) = [inner for name, inner in traces.tree("request") if name == "start traces.order"]
    ((name, runs),) = top
    assert name == "execution traces.order"
    (first, second) = sorted(runs, key=lambda run: "task charge" in str(run), reverse=True)
    messages = {"update change", "signal go"}
    both = [entry for _, inner in (first, second) for entry in inner]
    assert sorted(e for e in both if e[0] not in messages) == sorted(
        [*charges, ("task mail", [("mail of 1", [])]), *counts, packed]
    )
    # Received once, by whichever run, and linked to the call.
    assert sorted(e for e in both if e[0] in messages) == [("signal go", []), ("update change", [])]
    for name in messages:
        sent, received = sorted(
            (span for span in traces.spans if span.name == name),
            key=lambda span: len(span.links),
        )
        assert not sent.links
        assert sent.context is not None
        assert received.links[0].context.span_id == sent.context.span_id


class Late(Interceptor):
    """Holds a signal back, once it has its time, until a run has begun that begins later."""

    execution: Any = None

    @contextmanager
    def around_call(self, call: ClientCall) -> Generator[None]:
        if call.name == "go":
            gate("late").open()
            eventually(lambda: self.execution.query("run") == 2)
        yield


@workflow("traces.late")
async def late(ctx: Context, run: int = 1) -> None:
    ctx.on_query("run", lambda: run)
    if run == 1:
        await ctx.task(stand_before, "late", name="wait")
        ctx.continue_as_new(2)
    await ctx.wait_for_signal("end")
    if run == 2:
        # Two signals wait: they are handed on.
        await ctx.task(inside, "one", name="one")
        ctx.continue_as_new(3)
    await ctx.wait_for_signal("more")
    await ctx.wait_for_signal("go")


def test_112_a_signal_is_of_the_run_that_was_first_to_record_it(
    runtime: Stage, traces: Traces
) -> None:
    """However long before it was sent; those that are handed on are not exported once more."""
    holds = Late()
    runtime.reopen(interceptors=[traces.interceptor(), holds])
    execution = holds.execution = runtime.start(late, id="o-1")
    gate("late").wait_until_reached()
    execution.signal("go")
    execution.signal("more")
    execution.signal("end")
    eventually(lambda: execution.query("run") == 3)
    execution.signal("end")
    execution.result(WAIT)
    traces.wait_for("execution traces.late")
    traces.check()
    spans = {s.context.span_id: s for s in traces.spans if s.context is not None}
    found = [s for s in traces.spans if s.name.startswith("signal ") and s.links]
    runs = [spans[s.parent.span_id].attributes for s in found if s.parent is not None]
    by_name = sorted(
        (s.name, r["mini_workflow.run"]) for s, r in zip(found, runs, strict=True) if r
    )
    assert by_name == [("signal end", 2), ("signal end", 3), ("signal go", 2), ("signal more", 2)]


def test_112_failures_are_errors(runtime: Stage, traces: Traces) -> None:
    """Of attempts, runs and executions, with what was raised."""
    runtime.reopen(interceptors=[traces.interceptor()])
    execution = runtime.start(fails, id="o-1")
    with pytest.raises(ConnectionError):
        execution.result(WAIT)
    traces.wait_for("execution traces.fails")
    traces.check()
    for name in ("task charge", "run traces.fails", "execution traces.fails"):
        span = traces.find(name)
        assert span.status.status_code == StatusCode.ERROR
        assert span.status.description == "ConnectionError: no answer"
        (event,) = span.events
        attributes = event.attributes or {}
        assert attributes["exception.message"] == "no answer"
    assert "inside" in str(attributes["exception.stacktrace"])
    runtime.start(waits, id="o-2").terminate("enough")
    traces.wait_for("execution traces.waits")
    span = traces.find("execution traces.waits")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "enough")


@workflow("traces.fails")
async def fails(ctx: Context) -> None:
    await ctx.task(inside, "charge", name="charge", retry=RetryPolicy(max_attempts=1))


@workflow("traces.waits")
async def waits(ctx: Context) -> str:
    await ctx.task(inside, "one", name="one")
    return str(await ctx.wait_for_signal("go"))


def stand_before(name: str) -> None:
    gate(name).reached.set()
    assert gate(name).opened.wait(WAIT)


@workflow("traces.long")
async def long(ctx: Context) -> str:
    await ctx.task(inside, "one", name="one")
    retry = RetryPolicy(max_attempts=3, initial=0.01)
    await ctx.task(stand_before, "traces", name="two", retry=retry)
    await ctx.wait_for_signal("go")
    return "done"


@pytest.mark.parametrize("how", ["reopened", "died"])
def test_112_nothing_is_exported_twice(runtime: Stage, traces: Traces, how: str) -> None:
    """By replays, by another process that takes over, and by looking: a query replays too."""
    runtime.reopen(interceptors=[traces.interceptor()])
    execution = runtime.start(long, id="o-1")
    traces.wait_for("task one")
    gate("traces").wait_until_reached()
    if how == "died":
        runtime.die()
        gate("traces").open()
        runtime.runtime = runtime._open_runtime("state", interceptors=[traces.interceptor()])
    else:
        gate("traces").open()
        runtime.reopen(interceptors=[traces.interceptor()])
    execution = runtime.again(execution)
    execution.signal("go")
    assert execution.result(WAIT) == "done"
    traces.wait_for("execution traces.long")
    runtime.reopen(interceptors=[traces.interceptor()])
    runtime.again(execution).history()
    traces.check()
    names = traces.names()
    assert names["task one"] == 1
    assert names["execution traces.long"] == names["run traces.long"] == 1
    trace_ids = {s.context.trace_id for s in traces.spans if s.context and "long" in s.name}
    assert len(trace_ids) == 1


def test_112_what_is_run_again_has_a_span_of_its_own(runtime: Stage, traces: Traces) -> None:
    """In the same trace; what has ended before is not exported once more."""
    runtime.reopen(interceptors=[traces.interceptor()])
    execution = runtime.start(fails, id="o-1")
    with pytest.raises(ConnectionError):
        execution.result(WAIT)
    execution.retry()
    assert execution.result(WAIT) is None
    traces.wait_for("execution traces.fails", 2)
    traces.check()
    assert traces.names()["task charge"] == 2
    found = [span for span in traces.spans if span.name == "execution traces.fails"]
    assert [span.status.status_code for span in found] == [StatusCode.ERROR, StatusCode.UNSET]
    assert len({span.context.trace_id for span in found if span.context}) == 1


def test_112_metrics_are_exported(runtime: Stage, traces: Traces) -> None:
    """How long tasks and executions take and wait, retries, and what is blocked."""
    runtime.reopen(interceptors=[traces.interceptor()])
    execution = runtime.start(order, id="o-1")
    execution.signal("go")
    execution.result(WAIT)
    other = runtime.start(waits, id="o-2")
    traces.wait_for("task one")
    other.pause("for a while")
    eventually(lambda: traces.numbers().get("mini_workflow.execution.blocked") == 1)
    traces.wait_for("execution traces.order")
    numbers = traces.numbers()
    assert numbers["mini_workflow.task.duration"] == 6
    assert numbers["mini_workflow.task.retries"] == 1
    assert numbers["mini_workflow.execution.duration"] == 2
    # Inline tasks wait for nobody.
    assert numbers["mini_workflow.task.queue_wait"] == 5


def test_112_built_in_workflows_are_not_traced(runtime: Stage, traces: Traces) -> None:
    """What is debounced is in the trace of the first call."""
    runtime.reopen(interceptors=[traces.interceptor()])
    runtime.get_execution(runtime.debounce(child, key="k", delay=0)).result(WAIT)
    traces.wait_for("execution traces.child")
    assert not [n for n in traces.names() if "mini_workflow." in n and not n.startswith("start ")]
    found = traces.find("execution traces.child").context
    assert found is not None
    (call,) = [s.context for s in traces.spans if s.name.startswith("start ")]
    assert call is not None
    assert found.trace_id == call.trace_id


def test_113_a_runtime_has_metrics(runtime: Stage, traces: Traces) -> None:
    """What there is to do, how long it takes, and what has failed; on AWS the error says where they are."""
    execution = runtime.start(fails, id="o-1")
    with pytest.raises(ConnectionError):
        execution.result(WAIT)
    runtime.start(waits, id="o-2").pause("for a while")
    if not hasattr(runtime.runtime, "_engine"):
        with pytest.raises(UsageError, match="CloudWatch"):
            runtime.metrics()
        return
    found = runtime.metrics()
    assert found.executions["failed"] == found.executions["blocked"] == 1
    assert found.executions["running"] == 0
    assert found.failed_tasks == found.blocked == 1
    assert found.execution_time.count == 1
    assert found.turns >= found.commits >= 2
    text = found.to_prometheus()
    assert 'mini_workflow_executions{status="failed"} 1\n' in text
    assert "# TYPE mini_workflow_blocked_total counter\nmini_workflow_blocked_total 1\n" in text
    traces.interceptor().observe(runtime.runtime)
    assert traces.numbers()["mini_workflow.executions"] == 2
    # A task of the paused execution may have begun before.
    eventually(lambda: traces.numbers()["mini_workflow.tasks"] == 0)
    runtime.runtime.close()
    assert "mini_workflow.executions" not in traces.numbers()

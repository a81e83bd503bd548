"""A program that exports its spans to a file, from all of its processes, and may be killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from mini_workflow import Context, LocalRuntime, RetryPolicy, current_task, workflow
from mini_workflow.integrations.opentelemetry import OpenTelemetry
from tests.waiting import WAIT, eventually


class FileExporter(SpanExporter):
    """Appends a line for each span."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines: list[str] = []
        for span in spans:
            own = span.context
            assert own is not None
            about = {
                "name": span.name,
                "trace": own.trace_id,
                "span": own.span_id,
                "parent": None if span.parent is None else span.parent.span_id,
                "process": os.getpid(),
            }
            lines.append(json.dumps(about) + "\n")
        with self._path.open("a") as file:
            file.write("".join(lines))
        return SpanExportResult.SUCCESS


def configure(path: Path, held_back: bool) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = FileExporter(path)
    # As long as the test may take: what is exported then was flushed.
    later = partial(BatchSpanProcessor, schedule_delay_millis=1e6 * WAIT)
    provider.add_span_processor((later if held_back else SimpleSpanProcessor)(exporter))
    trace.set_tracer_provider(provider)


def work(name: str) -> None:
    with trace.get_tracer("program").start_as_current_span(f"inside {name}"):
        if name == "b" and current_task().attempt == 1:
            raise ConnectionError("no answer")


async def work_async(name: str) -> None:
    work(name)


def hang(reached: str) -> None:
    Path(reached).touch()
    threading.Event().wait(0 if Path(f"{reached}.again").exists() else WAIT)


@workflow("exporting.order")
async def order(ctx: Context, reached: str) -> str:
    retry = RetryPolicy(max_attempts=3, initial=0.01)
    await ctx.task(work, "a", name="a")
    await ctx.task(work, "b", name="b", retry=retry)
    await ctx.task(work_async, "c", name="c")
    await ctx.task(hang, reached, name="hang", retry=retry)
    return "done"


def main(folder: str, how: str, workers: str) -> None:
    """Run the workflow to its end; or be killed in its last task."""
    state, spans, reached = (Path(folder) / name for name in ("state.db", "spans", "reached"))
    # What is held back would be lost by a kill; here the question is what comes twice.
    around = [OpenTelemetry(partial(configure, spans, how == "end"))]
    if how == "again":
        Path(f"{reached}.again").touch()
    with LocalRuntime(state, interceptors=around, workers=int(workers), lease=1) as runtime:
        if how == "again":
            print(runtime.get_execution("o-1").result(WAIT))
            return
        execution = runtime.start_execution(order, str(reached), id="o-1")
        if how == "end":
            Path(f"{reached}.again").touch()
            print(execution.result(WAIT))
            return
        eventually(reached.exists)
        eventually(lambda: '"task c"' in spans.read_text())
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])

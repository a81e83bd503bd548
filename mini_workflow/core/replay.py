"""Replay a history: return the live run that it leads to."""

from __future__ import annotations

from collections.abc import Sequence

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Event
from mini_workflow.core.recorded import RecordedEvents
from mini_workflow.core.report_limits import ReportLimits
from mini_workflow.core.run import Definition, Inline, Run
from mini_workflow.core.slots import slots_by_name
from mini_workflow.errors import NonDeterminismError, WireError


def replay(
    definition: Definition,
    execution_id: str,
    history: Sequence[Event],
    codec: Codec,
    inline: Inline | None = None,
    limits: ReportLimits | None = None,
) -> Run:
    """Return a live run that has taken the whole history. If the code no longer fits the history, the
    run has a `fault`.
    """
    run = Run(definition, execution_id, codec, inline)
    run.state.limits = limits
    repeat(run, history)
    return run


def repeat(run: Run, history: Sequence[Event]) -> None:
    """Deliver a whole history to a new run. If the code no longer fits it, the run has a `fault`."""
    if not history:
        return
    first = history[0]
    python = first.python if isinstance(first, events.ExecutionStarted) else ""
    recorder = run.recorder
    try:
        recorded = recorder.recorded = RecordedEvents(
            history, python, run.place, recorder.begin_comparison()
        )
        with run.loop.with_hooks():
            while run.fault is None and (event := recorded.next_incoming()) is not None:
                run.deliver(event)
    except (NonDeterminismError, WireError) as error:
        run.loop.fault = error
    recorder.recorded = None
    # Events that the code has added behind the recorded ones are not committed yet.
    recorder.restore(recorder.take()[len(history) :])
    for _, slots in slots_by_name("", run.state):
        slots.settle(sent=not recorder.out)
    if recorder.streams is not None and not recorder.out:
        recorder.streams.take()  # these chunks were written with the last recorded event

"""The corpus without any crash: every shape ends as it says, on every backend, cached or not; and its
tags say what it uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.testing.simulation.corpus import SHAPES
from mini_workflow.testing.simulation.ledger import Ledger
from mini_workflow.testing.simulation.shapes import TAGS, choose, shape
from tests.laws import corpus
from tests.laws.driver import chosen, run
from tests.unit.engine.harness import ID, Files, check, finish, in_memory, stepping


@pytest.mark.parametrize("cache_size", [100, 0])
@pytest.mark.parametrize("name", SHAPES)
def test_shape_in_memory(name: str, cache_size: int) -> None:
    shape = SHAPES[name]
    with Ledger() as ledger, stepping(in_memory, shape, cache_size=cache_size) as stepper:
        stepper.open()
        stepper.start(name, execution_id=ID)
        finish(stepper, shape)
        check(stepper, shape, ledger)


@pytest.mark.parametrize("name", SHAPES)
def test_shape_in_a_file(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    with Ledger() as ledger, stepping(Files(tmp_path), shape) as stepper:
        stepper.open()
        stepper.start(name, execution_id=ID)
        finish(stepper, shape)
        check(stepper, shape, ledger)


USES: dict[str, tuple[type[Any], ...]] = {
    "tasks": (events.TaskScheduled,),
    "inline": (events.InlineTaskCompleted, events.InlineTaskFailed),
    "retries": (events.TaskRetryScheduled,),
    "timers": (events.TimerStarted,),
    "gives-up": (events.TaskCancelled, events.TimerCancelled),
    "signals": (events.SignalReceived, events.SignalUnhandled),
    "updates": (events.UpdateAccepted,),
    "promises": (events.PromiseCreated,),
    "children": (events.ChildStarted,),
    "starts": (events.StartSent,),
    "limits": (events.SlotsGranted,),
    "asks": (events.AskSent,),
    "tells": (events.SignalSent, events.CancelSent, events.CompletionSent),
    "cancelled": (events.CancelRequested,),
    "continues": (events.ContinuedAsNew,),
    "patches": (events.PatchMarked,),
    "fails": (events.ExecutionFailed, events.ExecutionCancelled),
}
"""What is recorded of a shape that has a tag; the other tags say how it is to be run."""


def used(history: Iterable[Event]) -> set[str]:
    kinds = {type(event) for event in history}
    return {tag for tag, made in USES.items() if kinds.intersection(made)}


@pytest.mark.parametrize("name", SHAPES)
def test_the_tags_of_a_shape_are_what_it_uses(name: str) -> None:
    shape = SHAPES[name]
    with Ledger(), stepping(in_memory, shape) as stepper:
        stepper.open()
        stepper.start(name, execution_id=ID)
        finish(stepper, shape)
        assert used(stepper.record.events(ID)) == shape.tags - {"wide", "timed"}


@pytest.mark.parametrize("name", corpus.SHAPES)
def test_the_tags_of_an_ordered_shape_are_what_it_uses_in_some_world(name: str) -> None:
    worlds = [run(corpus.SHAPES[name], choices=chosen(seed)).events for seed in (11, 0, 1, 2, 3)]
    assert set().union(*map(used, worlds)) == choose("ordered")[name].tags - {"ordered", "timed"}


def test_shapes_are_chosen_by_their_tags() -> None:
    assert set(USES) | {"wide", "ordered", "timed"} == set(TAGS)
    assert choose(without=["ordered"]) == SHAPES
    assert set(choose("wide", without=["ordered"])) == {"wide"}
    signalled = choose("signals", "continues", without=["ordered"])
    assert "continued_with_signals" in signalled
    assert "signal_handlers" not in signalled
    for tag in TAGS:
        assert choose(tag, "ordered") or choose(tag, without=["ordered"]), tag


def test_what_cannot_be_chosen_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no shape is tagged \['task'\]: choose of tasks, "):
        choose("task")
    with pytest.raises(ValueError, match="no shape is tagged"):
        choose(without=["order"])
    with pytest.raises(ValueError, match="two shapes are called"):
        choose("tasks")
    with pytest.raises(ValueError, match="a shape is tagged 'tasks timer'"):
        shape(tags="tasks timer")

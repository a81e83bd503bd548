"""What a run hands over to the next one, and what is made of it there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mini_workflow.core import events, wire
from mini_workflow.core.continuation import (
    CARRIED_ANSWER,
    CARRIED_SIGNALS,
    CARRIED_UPDATES,
    Answers,
    carried_signals,
    carried_updates,
    inherited_answer,
    remember,
)
from mini_workflow.core.duplicates import admit
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.core.state import ExecutionState
from mini_workflow.errors import WireError


def completed(update_id: str, value: object = None) -> events.UpdateCompleted:
    return events.UpdateCompleted(update_id, Payload(text=json.dumps(value)))


def started(**fields: Any) -> events.ExecutionStarted:
    return events.ExecutionStarted(5, "w", Payload(text="[[],{}]"), 1, run=2, **fields)


def handed_over(answers: Answers, cut: tuple[str, ...] = ()) -> events.ExecutionStarted:
    """The first event of the next run, as it is read from the store."""
    first = wire.decode(wire.encode(started(updates=carried_updates(answers, cut))))
    assert isinstance(first, events.ExecutionStarted)
    return first


def test_the_answers_given_last_are_kept() -> None:
    answers: Answers = {}
    for n in range(CARRIED_UPDATES):
        remember(answers, n, completed(f"u{n}"))
    remember(answers, 1000, completed("u0", "again"))
    remember(answers, 1001, completed("new"))
    assert len(answers) == CARRIED_UPDATES
    assert "u1" not in answers
    first = handed_over(answers)
    assert inherited_answer(first, "u0", 0) == completed("u0", "again")
    assert inherited_answer(first, "u2", 0) == completed("u2")


def test_whose_answer_may_be_forgotten_is_told_so() -> None:
    """Only then: an update that was asked for later than the oldest known answer was given is
    still to be answered."""
    answers: Answers = {}
    for n in range(CARRIED_UPDATES):
        remember(answers, 10 + n, completed(f"u{n}"))
    first = handed_over(answers)
    assert inherited_answer(first, "mine", asked=10) is None
    answer = inherited_answer(first, "mine", asked=9)
    assert isinstance(answer, events.UpdateRefused)
    assert "ExecutionClosed" in answer.failure.type
    assert "'mine'" in answer.failure.message
    del answers["u0"]
    assert inherited_answer(handed_over(answers), "mine", asked=9) is None


def test_a_refusal_answers_only_who_asked_before_it() -> None:
    answers: Answers = {}
    remember(answers, 7, events.UpdateRefused(7, "u", Failure("a:B", "no")))
    first = handed_over(answers)
    assert inherited_answer(first, "u", asked=7) == events.UpdateRefused(
        7, "u", Failure("a:B", "no")
    )
    assert inherited_answer(first, "u", asked=8) is None
    assert ExecutionState.of([first]).updates == {}


def test_the_signals_received_last_are_known_but_for_those_that_still_wait() -> None:
    known = [f"s-{n}" for n in range(CARRIED_SIGNALS + 5)]
    handed = carried_signals(known, waiting=known[-1:])
    assert handed == known[4:-1]
    assert carried_signals([], []) is None
    state = ExecutionState.of([started(signals=handed)])
    again, new = (
        events.SignalReceived(6, "go", Payload(text="1"), name) for name in (known[-2], known[-1])
    )
    assert admit(state, again) is None
    assert admit(state, new) is new


def test_what_was_at_work_at_the_end_of_the_run_may_be_asked_again() -> None:
    answers: Answers = {}
    for name in ("cut", "failed"):
        remember(answers, 7, events.UpdateFailed(name, Failure("a:B", "no")))
    remember(answers, 8, completed("done"))
    first = handed_over(answers, cut=("cut", "done", "unheard of"))
    assert ExecutionState.of([first]).updates == {"failed": True, "done": True}
    assert inherited_answer(first, "cut", asked=8) is None
    assert isinstance(inherited_answer(first, "cut", asked=7), events.UpdateRefused)


@pytest.mark.parametrize("part", ["traceback", "cause", "state", "message"])
def test_a_long_failure_keeps_what_there_is_room_for(part: str) -> None:
    long = "x" * 2 * CARRIED_ANSWER
    fields: dict[str, Any] = {"message": "no", "traceback": "here", "state": {"args": []}}
    fields[part] = Failure("c:D", long) if part == "cause" else long
    answers: Answers = {}
    remember(answers, 1, events.UpdateFailed("u", Failure("a:B", **fields)))
    assert len(json.dumps(answers["u"])) < CARRIED_ANSWER + 100
    answer = inherited_answer(handed_over(answers), "u", 0)
    assert isinstance(answer, events.UpdateFailed)
    assert answer.failure.type == "a:B"
    assert (answer.failure.state is None) == (part in ("state", "message"))
    if part != "message":
        assert answer.failure.message == "no"


def test_a_first_event_from_before_hands_nothing_over() -> None:
    first = wire.decode(
        '{"event":"ExecutionStarted","at":1,"workflow":"w","seed":2,"arguments":[[],{}]}'
    )
    state = ExecutionState.of([first])
    assert (state.inherited, state.answers, state.updates) == ({}, {}, {})


@pytest.mark.parametrize(
    "damage",
    [{"children": [{"seq": 1}]}, {"children": 7}, {"updates": [{"at": 1}]}, {"updates": [3]}],
)
def test_a_damaged_first_event_is_named(damage: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="run before is damaged"):
        ExecutionState.of([started(**damage)])

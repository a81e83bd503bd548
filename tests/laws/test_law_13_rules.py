"""Law 13, rule by rule: for each kind of message, when it is new, and what it becomes.

`core/duplicates.py` is the table; docs/design.md prints it.
"""

from __future__ import annotations

import inspect
import os
import re
from dataclasses import replace
from typing import Any

import pytest

from mini_workflow.core import events
from mini_workflow.core.duplicates import RULES, admit
from mini_workflow.core.events import (
    INCOMING,
    UNRECORDED,
    Asked,
    Event,
    Message,
    Tick,
    UpdateRequested,
)
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import EMPTY, Payload
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.core.state import ExecutionState
from tests.paths import ROOT

PAGE = ROOT / "docs" / "design.md"
HEADER = "| message | is new if | becomes |\n| --- | --- | --- |\n"

DECIDED = {
    events.TaskRetryScheduled,
    events.ClockSetBack,
    events.SignalUnhandled,
    events.UpdateRefused,
    events.ResultAsked,
}
"""What a turn records by itself."""

ONE = Payload(text="1")
FAILURE = Failure("builtins:ValueError", "no")
TWICE = RetryPolicy(max_attempts=2, initial=1.0, jitter="none").to_plain()

STARTED = events.ExecutionStarted(0, "w", EMPTY, 7, key="key")
RETRIED = events.TaskScheduled(1, "t", retry=TWICE)
COMPLETED = events.TaskCompleted(5, 1, 1, ONE)
FAILED = events.TaskFailed(5, 1, 1, FAILURE)
WAITING = events.TaskRetryScheduled(5, 1, 2, 1_005, FAILURE)
RELEASED = events.TaskReleased(5, 1, 1)
GIVEN_UP = events.TaskCancelled(1)
TIMER = events.TimerStarted(1, 1_000)
FIRED = events.TimerFired(1_000, 1)
SIGNAL = events.SignalReceived(5, "go", ONE, "s")
UPDATE = UpdateRequested(5, "u", "set", EMPTY)
ACCEPTED = events.UpdateAccepted(5, "u", "set", EMPTY)
CANCEL = events.CancelRequested(5, "why", "c")
PROMISE = events.PromiseCreated(1)
CHILD = events.ChildStarted(1, "w", "child", EMPTY)
CHILD_COMPLETED = events.ChildCompleted(5, 1, ONE)
CHILD_FAILED = events.ChildFailed(5, 1, FAILURE)
RESET = events.ExecutionReset(5, "retry", 2, 1, 1)
TERMINATED = events.ExecutionTerminated(9)
RETURNED = events.ExecutionCompleted(EMPTY)
LIMITED = events.TaskScheduled(1, "t", retry=TWICE, limit={"name": "l"})
GRANTED = events.SlotsGranted(4, "l", "execution-1/7", [["", 0, 1]])
SECRET = ExecutionState.of([STARTED]).secret(1)
GIVEN = events.PromiseCompleted(5, 1, ONE, SECRET)
BROKEN = events.PromiseFailed(5, 1, FAILURE, SECRET)

HEARTBEAT = events.PromiseHeartbeat(5, 1, EMPTY, SECRET)

ASK = events.AskSent(1, "other", "query", "total", EMPTY)
ANSWERED = events.AskAnswered(5, 1, ONE, "execution-1/7/1")
UNANSWERED = events.AskFailed(5, 1, FAILURE, "execution-1/7/1")
ASKED_ANEW = replace(RESET, asks={"1": 2})
RESULT_ASKED = Asked(5, "asker/3/1", "result", "", EMPTY)
UPDATE_ASKED = Asked(5, "asker/3/1", "update", "set", EMPTY)
SIGNAL_ASKED = Asked(5, "asker/3/1", "signal", "go", ONE)

History = tuple[Event, ...]

NEW: list[tuple[History, Message, Event]] = [
    ((), STARTED, STARTED),
    ((STARTED, RETRIED), COMPLETED, COMPLETED),
    ((STARTED, RETRIED, RELEASED), COMPLETED, COMPLETED),
    ((STARTED, RETRIED, GIVEN_UP), COMPLETED, COMPLETED),
    ((STARTED, RETRIED, RETURNED), COMPLETED, COMPLETED),
    ((STARTED, RETRIED), FAILED, WAITING),
    (
        (STARTED, events.TaskScheduled(1, "t")),
        FAILED,
        replace(FAILED, failure=replace(FAILURE, attempts=1)),
    ),
    ((STARTED, RETRIED, GIVEN_UP), FAILED, FAILED),
    (
        (STARTED, RETRIED, WAITING),
        events.TaskRetryStarted(9, 1, 2),
        events.TaskRetryStarted(9, 1, 2),
    ),
    (
        (STARTED, RETRIED, RELEASED),
        events.TaskRetryStarted(9, 1, 1),
        events.TaskRetryStarted(9, 1, 1),
    ),
    ((STARTED, RETRIED), RELEASED, RELEASED),
    ((STARTED, TIMER), FIRED, FIRED),
    ((STARTED, TIMER), events.TimerFired(400, 1), FIRED),
    ((STARTED,), SIGNAL, SIGNAL),
    ((STARTED, replace(SIGNAL, id="another")), SIGNAL, SIGNAL),
    ((STARTED, RETURNED), SIGNAL, events.SignalUnhandled(5, "go", ONE, "s")),
    ((STARTED,), UPDATE, ACCEPTED),
    ((STARTED, RESET), ACCEPTED, ACCEPTED),
    ((STARTED,), RESET, RESET),
    ((STARTED, RESET), replace(RESET, run=3), replace(RESET, run=3)),
    ((STARTED,), CANCEL, CANCEL),
    ((STARTED,), TERMINATED, TERMINATED),
    ((STARTED, PROMISE), GIVEN, replace(GIVEN, secret="")),
    ((STARTED, PROMISE), BROKEN, replace(BROKEN, secret="")),
    ((STARTED, CHILD), CHILD_COMPLETED, CHILD_COMPLETED),
    ((STARTED, CHILD, events.ChildCancelled(1)), CHILD_COMPLETED, CHILD_COMPLETED),
    ((STARTED, CHILD), CHILD_FAILED, CHILD_FAILED),
    ((STARTED, ASK), ANSWERED, replace(ANSWERED, id="")),
    ((STARTED, ASK), UNANSWERED, replace(UNANSWERED, id="")),
    (
        (STARTED, ASK, ASKED_ANEW),
        replace(ANSWERED, id="execution-1/7/1/2"),
        replace(ANSWERED, id=""),
    ),
    ((STARTED,), RESULT_ASKED, events.ResultAsked(5, "asker/3/1")),
    (
        (STARTED,),
        UPDATE_ASKED,
        events.UpdateAccepted(5, "asker/3/1", "set", EMPTY, asker="asker"),
    ),
    ((STARTED,), SIGNAL_ASKED, events.SignalReceived(5, "go", ONE, "asker/3/1")),
    ((STARTED, LIMITED), GRANTED, GRANTED),
    ((STARTED, LIMITED, GIVEN_UP), GRANTED, GRANTED),
    ((STARTED, LIMITED, GRANTED), COMPLETED, COMPLETED),
    (
        (replace(STARTED, children=[{"id": "child", "seq": 1, "on_parent_close": "terminate"}]),),
        CHILD_FAILED,
        CHILD_FAILED,
    ),
]
"""Histories, a message that is new after them, and the event that it becomes."""

LATE: list[tuple[History, Message]] = [
    ((STARTED, RETURNED), STARTED),
    ((STARTED,), COMPLETED),
    ((STARTED, RETRIED, WAITING), COMPLETED),
    ((STARTED, RETRIED, WAITING, events.TaskRetryStarted(1_005, 1, 2)), COMPLETED),
    ((STARTED, RETRIED, GIVEN_UP, FAILED), COMPLETED),
    ((STARTED, RETRIED, TERMINATED), COMPLETED),
    ((STARTED, RETRIED, COMPLETED), FAILED),
    ((STARTED, RETRIED, WAITING), FAILED),
    ((STARTED, RETRIED), events.TaskRetryStarted(9, 1, 1)),
    ((STARTED, RETRIED, WAITING), events.TaskRetryStarted(9, 1, 1)),
    ((STARTED, RETRIED, WAITING, GIVEN_UP), events.TaskRetryStarted(9, 1, 2)),
    ((STARTED, RETRIED, WAITING), RELEASED),
    ((STARTED, RETRIED, WAITING), events.TaskReleased(9, 1, 2)),
    ((STARTED, RETRIED, COMPLETED), RELEASED),
    ((STARTED, TIMER, events.TimerCancelled(1)), FIRED),
    ((STARTED, TIMER, RETURNED), FIRED),
    ((replace(STARTED, signals=["s"]),), SIGNAL),
    ((STARTED, SIGNAL, RETURNED), SIGNAL),
    ((STARTED, RETURNED), UPDATE),
    ((STARTED, ACCEPTED, events.UpdateCompleted("u", EMPTY)), UPDATE),
    ((STARTED, ACCEPTED), ACCEPTED),
    ((STARTED, RETURNED), ACCEPTED),
    ((STARTED, RESET), replace(RESET, id="another")),
    ((STARTED, RETURNED), RESET),
    ((), CANCEL),
    ((STARTED, CANCEL), replace(CANCEL, id="another")),
    ((replace(STARTED, cancelled="c"),), CANCEL),
    ((STARTED, RETURNED), CANCEL),
    ((), TERMINATED),
    ((STARTED, RETURNED), TERMINATED),
    ((STARTED, PROMISE, replace(BROKEN, secret="")), GIVEN),
    ((STARTED, PROMISE), replace(GIVEN, secret="guessed")),
    ((STARTED,), GIVEN),
    ((STARTED, PROMISE, replace(GIVEN, secret="")), BROKEN),
    ((STARTED, events.PromiseCreated(1, timeout=5), events.TimerFired(5, 1)), GIVEN),
    ((STARTED, PROMISE), replace(HEARTBEAT, secret="guessed")),
    ((STARTED, PROMISE, replace(GIVEN, secret="")), HEARTBEAT),
    ((STARTED, PROMISE, RETURNED), HEARTBEAT),
    ((STARTED, CHILD, CHILD_FAILED), CHILD_COMPLETED),
    ((STARTED,), CHILD_COMPLETED),
    ((STARTED, CHILD, CHILD_COMPLETED), CHILD_FAILED),
    ((STARTED, ASK, replace(UNANSWERED, id="")), ANSWERED),
    ((STARTED, ASK, ASKED_ANEW), ANSWERED),
    ((STARTED, ASK), replace(ANSWERED, id="execution-1/8/1")),
    ((STARTED, ASK, RETURNED), ANSWERED),
    ((STARTED,), UNANSWERED),
    ((STARTED,), replace(RESULT_ASKED, kind="query")),
    ((STARTED, RETURNED), RESULT_ASKED),
    ((replace(STARTED, askers=["asker/3/1"]),), RESULT_ASKED),
    ((STARTED, RETURNED), UPDATE_ASKED),
    ((replace(STARTED, signals=["asker/3/1"]),), SIGNAL_ASKED),
    ((STARTED, LIMITED), COMPLETED),
    ((STARTED,), GRANTED),
    ((STARTED, LIMITED), replace(GRANTED, sender="execution-1/8")),
    ((STARTED, LIMITED, GRANTED, COMPLETED), GRANTED),
    ((STARTED, LIMITED, RETURNED), GRANTED),
]
"""Histories, and a message that comes too late, or for something that is not there."""


def kind_of(case: Any) -> str:
    return type(case[1]).__name__


def test_law_13_each_kind_of_message_has_one_rule_and_cases_for_it() -> None:
    assert set(RULES) == (INCOMING - DECIDED) | UNRECORDED
    assert {type(message) for _, message, _ in NEW} == set(RULES) - {events.PromiseHeartbeat}
    assert {type(message) for _, message in LATE} == set(RULES)


@pytest.mark.parametrize("case", NEW, ids=kind_of)
def test_law_13_a_message_is_taken_once(case: tuple[History, Message, Event]) -> None:
    history, message, event = case
    state = ExecutionState.of(history)
    assert admit(state, message) == event
    assert admit(state, message) == event, "to look changes nothing"
    state.apply(event)
    assert admit(state, message) is None


@pytest.mark.parametrize("case", LATE, ids=kind_of)
def test_law_13_a_late_message_is_ignored(case: tuple[History, Message]) -> None:
    history, message = case
    assert admit(ExecutionState.of(history), message) is None


def test_law_13_only_a_signal_without_an_id_is_taken_again() -> None:
    signal = replace(SIGNAL, id="")
    state = ExecutionState.of([STARTED, signal])
    assert admit(state, signal) == signal


def test_law_13_heartbeats_of_a_promise_are_heard_again_and_never_recorded() -> None:
    """One that comes twice, or late, only has the promise go on from when it comes."""
    patient = events.PromiseCreated(1, heartbeat_timeout=100)
    state = ExecutionState.of([STARTED, patient])
    length, due = state.length, state.timers[1]
    for now in (50, 50, 30):
        assert admit(state, HEARTBEAT) is HEARTBEAT
        state.hear(HEARTBEAT, now)
        assert state.timers[1] == 150 > due
    assert state.length == length
    (kept,) = state.promises.heartbeats(state.secret)
    again = ExecutionState.of([STARTED, patient])
    assert admit(again, kept) is kept
    again.hear(kept, now=70)
    assert again.timers == state.timers, "what is kept counts from when it was heard"


NEVER = {kind.__name__: kind for kind in (*DECIDED, *events.RECORDED, Tick)}


@pytest.mark.parametrize("name", sorted(NEVER))
def test_law_13_what_a_turn_decides_is_never_new(name: str) -> None:
    kind: Any = NEVER[name]
    nothing = {
        name: None
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is parameter.empty
    }
    assert admit(ExecutionState.of([STARTED, RETRIED, TIMER]), kind(**nothing)) is None


def rows() -> str:
    """The table as the docstrings of its functions tell it."""

    def words(function: Any, prefix: str) -> str:
        text = " ".join(inspect.cleandoc(function.__doc__).split())
        assert text.startswith(prefix), function
        return text.removeprefix(prefix).rstrip(".")

    return "".join(
        f"| `{kind.__name__}` | {words(rule.is_new, 'Return whether ')} "
        f"| {words(rule.to_event, 'Return ')} |\n"
        for kind, rule in RULES.items()
    )


def test_law_13_the_documents_print_the_rules() -> None:
    """UPDATE_DOCS=1 prints them anew."""
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("UPDATE_DOCS"):
        page = re.sub(re.escape(HEADER) + r"(?:\|.*\n)*", lambda _: HEADER + rows(), page)
        PAGE.write_text(page, encoding="utf-8")
    assert HEADER + rows() + "\n" in page

"""By when an attempt has to be reported, as the state of a history says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.core import events
from mini_workflow.core.duplicates import admit
from mini_workflow.core.payload import Payload
from mini_workflow.core.report_limits import ReportLimits
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.core.state import ExecutionState

START = 1_000_000
MARGIN = 500
LIMITS = ReportLimits(margin=MARGIN)
RETRY = RetryPolicy(max_attempts=3, initial=2, factor=1, jitter="none").to_plain()


def state(limits: ReportLimits | None = LIMITS) -> ExecutionState:
    made = ExecutionState()
    made.limits = limits
    made.apply(events.ExecutionStarted(START, "w", Payload(text="[[],{}]"), 7))
    return made


def test_an_attempt_that_nobody_reports_is_lost_at_its_deadline_and_made_again() -> None:
    one = state()
    one.apply(events.TaskScheduled(1, "t", RETRY, timeout=3_000))
    deadline = START + 3_000 + MARGIN
    assert one.summary()[2] == deadline
    assert one.summary()[3]
    assert one.due(deadline - 1) is None
    lost = one.due(deadline)
    assert isinstance(lost, events.TaskRetryScheduled)
    assert (lost.at, lost.attempt, lost.retry_at) == (deadline, 2, deadline + 2_000)
    assert lost.failure.type == "mini_workflow.errors:WorkerLost"
    assert "builtins:Exception" in lost.failure.lineage
    one.apply(lost)
    assert one.summary()[2] == deadline + 2_000
    assert not one.summary()[3]
    again = one.due(deadline + 2_000)
    assert again == events.TaskRetryStarted(deadline + 2_000, 1, 2)
    one.apply(again)
    # The timeout of the next attempt counts from its own start.
    assert one.summary()[2] == deadline + 2_000 + 3_000 + MARGIN
    # The report of the first one comes after all, and is a duplicate.
    assert admit(one, events.TaskCompleted(deadline + 2_001, 1, 1, Payload(text="1"))) is None
    done = admit(one, events.TaskCompleted(deadline + 2_002, 1, 2, Payload(text="2")))
    assert done is not None
    one.apply(done)
    assert one.summary()[2] is None


def test_the_last_attempt_that_nobody_reports_fails_the_task() -> None:
    one = state()
    one.apply(events.TaskScheduled(1, "t", {"max_attempts": 1}, timeout=10))
    failed = one.due(START + 10 + MARGIN)
    assert isinstance(failed, events.TaskFailed)
    assert failed.failure.attempts == 1


@pytest.mark.parametrize(
    ("limits", "timeout", "within"),
    [
        (ReportLimits(margin=5), None, None),
        (ReportLimits(margin=5), 100, 105),
        (ReportLimits(1_000, 900, 5), None, 1_905),
        (ReportLimits(1_000, 900, 5), 100, 1_105),
        (ReportLimits(1_000, 900, 5), 5_000, 1_905),  # the worker cuts it short
    ],
)
def test_how_long_a_report_is_waited_for(
    limits: ReportLimits, timeout: int | None, within: int | None
) -> None:
    assert limits.within(timeout) == within
    one = state(limits)
    one.apply(events.TaskScheduled(1, "t", timeout=timeout))
    assert one.summary()[2] == (None if within is None else START + within)


def test_no_deadline_where_nobody_has_given_limits() -> None:
    one = state(None)
    one.apply(events.TaskScheduled(1, "t", timeout=3_000))
    assert one.summary()[2] is None


def test_one_that_is_still_in_hand_gets_another_deadline() -> None:
    one = state()
    asked: list[tuple[tuple[str, int, int], str]] = []
    held = {1}

    def in_hand(key: tuple[str, int, int], name: str) -> bool:
        asked.append((key, name))
        return key[1] in held

    one.execution_id, one.in_hand = "x", in_hand
    one.apply(events.TaskScheduled(1, "t", timeout=3_000))
    one.apply(events.TaskScheduled(2, "t", timeout=3_000))
    late = START + 10_000
    lost = one.due(late)
    assert isinstance(lost, events.TaskRetryScheduled)
    one.apply(lost)
    assert asked == [(("x", 1, 1), "t"), (("x", 2, 1), "t")]
    assert one.deadlines[1] == late + 3_000 + MARGIN


def test_a_released_attempt_and_one_that_was_given_up_have_none() -> None:
    one = state()
    one.apply(events.TaskScheduled(1, "t", timeout=3_000))
    one.apply(events.TaskScheduled(2, "t", timeout=3_000))
    one.apply(events.TaskReleased(START + 1, 1, 1))
    one.apply(events.TaskCancelled(2))
    assert one.summary()[2] is None
    one.apply(events.TaskRetryStarted(START + 60_000, 1, 1))
    assert one.summary()[2] == START + 60_000 + 3_000 + MARGIN


def test_tasks_that_outlive_their_workflow_have_one_still() -> None:
    """Their outcomes are recorded, and until then the execution counts as busy."""
    one = state()
    one.apply(events.TaskScheduled(1, "t", timeout=3_000))
    one.apply(events.ExecutionCompleted(Payload(text="1")))
    assert one.summary()[2] == START + 3_000 + MARGIN
    one = state()
    one.apply(events.TaskScheduled(1, "t", timeout=3_000))
    one.apply(events.ExecutionTerminated(START + 1))
    assert one.summary()[2] is None


def test_steps_that_end_long_before_their_deadlines_leave_nothing_behind() -> None:
    one = state(ReportLimits(queued=10**9, longest=1, margin=1))
    one.apply(events.TimerStarted(1, START + 1))  # is due before any of them
    for seq in range(2, 5_002):
        one.apply(events.TaskScheduled(seq, "t"))
        one.apply(events.TaskCompleted(START, seq, 1, Payload(text="1")))
        assert one.summary()[2] == START + 1
    assert len(one.deadlines._heap) < 100


@given(
    st.lists(
        st.tuples(st.sampled_from(["schedule", "complete", "fail", "tick"]), st.integers(1, 4_000)),
        max_size=40,
    )
)
def test_the_deadlines_are_those_of_the_history(steps: list[tuple[str, int]]) -> None:
    """Whoever replays it knows the same ones, so that nothing else has to be stored."""
    live, history = state(), []
    now, seq = START, 0

    def take(event: events.Event | None) -> None:
        if event is not None:
            live.apply(event)
            history.append(event)

    for what, number in steps:
        now += number
        flying = [(s, t.attempt) for s, t in live.tasks.items() if t.retry_at is None]
        if what == "schedule":
            seq += 1
            take(events.TaskScheduled(seq, "t", RETRY, timeout=number))
        elif what == "tick":
            while (due := live.due(now)) is not None:
                take(due)
        elif flying:
            chosen = flying[number % len(flying)]
            if what == "complete":
                take(admit(live, events.TaskCompleted(now, *chosen, Payload(text="1"))))
            else:
                failure = events.TaskFailed(now, *chosen, _failure())
                take(admit(live, failure))
        replayed = state()
        for event in history:
            replayed.apply(event)
        assert replayed.summary()[2] == live.summary()[2]
        assert replayed.deadlines._due == live.deadlines._due
        # Every attempt in flight has one, and none else.
        for number_of_task, task in live.tasks.items():
            assert (number_of_task in live.deadlines) == (task.retry_at is None)
        assert len(live.deadlines._due) == live.in_flight


def _failure() -> events.Failure:
    return events.Failure("builtins:ValueError", "no")

"""Laws of the table of attempts that all runners have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from mini_workflow.attempts import CLOSING, Limits, cancelled
from mini_workflow.errors import RuntimeClosed
from mini_workflow.ports import TaskOutcome, TaskRequest
from mini_workflow.runners.attempts import Attempt, Attempts


class Later:
    """In place of Deadlines: expires what the test says."""

    def __init__(self) -> None:
        self.watched: set[Any] = set()
        self.closed = False

    def watch(self, item: Any, _at: float) -> None:
        self.watched.add(item)

    def forget(self, item: Any) -> None:
        self.watched.discard(item)

    def close(self) -> None:
        self.closed = True


class Owner:
    def __init__(self, grace: float) -> None:
        self.seconds = grace
        self.told: list[tuple[Attempt, str]] = []
        self.given_up: list[Attempt] = []

    def tell(self, attempt: Attempt, reason: str) -> None:
        self.told.append((attempt, reason))
        if attempt.current is not None:
            attempt.current.tell(reason)

    def grace(self, _attempt: Attempt, /) -> float:
        return self.seconds

    def give_up(self, attempt: Attempt) -> Callable[[], None] | None:
        assert attempt.over
        self.given_up.append(attempt)
        return None


class Machine(RuleBasedStateMachine):
    """Law: an attempt that was taken is reported once or handed back once, and not both."""

    submitted = Bundle("submitted")

    def __init__(self) -> None:
        super().__init__()
        self.reported: list[TaskOutcome] = []
        self.returned: list[TaskRequest] = []
        self.taken: list[Attempt] = []
        self.owner = Owner(0.0)
        self.attempts: Attempts[Attempt] = Attempts(self.owner, self.reported.append, "law")
        self.later = Later()
        self.attempts.deadlines = self.later  # type: ignore[misc,assignment]

    @rule(target=submitted)
    def submit(self) -> Attempt:
        attempt = Attempt(TaskRequest("e", len(self.taken), 1, "t", b"", 60_000, True, 60_000))
        try:
            with self.attempts.lock:
                self.attempts.take(attempt)
        except RuntimeClosed:
            assert self.attempts.closed
            attempt.over = True
        else:
            self.taken.append(attempt)
        return attempt

    @rule(attempt=submitted)
    def begin(self, attempt: Attempt) -> None:
        with self.attempts.lock:
            if attempt.begun:
                return
            limits = Limits.of(attempt.request)
            begins = self.attempts.begin_here(attempt, limits) is not None
        assert begins == attempt.begun
        assert begins is not (self.attempts.closed or attempt.over)

    @rule(attempt=submitted, as_told=st.booleans())
    def finish(self, attempt: Attempt, as_told: bool) -> None:
        if not attempt.begun:
            return
        told = attempt.current is not None and attempt.current.is_told
        outcome = TaskOutcome(*attempt.request.key, result="1")
        if as_told and told:
            outcome = cancelled(attempt.request)
        with self.attempts.lock:
            report = self.attempts.finish(attempt, outcome)
        if report is not None:
            self.reported.append(report)

    @rule(attempt=submitted)
    def cancel(self, attempt: Attempt) -> None:
        self.attempts.cancel(*attempt.request.key[:2], "enough")

    @rule(attempt=submitted, silent=st.booleans(), grace=st.booleans())
    def expire(self, attempt: Attempt, silent: bool, grace: bool) -> None:
        if attempt.limits is None or attempt not in self.later.watched:
            return
        self.owner.seconds = float(grace)
        limits: Any = attempt.limits
        limits._ends_at, limits._patience = (1e9, -1e9) if silent else (0.0, 1e9)
        was_silent = attempt.silent
        self.later.watched.discard(attempt)
        self.attempts._expire(attempt)
        assert attempt.over is not (silent and grace and not was_silent)
        assert (attempt in self.later.watched) is not attempt.over

    @rule()
    def stop(self) -> None:
        self.attempts.stop()
        assert all(attempt.begun for attempt in self.attempts)
        assert all((a, CLOSING) in self.owner.told for a in self.attempts)

    @rule()
    def close(self) -> None:
        self.attempts.stop()
        self.attempts.end_all()
        self.returned += self.attempts.handed_back()
        assert self.later.closed
        assert self.attempts.drained.is_set()

    @invariant()
    def once(self) -> None:
        ends = Counter([o.seq for o in self.reported] + [r.seq for r in self.returned])
        assert not [seq for seq, times in ends.items() if times > 1]
        assert set(ends) <= {attempt.request.seq for attempt in self.taken if attempt.over}
        assert self.attempts.begun == sum(a.begun and not a.over for a in self.taken)
        running = {attempt.request.seq for attempt in self.taken if not attempt.over}
        assert running == {attempt.request.seq for attempt in self.attempts}
        assert all(not a.over for a in self.later.watched)

    def teardown(self) -> None:
        self.close()
        self.once()
        ends = {o.seq for o in self.reported} | {r.seq for r in self.returned}
        assert ends == {attempt.request.seq for attempt in self.taken}


TestAttempts = Machine.TestCase
TestAttempts.settings = settings(max_examples=60)


def test_an_attempt_that_begins_anew_is_not_held_to_the_limits_it_had() -> None:
    owner = Owner(0.0)
    attempts: Attempts[Attempt] = Attempts(owner, print, "law")
    attempt = Attempt(TaskRequest("e", 1, 1, "t", b"", 0))
    with attempts.lock:
        attempts.take(attempt)
        assert attempts.begin(attempt, Limits.of(attempt.request))
        attempts.begins_anew(attempt)
    # The thread that watches the limits had it in hand by then.
    attempts._expire(attempt)
    assert not attempt.over
    assert owner.given_up == []
    attempts.stop()
    assert attempts.handed_back() == [attempt.request]

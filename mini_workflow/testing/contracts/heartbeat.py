"""Hold every `TaskRunner` to its contract about heartbeats. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from mini_workflow.errors import TaskTimeout
from mini_workflow.testing.contracts import runner_tasks as tasks
from mini_workflow.testing.contracts.runner_case import SHORT, WAIT, RunnerCase
from mini_workflow.testing.contracts.runner_tasks import Gate

SILENCE = 500
"""Milliseconds of a heartbeat timeout that passes, but not before the first heartbeat."""


class HeartbeatContract(RunnerCase):
    """The contract about heartbeats. Inherit it beside `TaskRunnerContract`."""

    def test_the_last_details_of_an_attempt_are_in_its_outcome(self) -> None:
        last = (2, {3: b"three"}, datetime(2024, 5, 6, tzinfo=UTC))
        runner = self.runner()
        outcome = self.run(runner, self.request(tasks.beat_and_fail, ["first", last]))
        assert isinstance(self.error(outcome), ZeroDivisionError)
        assert self.details(outcome) == last
        outcome = self.run(runner, self.request(tasks.beat_and_fail, []))
        assert outcome.heartbeat is None

    def test_a_heartbeat_without_details_leaves_those_before(self) -> None:
        outcome = self.run(self.runner(), self.request(tasks.beat_and_fail, ["kept", None]))
        assert self.details(outcome) == "kept"

    def test_a_thread_of_the_task_may_give_heartbeats(self) -> None:
        outcome = self.run(self.runner(), self.request(tasks.beat_in_a_thread_and_fail, 7))
        assert self.details(outcome) == 7

    def test_an_attempt_sees_the_details_of_the_one_before(self) -> None:
        runner, details = self.runner(), (1, {2: "zwei"}, datetime(2024, 5, 6, tzinfo=UTC))
        text = self.codec.encode(details, "details").text
        again = self.request(tasks.recall, attempt=2, heartbeat=text)
        assert self.value(self.run(runner, again)) == details
        assert self.value(self.run(runner, self.request(tasks.recall))) is None

    def test_details_that_cannot_be_encoded_are_an_error_of_the_call(self) -> None:
        path = self.value(self.run(self.runner(), self.request(tasks.beat_wrongly)))
        assert "lock" in path

    def test_an_attempt_whose_heartbeat_is_missing_has_timed_out(self, tmp_path: Path) -> None:
        runner, gate = self.warm_runner(), Gate(tmp_path)
        request = self.request(
            tasks.beat_and_hold, "so far", gate, timeout=60_000, heartbeat_timeout=SILENCE
        )
        outcome = self.run(runner, request)
        error = self.error(outcome)
        assert isinstance(error, TaskTimeout)
        assert "heartbeat" in str(error)
        assert "0.5 s" in str(error)
        assert self.details(outcome) == "so far"
        gate.open()
        assert self.value(self.run(runner, self.request(tasks.echo, "alive"))) == "alive"
        runner.close(WAIT)
        self.assert_no_more()

    def test_an_attempt_without_any_heartbeat_has_timed_out(self, tmp_path: Path) -> None:
        gate = Gate(tmp_path)
        outcome = self.run(self.runner(), self.request(tasks.hold, gate, heartbeat_timeout=SHORT))
        assert isinstance(self.error(outcome), TaskTimeout)
        assert outcome.heartbeat is None
        gate.open()

    def test_a_silent_attempt_that_is_stuck_takes_no_room(self, tmp_path: Path) -> None:
        runner, gate = self.warm_runner(), Gate(tmp_path)
        stuck = self.request(tasks.beat_and_hold_on, "here", gate, heartbeat_timeout=SILENCE)
        runner.submit(stuck)
        behind = self.request(tasks.echo, "next")
        runner.submit(behind)
        outcomes = {outcome.seq: outcome for outcome in (self.outcome(), self.outcome())}
        assert isinstance(self.error(outcomes[stuck.seq]), TaskTimeout)
        assert self.details(outcomes[stuck.seq]) == "here"
        assert self.value(outcomes[behind.seq]) == "next"
        gate.open()
        runner.close(WAIT)
        self.assert_no_more()

    def test_a_timeout_comes_in_spite_of_heartbeats(self, tmp_path: Path) -> None:
        gate = Gate(tmp_path)
        request = self.request(
            tasks.beat_until_open, gate, timeout=3 * SHORT, heartbeat_timeout=60_000
        )
        error = self.error(self.run(self.runner(), request))
        gate.open()
        assert isinstance(error, TaskTimeout)
        assert "0.3 s" in str(error)

    def test_a_heartbeat_says_that_nobody_waits_and_why(self, tmp_path: Path) -> None:
        runner, gate = self.runner(room=1), Gate(tmp_path)
        request = self.request(tasks.beat_until_stopped, gate, name="upload")
        runner.submit(request)
        Gate.wait(gate.begun)
        runner.cancel(*request.key[:2], "out of stock")
        outcome = self.outcome()
        assert outcome.key == request.key
        assert str(self.error(outcome)) == "cancelled"
        said = gate.left.read_text()
        assert "'upload'" in said
        assert "out of stock" in said
        assert self.value(self.run(runner, self.request(tasks.echo, "alive"))) == "alive"

"""Hold every `TaskRunner` to its contract: run each attempt once and report it once. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mini_workflow.core.records import replace
from mini_workflow.errors import (
    PayloadNotReadable,
    RuntimeClosed,
    TaskError,
    TaskTimeout,
    ValueNotSerializable,
)
from mini_workflow.ports import TaskOutcome
from mini_workflow.testing.contracts import runner_tasks as tasks
from mini_workflow.testing.contracts.runner_case import LONG, SHORT, WAIT, RunnerCase
from mini_workflow.testing.contracts.runner_tasks import Gate


class TaskRunnerContract(RunnerCase):
    """The contract of `TaskRunner`. Inherit it and `HeartbeatContract`, override `make_runner`, and set
    `is_async` for a runner of async functions.
    """

    # Results

    def test_a_result_comes_back_to_the_type(self) -> None:
        value = (1, {2: b"three"}, datetime(2024, 5, 6, tzinfo=UTC))
        assert self.value(self.run(self.runner(), self.request(tasks.echo, value))) == value

    def test_none_is_a_result(self) -> None:
        assert self.value(self.run(self.runner(), self.request(tasks.echo, None))) is None

    def test_a_large_payload_and_a_large_result(self) -> None:
        value = "0123456789abcdef" * 65_536
        assert self.value(self.run(self.runner(), self.request(tasks.echo, value))) == value

    def test_captured_variables_are_what_they_were(self) -> None:
        captured = [1, 2]
        request = self.request(lambda: sum(captured))
        captured.append(3)
        assert self.value(self.run(self.runner(), request)) == 3

    def test_a_thousand_attempts_are_each_reported_once(self) -> None:
        runner = self.runner(room=3)
        requests = [self.request(tasks.echo, number) for number in range(1_000)]
        for request in requests:
            runner.submit(request)
        outcomes = {outcome.seq: outcome for outcome in (self.outcome() for _ in requests)}
        expected = {request.seq: number for number, request in enumerate(requests)}
        assert {seq: self.value(outcome) for seq, outcome in outcomes.items()} == expected
        assert runner.close(WAIT) == []
        self.assert_no_more()

    def test_attempts_run_at_the_same_time_up_to_the_room(self, tmp_path: Path) -> None:
        runner = self.runner(room=2)
        gates = [Gate(tmp_path, str(number)) for number in range(3)]
        for gate in gates:
            runner.submit(self.request(tasks.hold, gate))
        Gate.wait(gates[0].begun)
        Gate.wait(gates[1].begun)
        assert not gates[2].begun.exists()
        gates[1].open()
        Gate.wait(gates[2].begun)
        gates[0].open()
        gates[2].open()
        assert {self.outcome().seq for _ in gates} == {1, 2, 3}

    def test_a_report_may_submit_the_next_attempt(self) -> None:
        done = threading.Event()
        requests = [self.request(tasks.echo, number) for number in range(20)]

        def report(outcome: TaskOutcome) -> None:
            if requests:
                runner.submit(requests.pop())
            else:
                done.set()

        runner = self.make_runner(report, 1)
        self._opened.append(runner)
        runner.submit(requests.pop())
        assert done.wait(WAIT)

    # Failures

    @pytest.mark.parametrize(
        ("kind", "expected"), [("zero", ZeroDivisionError), ("odd", tasks.OddError)]
    )
    def test_an_exception_comes_back_as_its_own_type(
        self, kind: str, expected: type[Exception]
    ) -> None:
        outcome = self.run(self.runner(), self.request(tasks.fail, kind))
        error = self.error(outcome)
        assert type(error) is expected
        if isinstance(error, tasks.OddError):
            assert (error.code, error.reason) == (7, "odd")

    @pytest.mark.parametrize("kind", ["exit", "interrupt", "cancelled"])
    def test_what_would_stop_more_than_the_task_fails_only_the_task(self, kind: str) -> None:
        runner = self.runner(room=1)
        assert isinstance(self.error(self.run(runner, self.request(tasks.fail, kind))), TaskError)
        assert self.value(self.run(runner, self.request(tasks.echo, "alive"))) == "alive"

    def test_a_result_that_cannot_be_encoded_names_the_task(self) -> None:
        outcome = self.run(self.runner(), self.request(tasks.unencodable, name="charge"))
        error = self.error(outcome)
        assert isinstance(error, ValueNotSerializable)
        assert "charge" in str(error)

    def test_a_payload_that_cannot_be_read_is_a_failure(self) -> None:
        runner = self.runner(room=1)
        request = replace(self.request(tasks.look), name="broken", payload=b"nonsense")
        assert isinstance(self.error(self.run(runner, request)), PayloadNotReadable)
        assert self.value(self.run(runner, self.request(tasks.echo, "alive"))) == "alive"

    # The view of a task

    def test_a_task_knows_its_attempt(self) -> None:
        before = datetime.now(UTC)
        request = self.request(tasks.look, attempt=3, name="looks", timeout=60_000)
        seen = self.value(self.run(self.runner(), request))
        assert seen["attempt"] == 3
        assert seen["cancelled"] is False
        assert seen["execution_id"] == "contract"
        assert seen["name"] == "looks"
        minute = timedelta(seconds=60)
        # Deadlines are in the time of day, which may be adjusted meanwhile.
        assert before + minute / 2 < seen["deadline"] < datetime.now(UTC) + 2 * minute

    def test_the_idempotency_key_is_that_of_the_task(self) -> None:
        runner = self.runner()
        first = self.request(tasks.look)
        again = replace(first, attempt=2)
        other = self.request(tasks.look)
        keys = [
            self.value(self.run(runner, one))["idempotency_key"] for one in (first, again, other)
        ]
        assert keys == ["contract:1", "contract:1", "contract:2"]
        assert self.value(self.run(runner, self.request(tasks.look)))["deadline"] is None

    def test_attempts_do_not_see_each_others_context(self) -> None:
        runner = self.runner(room=1)
        for value in ("one", "two"):
            assert self.value(self.run(runner, self.request(tasks.remember, value))) == "nothing"

    # Timeouts

    def test_an_attempt_over_its_timeout_is_reported_then(self, tmp_path: Path) -> None:
        runner, gate = self.runner(room=1), Gate(tmp_path)
        error = self.error(self.run(runner, self.request(tasks.hold, gate, timeout=SHORT)))
        assert isinstance(error, TaskTimeout)
        assert "0.1 s" in str(error)
        gate.open()

    def test_a_stuck_attempt_takes_no_room(self, tmp_path: Path) -> None:
        runner, gate = self.runner(room=1), Gate(tmp_path)
        stuck = self.request(tasks.hold_on, gate, timeout=SHORT)
        runner.submit(stuck)
        behind = self.request(tasks.echo, "next")
        runner.submit(behind)
        outcomes = {outcome.seq: outcome for outcome in (self.outcome(), self.outcome())}
        assert isinstance(self.error(outcomes[stuck.seq]), TaskTimeout)
        assert self.value(outcomes[behind.seq]) == "next"
        assert self.value(self.run(runner, self.request(tasks.echo, "more"))) == "more"
        gate.open()
        runner.close(WAIT)
        self.assert_no_more()

    def test_neither_heartbeats_nor_waiting_for_room_use_up_a_timeout(self, tmp_path: Path) -> None:
        runner, gate = self.warm_runner(), Gate(tmp_path)
        beating = self.request(tasks.beat_until_open, gate, heartbeat_timeout=LONG // 2)
        runner.submit(beating)
        Gate.wait(gate.begun)
        waiting = self.request(tasks.echo, "in time", timeout=LONG)
        runner.submit(waiting)
        time.sleep(1.1 * LONG / 1_000)
        gate.open()
        outcomes = {outcome.seq: outcome for outcome in (self.outcome(), self.outcome())}
        assert self.value(outcomes[beating.seq]) == "alive"
        assert self.value(outcomes[waiting.seq]) == "in time"

    # Cancellation

    def test_a_cancelled_attempt_that_has_not_begun_never_does(self, tmp_path: Path) -> None:
        runner = self.runner(room=1)
        first, second = Gate(tmp_path, "first"), Gate(tmp_path, "second")
        running = self.request(tasks.hold, first)
        runner.submit(running)
        Gate.wait(first.begun)
        waiting = self.request(tasks.hold, second)
        runner.submit(waiting)
        runner.cancel(*waiting.key[:2])
        outcome = self.outcome()
        assert outcome.key == waiting.key
        error = self.error(outcome)
        assert isinstance(error, TaskError)
        assert str(error) == "cancelled"
        first.open()
        assert self.value(self.outcome()) == "held"
        assert self.value(self.run(runner, self.request(tasks.echo, "more"))) == "more"
        assert not second.begun.exists()

    def test_an_attempt_that_has_begun_is_told(self, tmp_path: Path) -> None:
        runner, gate = self.runner(room=1), Gate(tmp_path)
        request = self.request(tasks.hold, gate)
        runner.submit(request)
        Gate.wait(gate.begun)
        runner.cancel(*request.key[:2])
        runner.cancel(*request.key[:2])
        outcome = self.outcome()
        assert outcome.key == request.key
        if outcome.failure is None:
            assert self.value(outcome) == "stopped early"
        else:
            assert str(self.error(outcome)) == "cancelled"
        assert not gate.left.exists()
        assert self.value(self.run(runner, self.request(tasks.echo, "more"))) == "more"
        runner.close(WAIT)
        self.assert_no_more()

    def test_a_cancel_right_behind_the_submit_is_not_lost(self, tmp_path: Path) -> None:
        runner = self.runner(room=2)
        assert self.value(self.run(runner, self.request(tasks.echo, "warm"))) == "warm"
        for number in range(20):
            request = self.request(tasks.hold, Gate(tmp_path, str(number)))
            runner.submit(request)
            runner.cancel(*request.key[:2])
            assert self.outcome().key == request.key

    def test_cancelling_what_is_not_there_is_harmless(self) -> None:
        runner = self.runner()
        runner.cancel("nobody", 1)
        request = self.request(tasks.echo, 1)
        self.run(runner, request)
        runner.cancel(*request.key[:2])
        runner.close(WAIT)
        self.assert_no_more()

    # Attempts that are held

    def test_an_attempt_is_held_from_its_submission_until_it_has_been_reported(
        self, tmp_path: Path
    ) -> None:
        held: list[bool] = []

        def report(outcome: TaskOutcome) -> None:
            # The attempt is held until its report has returned.
            held.append(runner.holds(outcome.key))
            self._outcomes.put(outcome)

        runner, gate = self.make_runner(report, 1), Gate(tmp_path)
        self._opened.append(runner)
        running, waiting = self.request(tasks.hold, gate), self.request(tasks.echo, 1)
        assert not runner.holds(running.key)
        for request in (running, waiting):
            runner.submit(request)
            assert runner.holds(request.key)
        Gate.wait(gate.begun)
        assert runner.holds(running.key)
        assert runner.holds(waiting.key)
        assert not runner.holds((running.execution_id, running.seq, running.attempt + 1))
        gate.open()
        assert {self.outcome().key for _ in range(2)} == {running.key, waiting.key}
        assert held == [True, True]
        runner.close(WAIT)
        assert not runner.holds(running.key)
        assert not runner.holds(waiting.key)

    def test_what_is_handed_back_is_held_no_more(self, tmp_path: Path) -> None:
        runner, gate = self.runner(room=1), Gate(tmp_path)
        runner.submit(self.request(tasks.hold, gate))
        Gate.wait(gate.begun)
        waiting = self.request(tasks.echo, 1)
        runner.submit(waiting)
        assert waiting in runner.close(0.0)
        assert not runner.holds(waiting.key)
        gate.open()

    # Closing

    def test_closing_a_runner_that_ran_nothing(self) -> None:
        assert self.runner().close(0.0) == []

    def test_closing_reports_what_ends_and_hands_back_what_had_not_begun(
        self, tmp_path: Path
    ) -> None:
        runner, gate = self.runner(room=1), Gate(tmp_path)
        running = self.request(tasks.hold_on, gate)
        waiting = [self.request(tasks.echo, number) for number in range(3)]
        runner.submit(running)
        Gate.wait(gate.begun)
        for request in waiting:
            runner.submit(request)
        opener = threading.Timer(0.05, gate.open)
        opener.start()
        assert runner.close(WAIT) == waiting
        opener.join()
        assert self.outcome().key == running.key
        self.assert_no_more()
        with pytest.raises(RuntimeClosed):
            runner.submit(waiting[0])
        assert runner.close(0.0) == []

    def test_what_does_not_end_within_the_grace_is_handed_back(self, tmp_path: Path) -> None:
        runner, gate = self.runner(room=1), Gate(tmp_path)
        request = self.request(tasks.hold_on, gate)
        runner.submit(request)
        Gate.wait(gate.begun)
        assert runner.close(0.05) == [request]
        assert runner.close(0.0) == []
        gate.open()
        self.assert_no_more()

    def test_what_stops_early_because_of_the_close_has_no_result(self, tmp_path: Path) -> None:
        runner, gate = self.runner(room=1), Gate(tmp_path)
        request = self.request(tasks.stop_early, gate)
        runner.submit(request)
        Gate.wait(gate.begun)
        assert runner.close(WAIT) == [request]
        self.assert_no_more()

    def test_what_ends_because_of_the_close_is_handed_back(self, tmp_path: Path) -> None:
        runner, gate = self.runner(room=1), Gate(tmp_path)
        request = self.request(tasks.beat_until_cancelled, gate)
        runner.submit(request)
        Gate.wait(gate.begun)
        (returned,) = runner.close(WAIT)
        assert returned.key == request.key
        assert returned.heartbeat is not None
        assert int(returned.heartbeat) >= 0
        self.assert_no_more()

    def test_closing_does_not_wait_longer_than_it_must(self, tmp_path: Path) -> None:
        runner, gate = self.runner(room=2), Gate(tmp_path)
        runner.submit(self.request(tasks.hold_on, gate))
        Gate.wait(gate.begun)
        gate.open()
        self.close_in_time(runner)
        assert self.value(self.outcome()) == "held"

"""Which runner an attempt is given to, and what becomes of those that none is for."""

import logging

import pytest

from mini_workflow.errors import RuntimeClosed
from mini_workflow.ports import TaskOutcome, TaskRequest
from mini_workflow.runners.routed import NamedWorkers
from tests.unit.runners.shelf import Shelf


def request(seq: int, worker: str = "") -> TaskRequest:
    return TaskRequest("e", seq, 1, "t", b"", worker=worker)


class TestNamedWorkers:
    def setup_method(self) -> None:
        self.reported: list[TaskOutcome] = []
        self.default, self.gpu = Shelf(), Shelf()
        self.runner = NamedWorkers(self.default, {"gpu": self.gpu}, self.reported.append)

    def test_each_gets_what_is_for_it(self) -> None:
        self.runner.submit(request(1))
        self.runner.submit(request(2, "gpu"))
        self.runner.submit(request(3, "big"))
        assert [list(shelf.kept) for shelf in (self.default, self.gpu)] == [
            [("e", 1, 1)],
            [("e", 2, 1)],
        ]
        assert [self.runner.holds(("e", seq, 1)) for seq in (1, 2, 3, 4)] == [True] * 3 + [False]
        assert self.reported == []
        assert self.runner.unserved(["e", "other"]) == {"e": ("big",)}

    def test_what_waits_is_reported_once_when_it_is_cancelled(self) -> None:
        self.runner.submit(request(3, "big"))
        for _ in range(2):
            self.runner.cancel("e", 3, "why")
        (outcome,) = self.reported
        assert outcome.key == ("e", 3, 1)
        assert outcome.failure is not None
        assert not self.runner.holds(outcome.key)
        assert self.runner.close(0) == []

    def test_it_is_held_until_it_is_reported(self) -> None:
        held: list[bool] = []

        def report(outcome: TaskOutcome) -> None:
            held.append(runner.holds(outcome.key))

        runner = NamedWorkers(self.default, {}, report)
        runner.submit(request(3, "big"))
        runner.cancel("e", 3)
        assert held == [True]

    def test_what_waits_is_handed_back_unchanged(self) -> None:
        waiting = [request(1, "big"), request(2, "bigger")]
        for one in (*waiting, request(3), request(4, "gpu")):
            self.runner.submit(one)
        assert self.runner.close(0) == [*waiting, request(3), request(4, "gpu")]
        assert not any(self.runner.holds(one.key) for one in waiting)
        with pytest.raises(RuntimeClosed):
            self.runner.submit(request(5, "big"))

    def test_a_runner_of_two_names_is_closed_once(self) -> None:
        runner = NamedWorkers(self.default, {"gpu": self.default, "big": self.gpu}, print)
        runner.close(0)
        assert self.default.calls == self.gpu.calls == ["prepare_close", "close"]

    def test_the_log_says_once_what_is_missing_and_what_to_do(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "mini_workflow.engine"):
            for seq in range(1, 4):
                self.runner.submit(request(seq, "big"))
        (record,) = caplog.records
        assert "'big'" in record.getMessage()
        assert "--label big" in record.getMessage()

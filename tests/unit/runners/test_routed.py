"""Sync and async attempts go to runners of their own; that of async ones is made when it is needed."""

import pytest

from mini_workflow.errors import RuntimeClosed
from mini_workflow.ports import TaskRequest
from mini_workflow.runners.routed import RoutedRunner
from tests.unit.runners.shelf import Shelf


def request(seq: int, *, is_async: bool) -> TaskRequest:
    return TaskRequest("e", seq, 1, "t", b"", is_async=is_async)


class TestRoutedRunner:
    def setup_method(self) -> None:
        self.sync = Shelf()
        self.made: list[Shelf] = []
        self.runner = RoutedRunner(self.sync, self.make)

    def make(self) -> Shelf:
        self.made.append(Shelf())
        return self.made[-1]

    def test_the_first_async_attempt_has_the_runner_made(self) -> None:
        self.runner.submit(request(1, is_async=False))
        self.runner.cancel("e", 7)
        assert (self.runner.holds(("e", 1, 1)), self.runner.holds(("e", 2, 1))) == (True, False)
        assert self.made == []
        self.runner.submit(request(2, is_async=True))
        self.runner.submit(request(3, is_async=True))
        assert [list(shelf.kept) for shelf in self.made] == [[("e", 2, 1), ("e", 3, 1)]]
        assert self.runner.holds(("e", 2, 1))
        self.runner.cancel("e", 2, "given up")
        assert self.made[0].cancelled == [("e", 2, "given up")]

    def test_what_is_left_of_both_comes_back(self) -> None:
        self.runner.submit(request(1, is_async=False))
        self.runner.submit(request(2, is_async=True))
        assert {left.seq for left in self.runner.close(0)} == {1, 2}
        assert [shelf.calls for shelf in (self.sync, *self.made)] == [
            ["prepare_close", "close"]
        ] * 2

    def test_none_is_made_any_more_once_it_is_closed(self) -> None:
        assert self.runner.close(0) == []
        with pytest.raises(RuntimeClosed):
            self.runner.submit(request(1, is_async=True))
        assert self.made == []

"""The order in which shares of requests are made, committed and settled, and what is left after an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from mini_workflow.core import events
from mini_workflow.core.payload import EMPTY
from mini_workflow.engine import share_commit
from mini_workflow.engine.requests import Post, Start, WakeUp
from mini_workflow.engine.share_commit import SHARE, ShareCommit, divide
from mini_workflow.errors import LeaseLost, StoreUnavailable
from mini_workflow.ports import Commit, TaskOutcome


class Doing:
    """Notes what it is asked to do, as "make 0"; what is in `fails` raises, and `others` have messages."""

    def __init__(self, *, fails: dict[str, BaseException] | None = None, others: str = "") -> None:
        self.done: list[str] = []
        self._fails = fails or {}
        self._others = others

    def _do(self, what: str) -> None:
        self.done.append(what)
        if what in self._fails:
            raise self._fails[what]

    def make(self, requests: Sequence[Any], now: int, found: Any = None) -> Any:
        name = requests[0].execution_id
        self._do(f"make {name}" if found is not None else f"make {name} alone")
        outbox: Any = ("a message",) if name in self._others else ()
        turn = SimpleNamespace(commit=Commit(name, 1, outbox=outbox), deletes=False, commands=())
        return SimpleNamespace(name=name, turns={name: turn})

    def begin(self, batch: Any) -> Callable[[], list[bool]]:
        self._do(f"begin {batch.name}")

        def finish() -> list[bool]:
            self._do(f"end {batch.name}")
            return [True]

        return finish

    def commit(self, batch: Any, now: int) -> list[bool]:
        self._do(f"write {batch.name}")
        return [True]

    def settle(self, batch: Any, answers: Sequence[bool], now: int) -> None:
        assert answers == [True]
        self._do(f"settle {batch.name}")

    def discard(self, batch: Any) -> None:
        self._do(f"discard {batch.name}")

    def process(self, names: str, patch: pytest.MonkeyPatch) -> str:
        """Process a share for each of these names. Return the names of those that are left."""
        patch.setattr(share_commit, "SHARE", 1)
        group: Any = self
        left: list[Any] = [outcome(name) for name in names]
        commit = ShareCommit(group, group, self.make, self.settle, self.discard)
        try:
            commit.process(left, 1)
        finally:
            self.left = "".join(request.execution_id for request in left)
        return self.left


def outcome(name: str) -> TaskOutcome:
    return TaskOutcome(name, 1, 1, result="1")


def test_turns_are_made_while_the_commit_before_is_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doing = Doing()
    assert doing.process("abc", monkeypatch) == ""
    assert doing.done == [
        *("make a", "begin a"),
        *("make b", "end a", "begin b", "settle a"),
        *("make c", "end b", "begin c", "settle b"),
        *("end c", "settle c"),
    ]


def test_a_single_share_is_committed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    doing = Doing()
    assert doing.process("a", monkeypatch) == ""
    assert doing.done == ["make a alone", "write a", "settle a"]


def test_turns_with_messages_wait_for_the_commit_before(monkeypatch: pytest.MonkeyPatch) -> None:
    doing = Doing(others="b")
    assert doing.process("abc", monkeypatch) == ""
    assert doing.done == [
        *("make a", "begin a"),
        *("make b", "end a", "settle a", "write b", "settle b"),
        *("make c", "begin c", "end c", "settle c"),
    ]


@pytest.mark.parametrize(
    ("fails", "left", "done"),
    [
        ("make b", "bc", ["make b", "end a", "settle a"]),
        ("end a", "abc", ["make b", "end a", "discard a", "discard b"]),
        ("begin b", "bc", ["make b", "end a", "begin b", "settle a", "discard b"]),
        ("settle a", "ac", ["end a", "begin b", "settle a", "end b", "settle b"]),
        ("end c", "c", ["settle b", "end c", "discard c"]),
        ("settle c", "c", ["settle b", "end c", "settle c"]),
    ],
)
@pytest.mark.parametrize(
    "error", [StoreUnavailable("gone"), LeaseLost("gone"), KeyboardInterrupt()]
)
def test_after_an_error_those_are_left_that_were_not_settled(
    fails: str,
    left: str,
    done: list[str],
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doing = Doing(fails={fails: error})
    with pytest.raises(type(error)):
        doing.process("abc", monkeypatch)
    assert doing.left == left
    assert doing.done[-len(done) :] == done


def test_turns_with_messages_are_discarded_after_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doing = Doing(fails={"write b": StoreUnavailable("gone")}, others="b")
    with pytest.raises(StoreUnavailable):
        doing.process("abc", monkeypatch)
    assert doing.left == "bc"
    assert doing.done[-3:] == ["settle a", "write b", "discard b"]


def test_two_errors_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit in flight has failed too: all are left, and the first error is raised."""
    errors: dict[str, BaseException] = {"make b": LeaseLost("x"), "end a": StoreUnavailable("x")}
    doing = Doing(fails=errors)
    with pytest.raises(LeaseLost):
        doing.process("abc", monkeypatch)
    assert doing.left == "abc"
    assert doing.done[-3:] == ["make b", "end a", "discard a"]


def starts(number: int) -> list[Any]:
    return [Start(f"s{index}", "flow", EMPTY, fresh=True) for index in range(number)]


def test_requests_about_many_executions_are_shared_out() -> None:
    assert len(divide(starts(2 * SHARE - 1))) == 1
    many = starts(2 * SHARE + 1)
    found = divide(many)
    assert [len(share) for share in found] == [SHARE, SHARE, 1]
    assert [request for share in found for request in share] == many


def test_all_requests_about_an_execution_are_in_one_share() -> None:
    names = [f"e{index}" for index in range(2 * SHARE)]
    found = divide([*map(outcome, names), *map(outcome, names)])
    about = [{request.execution_id for request in share} for share in found]  # type: ignore[union-attr]
    assert [len(share) for share in found] == [2 * SHARE, 2 * SHARE]
    assert not about[0] & about[1]
    few = [outcome(f"e{index % 3}") for index in range(3 * SHARE)]
    assert divide(few) == [few]


def test_other_requests_are_not_shared_out() -> None:
    message = events.SignalReceived(1, "go", EMPTY, "id")
    first = starts(1)[0]
    first.message = message
    for other in (WakeUp(), Post("x", message), first):
        requests = [*starts(2 * SHARE), other]
        assert divide(requests) == [requests]

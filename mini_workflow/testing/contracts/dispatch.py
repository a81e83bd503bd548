"""Hold every `Dispatch` to its contract. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial

import pytest

from mini_workflow.errors import StoreError
from mini_workflow.ports import QueuedMessage, TaskRequest
from mini_workflow.ports.queue import Dispatch, Wakeup
from mini_workflow.testing.contracts.fenced_store import TEXTS, at_once

SECOND = 1_000
DAY = 86_400 * SECOND


class DispatchContract:
    """Messages and attempts. Inherit it, and override the four methods below."""

    def open_dispatch(self) -> Dispatch:
        """Open the queue of this test, which is empty at first, as another process does."""
        raise NotImplementedError

    def received(self, number: int) -> list[tuple[str, str]]:
        """Take at least so many messages from the queue, as pairs of an execution and a body."""
        raise NotImplementedError

    def requests(self, number: int) -> list[TaskRequest]:
        """Take at least so many different attempts from the workers' end, in any order."""
        raise NotImplementedError

    def failing(self, *, after: bool) -> AbstractContextManager[None]:
        """Let each call of the service fail in this block: before it is done, or after it, so that its
        answer is lost.
        """
        raise NotImplementedError

    def bodies(self, number: int, execution_id: str = "a") -> list[str]:
        """Return the different bodies of the next messages to an execution, in order of arrival."""
        found = [body for name, body in self.received(number) if name == execution_id]
        return list(dict.fromkeys(found))

    def test_messages_to_one_execution_arrive_in_order(self) -> None:
        one = self.open_dispatch()
        messages = [QueuedMessage("abc"[n % 3], f'{{"n":{n}}}', f"k{n}") for n in range(50)]
        one.post(messages[:1])
        one.post(messages[1:40])
        one.post(messages[40:])
        one.post(())
        found = self.received(50)
        for name in "abc":
            sent = [m.body for m in messages if m.execution_id == name]
            assert [body for to, body in found if to == name] == sent

    def test_messages_arrive_as_they_were_posted(self) -> None:
        bodies = [*TEXTS, "", "x" * 600_000, "after a large one", "é" * 600_000]
        self.open_dispatch().post([QueuedMessage("a", b, f"k{n}") for n, b in enumerate(bodies)])
        assert self.received(len(bodies)) == [("a", body) for body in bodies]

    def test_what_is_posted_again_arrives_once_at_least_and_keeps_its_place(self) -> None:
        one, two = self.open_dispatch(), self.open_dispatch()
        messages = [QueuedMessage("a", body, f"key {body}") for body in "123"]
        one.post(messages)
        two.post(messages)
        assert self.bodies(3) == ["1", "2", "3"]

    @pytest.mark.parametrize("after", [False, True])
    def test_a_post_that_failed_can_be_made_again(self, after: bool) -> None:
        one = self.open_dispatch()
        messages = [QueuedMessage("a", str(n), f"key {n}") for n in range(30)]
        with self.failing(after=after), pytest.raises(StoreError):
            one.post(messages)
        one.post(messages)
        assert self.bodies(30) == [str(n) for n in range(30)]

    def test_no_message_is_lost_when_many_post_at_once(self) -> None:
        def post(writer: int) -> None:
            one = self.open_dispatch()
            for n in range(8):
                one.post([QueuedMessage("a", f"{writer}/{n}", f"{writer}/{n}")])

        at_once([partial(post, writer) for writer in range(3)])
        found = self.bodies(24)
        for writer in range(3):
            own = [body for body in found if body.startswith(f"{writer}/")]
            assert own == [f"{writer}/{n}" for n in range(8)]

    def test_attempts_are_handed_over_as_they_are(self) -> None:
        wanted = [
            TaskRequest("a", 1, 1, "plain", b"\0\xff payload"),
            TaskRequest("a", 2, 3, "é", b"x" * 600_000, 5_000, True, 300, '{"row":"é"}'),
            *(TaskRequest("b", seq, 1, "many", b"") for seq in range(30)),
        ]
        assert self.open_dispatch().run(wanted) == [None] * 32
        assert sorted(self.requests(32), key=lambda one: one.key) == wanted

    @pytest.mark.parametrize("after", [False, True])
    def test_an_attempt_that_cannot_be_handed_over_has_its_error_in_its_place(
        self, after: bool
    ) -> None:
        one = self.open_dispatch()
        wanted = [TaskRequest("a", seq, 1, "task", b"") for seq in range(5)]
        with self.failing(after=after):
            answers = one.run(wanted)
        assert [isinstance(answer, StoreError) for answer in answers] == [True] * 5
        assert one.run(wanted) == [None] * 5
        found = self.requests(5)
        assert {request.seq for request in found} == set(range(5))
        assert one.run([]) == []

    def test_of_attempts_that_were_only_handed_over_no_outcome_is_kept(self) -> None:
        one = self.open_dispatch()
        one.run([TaskRequest("a", 1, 1, "task", b"")])
        assert one.outcomes("a", [(1, 1), (2, 7)]) == []
        assert one.outcomes("unknown", ()) == []
        assert [request.key for request in self.requests(1)] == [("a", 1, 1)]

    def test_a_cancelled_task_leaves_the_others_alone(self) -> None:
        one = self.open_dispatch()
        one.cancel("a", 1, "nobody waits")
        one.cancel("a", 1, "again")
        one.run([TaskRequest("a", 2, 1, "task", b""), TaskRequest("b", 1, 1, "task", b"")])
        one.cancel("unknown", 7, "é")
        assert {request.key for request in self.requests(2)} == {("a", 2, 1), ("b", 1, 1)}


class WakeupContract:
    """Wake-ups, on a clock that the test sets. Inherit it, and override the three methods below."""

    def open_dispatch(self) -> Dispatch:
        """See `DispatchContract.open_dispatch`."""
        raise NotImplementedError

    def now(self) -> int:
        """Return the time of the clock in milliseconds."""
        raise NotImplementedError

    def woken(self, until: int) -> list[tuple[str, int]]:
        """Let time pass until a wake-up fires, at most until a time. Take the wake-ups that have fired,
        as pairs of an execution and the time for which it was set.
        """
        raise NotImplementedError

    def set(self, execution_id: str, after: int) -> Wakeup:
        """Set a wake-up for so many milliseconds from now."""
        one = self.open_dispatch()
        wakeup = one.wakeup(execution_id, self.now() + after, self.now())
        one.set(execution_id, wakeup, self.now())
        return wakeup

    def all_woken(self, until: int) -> set[tuple[str, int]]:
        """Take all wake-ups that fire until a time."""
        found: set[tuple[str, int]] = set()
        while more := self.woken(until):
            found.update(more)
        return found

    def test_what_would_be_set_is_always_the_same_and_sets_nothing(self) -> None:
        one, two, at = self.open_dispatch(), self.open_dispatch(), self.now() + DAY
        first = one.wakeup("a", at, self.now())
        assert first == two.wakeup("a", at, self.now())
        assert first.at == at
        assert first not in (one.wakeup("b", at, self.now()), one.wakeup("a", at + 1, self.now()))
        assert self.all_woken(at + DAY) == set()

    @pytest.mark.parametrize("after", [0, 1, SECOND, 600 * SECOND, 1_200 * SECOND, 40 * DAY])
    def test_an_execution_is_woken_by_its_time(self, after: int) -> None:
        at = self.set("a", after).at
        # A wake-up that fires early has to be set again for the rest of the time.
        for _ in range(3):
            assert set(self.woken(at + SECOND)) == {("a", at)}
            if self.now() >= at:
                return
            self.set("a", at - self.now())
        raise AssertionError(f"woken three times, and still {at - self.now()} ms too early")

    def test_what_is_set_twice_goes_off(self) -> None:
        first = self.set("a", 2 * DAY)
        assert self.set("a", 2 * DAY) == first
        assert self.all_woken(first.at) == {("a", first.at)}

    def test_each_execution_has_wakeups_of_its_own(self) -> None:
        wakeups = {
            (n, self.set(n, after).at) for n in "ab" for after in (60 * SECOND, 60 * SECOND + 1)
        }
        assert self.all_woken(self.now() + 61 * SECOND) == wakeups

    def test_what_is_taken_back_takes_no_other_with_it(self) -> None:
        gone, kept, others = self.set("a", DAY), self.set("a", 2 * DAY), self.set("b", DAY)
        one = self.open_dispatch()
        for _ in range(2):
            one.unset(gone)
        one.unset(one.wakeup("unknown", self.now() + DAY, self.now()))
        assert {("a", kept.at), ("b", others.at)} <= self.all_woken(kept.at)
        one.unset(kept)

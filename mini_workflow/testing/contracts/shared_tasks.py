"""Hold every `SharedTasks` to its contract. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

from typing import Any

from mini_workflow.core.records import replace
from mini_workflow.ports import Backend, Commit
from mini_workflow.ports.shared_tasks import SharedTask, SharedTasks
from mini_workflow.testing.contracts.backend import BackendContract, change, create, creation


def task(seq: int = 1, attempt: int = 1, **fields: Any) -> SharedTask:
    """Return an attempt with the given fields, and defaults for the others."""
    plain: dict[str, Any] = {"worker": "gpu", "body": f"body {seq} {attempt}"}
    return SharedTask(fields.pop("execution_id", "a"), seq, attempt, **{**plain, **fields})


def shared(backend: Backend) -> SharedTasks:
    """Return the port of a backend."""
    opened: Any = backend
    return opened.shared_tasks


class SharedTaskContract(BackendContract):
    """The contract of `SharedTasks`. Inherit it, for a backend that has `shared_tasks`."""

    def pair(self) -> tuple[Backend, Backend]:
        """Return an owner that holds two executions, and another one that runs tasks of a worker."""
        one = self.owner("one")
        create(one, "a", "b")
        two = self.onlooker("two")
        shared(two).serve(["gpu"])
        two.leases.acquire(self.clock.now())
        return one, two

    def messages(self, backend: Backend) -> list[tuple[str, str]]:
        """Return the messages to executions of an owner."""
        return [(e.execution_id, e.body) for e in backend.mailbox.entries(0, 100)]

    def taken(self, backend: Backend, limit: int = 100, worker: str = "gpu") -> list[SharedTask]:
        """Take attempts as an owner. Return all attempts that it has."""
        shared(backend).take(worker, limit)
        return shared(backend).taken()

    def test_what_is_offered_is_taken_by_one_owner_in_its_order(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(2), task(1, heartbeat="5"), task(3, 2)])
        found = self.taken(two)
        assert [(t.seq, t.attempt, t.body, t.heartbeat) for t in found] == [
            (2, 1, "body 2 1", None),
            (1, 1, "body 1 1", "5"),
            (3, 2, "body 3 2", None),
        ]
        assert self.taken(self.owner("three")) == []
        assert shared(one).taken() == []

    def test_no_more_are_taken_than_are_asked_for(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(n) for n in range(1, 6)])
        assert shared(two).take("gpu", 2) == 2
        assert [t.seq for t in shared(two).taken()] == [1, 2]
        three = self.owner("three")
        assert [t.seq for t in self.taken(three, 2)] == [3, 4]
        assert [t.seq for t in self.taken(two)] == [1, 2, 5]

    def test_those_of_another_worker_are_left(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1, worker="big"), task(2)])
        assert [t.seq for t in self.taken(two)] == [2]
        assert shared(one).waiting() == [("a", "big")]

    def test_what_is_offered_twice_is_there_once(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1)])
        shared(one).offer([task(1, body="other")])
        assert [t.body for t in self.taken(two)] == ["body 1 1"]
        shared(one).offer([task(1)])
        assert shared(two).take("gpu", 1) == 0

    def test_only_what_the_owner_holds_can_be_offered(self) -> None:
        _, two = self.pair()
        shared(two).offer([task(1), task(1, execution_id="none")])
        assert self.taken(two) == []

    def test_an_outcome_becomes_a_message_to_whoever_holds_the_execution(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1), task(2)])
        first, second = self.taken(two)
        shared(two).settle([(first, "done"), (second, "failed")])
        assert shared(two).taken() == []
        assert self.messages(one) == [("a", "done"), ("a", "failed")]
        one.leases.release()
        three = self.owner("three")
        if not self.messages(three):  # each takes its share
            two.leases.acquire(self.clock.now())
            three = two
        assert self.messages(three) == [("a", "done"), ("a", "failed")]

    def test_an_outcome_that_comes_twice_is_one_message(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1)])
        found = self.taken(two)
        shared(two).settle([(found[0], "done")])
        shared(two).settle([(found[0], "again")])
        assert self.messages(one) == [("a", "done")]

    def test_what_is_settled_is_not_offered_again_before_its_message_is_taken(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1)])
        shared(two).settle([(self.taken(two)[0], "done")])
        assert shared(one).kept() == [("a", 1, 1)]
        shared(one).offer([task(1)])
        assert self.taken(two) == []
        (entry,) = one.mailbox.entries(0, 10)
        one.store.commit([Commit("a", 1, ("completed",), taken=(entry.number,))])
        assert shared(one).kept() == []
        shared(one).offer([task(2)])
        assert [t.seq for t in self.taken(two)] == [2]

    def test_what_an_owner_that_is_gone_had_is_lost_and_settled_by_another(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1), task(2)])
        first, _ = self.taken(two)
        shared(two).beat([replace(first, heartbeat="[7]")])
        assert shared(one).lost() == []
        two.leases.release()
        lost = shared(one).lost()
        assert [(t.seq, t.heartbeat) for t in lost] == [(1, "[7]"), (2, None)]
        shared(one).settle([(t, "lost") for t in lost])
        assert shared(one).lost() == []
        # The first owner was only slow: its outcome comes too late.
        shared(two).settle([(first, "done")])
        assert self.messages(one) == [("a", "lost")] * 2

    def test_an_owner_without_a_lease_takes_nothing_and_has_nothing(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1), task(2)])
        shared(two).take("gpu", 1)
        two.leases.release()
        assert shared(two).take("gpu", 1) == 0
        assert shared(two).taken() == []
        two.leases.acquire(self.clock.now())
        assert shared(two).taken() == []
        assert [t.seq for t in self.taken(two)] == [2]

    def test_what_is_handed_back_can_be_taken_by_another(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1)])
        (found,) = self.taken(two)
        shared(two).hand_back([replace(found, heartbeat='"half"')])
        assert shared(two).taken() == []
        three = self.owner("three")
        assert [t.heartbeat for t in self.taken(three)] == ['"half"']
        shared(two).settle([(found, "late")])
        assert self.messages(one) == []

    def test_cancelling_drops_what_nobody_has_taken(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1), task(2)])
        assert shared(one).cancel("a", 1, "enough") == [("a", 1, 1)]
        assert shared(one).cancel("a", 1, "enough") == []
        assert [t.seq for t in self.taken(two)] == [2]

    def test_who_has_taken_it_finds_why_it_was_cancelled(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1), task(2)])
        first, second = self.taken(two)
        assert shared(one).cancel("a", 2, "enough") == []
        assert [t.cancelled for t in shared(two).taken()] == [None, "enough"]
        # An owner that does not hold the execution cancels nothing.
        assert shared(two).cancel("a", 1, "no") == []
        shared(two).settle([(first, "done"), (second, "cancelled")])
        assert self.messages(one) == [("a", "done"), ("a", "cancelled")]
        assert shared(one).cancel("a", 2, "enough") == []

    def test_the_next_owner_finds_what_is_kept_for_it(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1), task(2), task(1, execution_id="b")])
        shared(two).take("gpu", 1)
        assert sorted(shared(one).kept()) == [("a", 1, 1), ("a", 2, 1), ("b", 1, 1)]
        assert shared(one).kept(("a", 2, 1)) == [("a", 2, 1)]
        assert shared(one).kept(("a", 2, 2)) == []
        assert shared(two).kept() == []
        one.leases.release()
        assert shared(one).kept() == []
        while two.leases.acquire(self.clock.now()):
            pass
        assert sorted(shared(two).kept()) == [("a", 1, 1), ("a", 2, 1), ("b", 1, 1)]

    def test_nothing_of_an_execution_that_has_closed_is_taken_or_kept(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1), task(2), task(3, execution_id="b")])
        shared(two).take("gpu", 1)
        change(one, "a", status="completed", closed_at=2_000)
        assert [t.seq for t in self.taken(two)] == [1, 3]
        assert shared(one).kept() == [("b", 3, 1)]
        assert shared(one).waiting() == []
        shared(one).offer([task(4)])
        assert [t.seq for t in self.taken(two)] == [1, 3]

    def test_nothing_is_left_of_an_execution_that_was_deleted(self) -> None:
        one, two = self.pair()
        shared(one).offer([task(1), task(2)])
        first, _ = self.taken(two)
        shared(two).settle([(first, "done")])
        change(one, "a", status="completed", closed_at=2_000)
        assert [entry.body for entry in one.mailbox.entries(0, 10)] == ["done"]
        assert one.store.commit([Commit("a", 2, deleted_at=3_000)]) == [True]
        assert shared(two).taken() == []
        assert one.store.commit([creation("a")]) == [True]
        shared(one).offer([task(2, body="new")])
        assert [t.body for t in self.taken(two)] == ["new"]

    def test_owners_know_which_workers_the_living_ones_serve(self) -> None:
        one, two = self.pair()
        three = self.onlooker("three")
        shared(three).serve(["big", "gpu"])
        assert shared(one).served() == {"gpu"}
        three.leases.acquire(self.clock.now())
        assert shared(one).served() == {"gpu", "big"}
        two.leases.release()
        three.leases.release()
        assert shared(one).served() == set()

    def test_an_owner_whose_lease_has_ended_serves_nothing(self) -> None:
        one, _ = self.pair()
        self.clock.advance(self.LEASE + 1)
        one.leases.renew(self.clock.now())
        assert shared(one).served() == set()

    def test_what_waits_is_told_once_for_each_worker(self) -> None:
        one, two = self.pair()
        ones = [task(1), task(2), task(3, worker="big"), task(4, execution_id="b")]
        shared(one).offer(ones)
        assert shared(two).waiting() == [("a", "big"), ("a", "gpu"), ("b", "gpu")]
        assert shared(two).waiting("b") == [("b", "gpu")]
        self.taken(two)
        assert shared(one).waiting() == [("a", "big")]

    def test_texts_come_back_as_they_were(self) -> None:
        one, two = self.pair()
        odd = "a\"b\\c{,}\n\u00e9\U0001f600 '%s"
        shared(one).offer([task(1, body=odd, heartbeat=odd)])
        (found,) = self.taken(two)
        assert (found.body, found.heartbeat) == (odd, odd)
        assert shared(one).cancel("a", 1, odd) == []
        assert shared(two).taken()[0].cancelled == odd
        shared(two).settle([(found, odd)])
        assert self.messages(one) == [("a", odd)]

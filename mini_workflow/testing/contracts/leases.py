"""Hold every `Leases` to its contract, between openers in one process. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mini_workflow.errors import LeaseLost
from mini_workflow.ports import Commit
from mini_workflow.testing.contracts.backend import (
    Backend,
    BackendContract,
    bodies,
    create,
    creation,
    length,
)


class LeasesContract(BackendContract):
    """The contract of `Leases`. Inherit it, and override `open_backend`."""

    def acquire(self, backend: Backend) -> bool:
        """Acquire a lease now."""
        return backend.leases.acquire(self.clock.now())

    def writes(self, backend: Backend, name: str) -> bool:
        """Return whether the backend can append to an execution."""
        return backend.store.commit([Commit(name, length(backend, name), ("more",))]) == [True]

    def test_at_first_there_is_nothing_to_take_over(self) -> None:
        one = self.onlooker("one")
        assert not self.acquire(one)
        create(one, "a")
        assert not self.acquire(one)
        assert self.writes(one, "a")

    def test_what_is_held_is_left_alone(self) -> None:
        one = self.owner("one")
        create(one, "a")
        two = self.onlooker("two")
        assert not self.acquire(two)
        self.clock.advance(self.LEASE)
        assert not self.acquire(two)
        assert not self.writes(two, "a")
        assert self.writes(one, "a")

    def test_what_was_released_is_taken_at_once(self) -> None:
        one = self.owner("one")
        create(one, "a")
        one.leases.release()
        two = self.onlooker("two")
        assert self.acquire(two)
        assert self.writes(two, "a")

    def test_taking_over_what_holds_nothing_is_not_worth_mentioning(self) -> None:
        self.owner("one").leases.release()
        assert not self.acquire(self.onlooker("two"))

    def test_what_was_closed_without_a_release_is_taken_when_the_lease_has_ended(self) -> None:
        one = self.owner("one")
        create(one, "a")
        one.close()
        two = self.onlooker("two")
        self.clock.advance(self.LEASE)
        assert not self.acquire(two)
        self.clock.advance(1)
        assert self.acquire(two)
        assert not self.acquire(two)
        assert self.writes(two, "a")

    def test_an_owner_that_comes_back_is_another_one(self) -> None:
        one = self.owner("one")
        create(one, "a")
        one.close()
        again = self.onlooker("one")
        assert not self.acquire(again)
        self.clock.advance(self.LEASE + 1)
        assert self.acquire(again)

    def test_renewing_keeps_the_lease(self) -> None:
        one, two = self.owner("one"), self.owner("two")
        create(one, "a")
        for _ in range(5):
            now = self.clock.now()
            following = one.leases.renew(now)
            assert now < following <= now + self.LEASE // 2
            self.clock.set(following)
            two.leases.renew(following)
            assert not self.acquire(two)
        self.clock.advance(self.LEASE)
        assert self.acquire(two)

    def test_extending_on_another_thread_keeps_the_lease(self) -> None:
        one = self.owner("one")
        create(one, "a")
        two = self.onlooker("two")
        for _ in range(3):
            self.clock.advance(self.LEASE)
            with ThreadPoolExecutor(1) as threads:
                threads.submit(one.leases.extend, self.clock.now()).result()
            assert not self.acquire(two)
        assert self.writes(one, "a")

    def test_extending_a_lease_that_was_lost_or_released_brings_nothing_back(self) -> None:
        one = self.owner("one")
        create(one, "a")
        self.clock.advance(self.LEASE + 1)
        two = self.owner("two")
        one.leases.extend(self.clock.now())
        with pytest.raises(LeaseLost):
            self.writes(one, "a")
        assert self.writes(two, "a")
        two.leases.release()
        two.leases.extend(self.clock.now())
        assert self.acquire(self.onlooker("three"))

    def test_the_turn_that_an_owner_was_lost_in_is_counted(self) -> None:
        one = self.owner("one")
        create(one, "a", "b")
        one.leases.note_turn("a")
        self.clock.advance(self.LEASE + 1)
        two = self.owner("two")
        assert [self.tries(two, name) for name in "ab"] == [2, 0]
        assert self.writes(two, "a")
        assert self.tries(two, "a") == 2
        assert two.store.commit([Commit("a", length(two, "a"), tries=0)]) == [True]
        assert self.tries(two, "a") == 0

    def test_tries_add_up_from_owner_to_owner(self) -> None:
        create(self.owner("one"), "a")
        for number in range(3):
            self.clock.advance(self.LEASE + 1)
            owner = self.owner(f"next {number}")
            assert self.tries(owner, "a") == 2 * number
            owner.leases.note_turn("a")

    def test_an_owner_between_two_turns_counts_for_nobody(self) -> None:
        one = self.owner("one")
        create(one, "a")
        one.leases.note_turn("a")
        one.leases.note_turn(None)
        self.clock.advance(self.LEASE + 1)
        assert self.tries(self.owner("two"), "a") == 0

    def test_an_owner_that_has_released_counts_for_nobody(self) -> None:
        one = self.owner("one")
        create(one, "a")
        one.leases.note_turn("a")
        one.leases.release()
        self.clock.advance(self.LEASE + 1)
        assert self.tries(self.owner("two"), "a") == 0

    def test_a_note_about_nobody_that_is_there_is_harmless(self) -> None:
        one = self.owner("one")
        create(one, "a")
        one.leases.note_turn("x" * 100)
        self.clock.advance(self.LEASE + 1)
        assert self.tries(self.owner("two"), "a") == 0

    def tries(self, backend: Backend, name: str) -> int:
        """Return the tries of an execution: they count owners that were lost during its turn."""
        stored = backend.store.load(name)
        assert stored is not None
        return stored.tries

    def test_a_lease_that_has_ended_holds_until_somebody_takes_over(self) -> None:
        one = self.owner("one")
        create(one, "a")
        self.clock.advance(100 * self.LEASE)
        assert self.writes(one, "a")
        one.leases.renew(self.clock.now())
        assert not self.acquire(self.onlooker("two"))
        assert self.writes(one, "a")

    def test_a_stale_owner_learns_it_whatever_it_does(self) -> None:
        stale = [self.owner(f"one {number}") for number in range(4)]
        create(stale[0], "a")
        self.clock.advance(self.LEASE + 1)
        self.owner("two")
        with pytest.raises(LeaseLost):
            stale[0].store.commit([Commit("a", 1, ("stale",))])
        with pytest.raises(LeaseLost):
            stale[1].leases.renew(self.clock.now())
        with pytest.raises(LeaseLost):
            self.acquire(stale[2])
        stale[3].leases.release()

    def test_a_stale_owner_that_has_learnt_it_may_start_again(self) -> None:
        one = self.owner("one")
        create(one, "a", wake_at=5)
        self.clock.advance(self.LEASE + 1)
        two = self.owner("two")
        with pytest.raises(LeaseLost):
            one.leases.renew(self.clock.now())
        with pytest.raises(LeaseLost):
            one.leases.renew(self.clock.now())
        assert not self.acquire(one)
        create(one, "b", wake_at=6)
        assert not self.writes(one, "a")
        assert one.agenda.due(10, 10) == ["b"]
        assert two.agenda.due(10, 10) == ["a"]
        two.leases.release()
        assert self.acquire(one)
        assert one.agenda.due(10, 10) == ["a", "b"]
        assert self.writes(one, "a")

    def test_a_stale_owner_is_not_taken_for_a_later_one(self) -> None:
        one = self.owner("one")
        create(one, "a")
        self.clock.advance(self.LEASE + 1)
        for name in ("two", "three"):
            self.owner(name).leases.release()
        self.owner("one")
        with pytest.raises(LeaseLost):
            one.store.commit([Commit("a", 1, ("stale",))])

    def test_what_came_back_is_known_as_the_other_owner_left_it(self) -> None:
        one = self.owner("one")
        create(one, "a")
        one.leases.release()
        two = self.owner("two")
        assert two.store.commit([Commit("a", 1, ("second", "third"))]) == [True]
        two.leases.release()
        assert self.acquire(one)
        assert one.store.commit([Commit("a", 1, ("second",))]) == [False]
        assert one.store.commit([Commit("a", 3, ("fourth",))]) == [True]

    def test_who_has_released_holds_nothing(self) -> None:
        one = self.owner("one")
        create(one, "a", wake_at=5)
        one.mailbox.post("a", "message", "key")
        one.leases.release()
        one.leases.release()
        assert one.agenda.due(10, 10) == []
        assert bodies(one) == []
        for call in (lambda: one.store.commit([creation("b")]), lambda: one.leases.renew(0)):
            with pytest.raises(LeaseLost):
                call()
        assert self.acquire(one)
        assert bodies(one) == ["message"]
        assert self.writes(one, "a")

    def test_only_one_takes_over(self) -> None:
        one = self.owner("one")
        create(one, "a")
        one.close()
        self.clock.advance(self.LEASE + 1)
        others = [self.onlooker(str(number)) for number in range(3)]
        assert [self.acquire(other) for other in others] == [True, False, False]
        assert [self.writes(other, "a") for other in others] == [True, False, False]

    def test_an_owner_takes_over_from_the_dead_and_not_from_the_living(self) -> None:
        dead, living = self.owner("dead"), self.owner("living")
        create(dead, "a")
        create(living, "b")
        self.clock.advance(self.LEASE + 1)
        living.leases.renew(self.clock.now())
        two = self.onlooker("two")
        assert self.acquire(two)
        create(two, "c")
        assert [self.writes(two, name) for name in "abc"] == [True, False, True]
        assert [self.writes(living, name) for name in "abc"] == [False, True, False]

    def test_many_owners_that_come_and_go_leave_all_to_the_last(self) -> None:
        names = [f"e{number:02}" for number in range(30)]
        staying = self.owner("staying")
        for name in names:
            passing = self.owner(name)
            create(passing, name, busy=True)
            passing.leases.release()
            passing.close()
            if int(name[1:]) % 7 == 0:
                assert self.acquire(staying)
        assert self.acquire(staying)
        assert staying.agenda.busy("", 100) == names
        assert all(self.writes(staying, name) for name in names)
        staying.leases.release()
        last = self.onlooker("last")
        assert self.acquire(last)
        assert last.agenda.busy("", 100) == names

    def test_the_peers_are_the_other_living_owners(self) -> None:
        one, two = self.owner("one"), self.owner("two")
        onlooker = self.onlooker()
        assert one.leases.peers() == ["two"]
        assert two.leases.peers() == ["one"]
        assert sorted(onlooker.leases.peers()) == ["one", "two"]
        self.clock.advance(self.LEASE + 1)
        two.leases.renew(self.clock.now())
        assert onlooker.leases.peers() == ["two"]
        two.leases.release()
        assert onlooker.leases.peers() == []


class ShareContract(BackendContract):
    """The contract of stores that share free partitions among the owners with an address.

    Inherit it, and override `open_backend` so that each owner has an address.
    """

    def test_those_that_live_share_what_one_has_left(self) -> None:
        gone, one, two = self.owner("gone"), self.owner("one"), self.owner("two")
        names = [f"e{number:02}" for number in range(16)]
        create(gone, *names, busy=True)
        gone.leases.release()
        now = self.clock.now()
        assert one.leases.acquire(now)
        assert two.leases.acquire(now)
        shares = [set(owner.agenda.busy("", 100)) for owner in (one, two)]
        assert all(len(share) >= 4 for share in shares)
        assert shares[0].isdisjoint(shares[1])
        while one.leases.acquire(now):
            pass
        assert {*one.agenda.busy("", 100), *shares[1]} == set(names)

    def test_who_stays_alone_takes_what_was_left_for_one_that_is_gone_too(self) -> None:
        gone, going, stays = self.owner("gone"), self.owner("going"), self.owner("stays")
        names = [f"e{number:02}" for number in range(16)]
        create(gone, *names, busy=True)
        gone.close()
        for _ in range(2):
            self.clock.advance(self.LEASE // 2 + 1)
            for owner in (going, stays):
                owner.leases.renew(self.clock.now())
        assert stays.leases.acquire(self.clock.now())
        assert 0 < len(stays.agenda.busy("", 100)) < len(names)
        # The other owner ends before it has taken its share.
        going.close()
        for _ in range(2):
            self.clock.advance(self.LEASE // 2 + 1)
            stays.leases.renew(self.clock.now())
        while stays.leases.acquire(self.clock.now()):
            pass
        assert stays.agenda.busy("", 100) == names

    def test_an_owner_that_is_alone_takes_everything(self) -> None:
        gone = self.owner("gone")
        names = [f"e{number}" for number in range(9)]
        create(gone, *names, busy=True)
        gone.leases.release()
        one = self.owner("one")
        assert one.agenda.busy("", 100) == names
        assert not one.leases.acquire(self.clock.now())

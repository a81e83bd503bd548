"""Hold every store to which the owner of an execution alone writes to its contract. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

import pytest

from mini_workflow.errors import LeaseLost, StoreUnavailable
from mini_workflow.ports import Commit, Query, Stored
from mini_workflow.testing.contracts.backend import BackendContract, bodies, create, creation, head
from mini_workflow.testing.contracts.store import TEXTS

_BLOCKED = {
    "status": "blocked",
    "closed_at": 2_000,
    "busy": True,
    "wake_at": 3_000,
    "blocked_kind": "code",
    "blocked_reason": "the code has changed",
    "run": 7,
}


class OwnershipContract(BackendContract):
    """The contract on who may write, and on the messages of a commit. Inherit it, and override
    `open_backend`.
    """

    def test_a_stale_owner_writes_nothing_at_all(self) -> None:
        one = self.owner("one")
        create(one, "a")
        self.clock.advance(self.LEASE + 1)
        two = self.owner("two")
        with pytest.raises(LeaseLost):
            one.store.commit([creation("b"), Commit("a", 1, ("stale",))])
        with pytest.raises(LeaseLost):
            one.store.commit([creation("b")])
        assert two.store.history("a") == ["started"]
        assert two.store.head("b") is None

    def test_nothing_can_be_written_without_a_lease(self) -> None:
        with pytest.raises(LeaseLost):
            self.onlooker().store.commit([creation("a")])

    def test_what_another_owner_holds_cannot_be_written_to(self) -> None:
        one, two = self.owner("one"), self.owner("two")
        create(one, "a")
        assert two.store.load("a") == Stored(head("a"), ["started"], [], held=False)
        answers = two.store.commit([Commit("a", 1, ("no",)), creation("a"), creation("b")])
        assert answers == [False, False, True]
        assert one.store.history("a") == ["started"]

    def test_what_was_answered_survives_the_owner(self) -> None:
        one = self.owner()
        create(one, "a", **_BLOCKED)
        assert one.store.commit([Commit("a", 1, ("more",), park=("p",))]) == [True]
        one.close()
        assert self.onlooker().store.load("a") == Stored(
            head("a", **_BLOCKED), ["started", "more"], ["p"], held=False
        )

    @pytest.mark.parametrize("text", TEXTS, ids=ascii)
    def test_any_text_is_a_name(self, text: str) -> None:
        one = self.owner()
        assert one.store.commit([creation(f"a{text}", text)]) == [True]
        assert one.store.commit([Commit(f"a{text}", 1, (text,))]) == [True]
        assert one.store.load(f"a{text}") == Stored(head(f"a{text}"), [text, text], [])
        assert one.store.load("a" if text else "b") is None

    def test_more_names_that_differ(self) -> None:
        one = self.owner()
        names = ["a", "A", "a ", "é", "e\u0301", "a%", "a_", "a/b"]
        create(one, *names)
        assert {item.execution_id for item in one.store.list(Query()).heads} == set(names)

    def test_a_message_stays_where_its_commit_is_refused(self) -> None:
        one = self.owner()
        create(one, "a")
        one.mailbox.post("a", "message", "key")
        (entry,) = one.mailbox.entries(0, 10)
        stale = Commit("a", 2, ("third",), taken=(entry.number,))
        assert one.store.commit([stale]) == [False]
        assert bodies(one) == ["message"]

    def test_a_message_leaves_with_the_commit_that_takes_it(self) -> None:
        one = self.owner()
        create(one, "a", "b")
        for name in "ab":
            one.mailbox.post(name, f"to {name}", "key")
        first, second = one.mailbox.entries(0, 10)
        # The number of another execution's message, or of a removed one, has no effect.
        taking = Commit("a", 1, ("got it",), taken=(first.number, second.number, 987_654))
        assert one.store.commit([taking]) == [True]
        assert bodies(one) == ["to b"]
        assert one.store.commit([Commit("b", 1, taken=(second.number,))]) == [True]
        assert bodies(one) == []

    def test_a_closed_backend_refuses_everything(self) -> None:
        one = self.owner()
        create(one, "a")
        one.close()
        one.close()
        calls = [
            lambda: one.store.load("a"),
            lambda: one.store.head("a"),
            lambda: one.store.history("a"),
            lambda: one.store.list(Query()),
            lambda: one.store.commit([creation("b")]),
            lambda: one.agenda.due(0, 1),
            lambda: one.mailbox.post("a", "message", "key"),
            lambda: one.leases.renew(self.clock.now()),
            one.leases.peers,
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable):
                call()

    def test_what_has_begun_anew_survives_the_owner(self) -> None:
        one = self.owner()
        create(one, "a", wake_at=5)
        anew = head("a", run=2, base=2, busy=True)
        assert one.store.commit([Commit("a", 1, ("end", "begin"), anew)]) == [True]
        one.close()
        self.clock.advance(self.LEASE + 1)
        two = self.owner("two")
        assert two.store.load("a") == Stored(anew, ["begin"], [])
        assert two.agenda.next_wake() is None
        assert two.agenda.busy("", 10) == ["a"]
        assert two.store.commit([Commit("a", 3, ("more",))]) == [True]

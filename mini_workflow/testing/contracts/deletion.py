"""Hold every `Store` to its contract about deletions, and around them. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

import pytest

from mini_workflow.core.tags import tags_as_text
from mini_workflow.errors import ExecutionNotFound, UsageError
from mini_workflow.ports import DELETIONS_KEPT, Commit, Found, Query, QueuedMessage, Stored
from mini_workflow.testing.contracts.backend import (
    BackendContract,
    Opened,
    StoreCase,
    bodies,
    create,
    creation,
    head,
)

TAGS = tags_as_text({"customer": "c-7"})


def deleted_events(opened: Opened, execution_id: str) -> int:
    """Return the number of events of deleted executions with an id."""
    return opened.store.lookup([execution_id])[execution_id].deleted_events


class DeletionContract(StoreCase):
    """The contract about deletions. Inherit it, and override `open_store`."""

    def delete(self, opened: Opened, execution_id: str, expected: int) -> bool:
        deletion = Commit(execution_id, expected, deleted_at=self.clock.now())
        return opened.store.commit([deletion])[0]

    def sweep(self, opened: Opened) -> None:
        """Sweep to the end, a little at a time."""
        for _ in range(1_000):
            if not opened.store.sweep(self.clock.now(), 2):
                return
        raise AssertionError("the sweep does not come to an end")

    def test_what_is_deleted_cannot_be_read_in_any_way(self) -> None:
        one = self.writer()
        create(one, "a", "b", tags=TAGS, status="completed", closed_at=2_000)
        assert one.store.commit([Commit("a", 1, ("1", "2"), park=("parked",))]) == [True]
        assert self.delete(one, "a", 3)
        for opened in (one, self.reader()):
            for _ in range(2):
                assert opened.store.load("a") is None
                assert opened.store.head("a") is None
                assert opened.store.extent("a") is None
                assert opened.store.history("a") == []
                assert opened.store.history("a", 1) == []
                for query in (Query(), Query(tags=(("customer", "c-7"),))):
                    assert [one.execution_id for one in opened.store.list(query).heads] == ["b"]
                    assert opened.store.count(query) == 1
                self.sweep(one)

    @pytest.mark.parametrize("expected", [1, 2, 4])
    def test_one_that_expects_another_length_deletes_nothing(self, expected: int) -> None:
        one = self.writer()
        create(one, "a")
        assert one.store.commit([Commit("a", 1, ("1", "2"))]) == [True]
        assert not self.delete(one, "a", expected)
        assert not self.delete(one, "b", expected)
        self.sweep(one)
        assert one.store.load("a") == Stored(head("a"), ["started", "1", "2"], [])
        assert deleted_events(one, "a") == 0

    def test_one_that_brings_anything_else_is_refused(self) -> None:
        one = self.writer()
        create(one, "a")
        for commit in (
            Commit("a", 0, deleted_at=5),
            Commit("a", 1, ("event",), deleted_at=5),
            Commit("a", 1, head=head("a"), deleted_at=5),
        ):
            with pytest.raises(UsageError):
                one.store.commit([commit])
        assert one.store.load("a") == Stored(head("a"), ["started"], [])

    def test_nothing_is_written_to_it_any_more(self) -> None:
        one = self.writer()
        create(one, "a")
        assert one.store.load("a") is not None
        assert self.delete(one, "a", 1)
        assert not self.delete(one, "a", 1)
        assert one.store.commit([Commit("a", 1, ("late",))]) == [False]
        assert one.store.commit([Commit("a", 1, ("late",), head("a"))]) == [False]
        self.sweep(one)
        assert one.store.history("a") == []

    @pytest.mark.parametrize("swept", [False, True])
    def test_its_id_can_be_used_again_and_brings_nothing_along(self, swept: bool) -> None:
        one = self.writer()
        create(one, "a", tags=TAGS)
        assert one.store.commit([Commit("a", 1, ("old", "older"), park=("parked",))]) == [True]
        assert self.delete(one, "a", 3)
        if swept:
            self.sweep(one)
        create(one, "a", workflow="other")
        for _ in range(2):
            assert one.store.load("a") == Stored(head("a", workflow="other"), ["started"], [])
            assert one.store.history("a", 1) == []
            assert one.store.list(Query(tags=(("customer", "c-7"),))).heads == []
            assert one.store.count(Query(workflow="order")) == 0
            assert one.store.list(Query()).heads == [head("a", workflow="other")]
            self.sweep(one)
        assert one.store.commit([Commit("a", 1, ("new",))]) == [True]
        assert one.store.history("a") == ["started", "new"]

    def test_what_is_created_next_has_nothing_of_it(self) -> None:
        one = self.writer()
        create(one, "a", tags=TAGS)
        assert one.store.commit([Commit("a", 1, ("old",), park=("parked",))]) == [True]
        assert self.delete(one, "a", 2)
        create(one, "b")
        self.sweep(one)
        assert one.store.load("b") == Stored(head("b"), ["started"], [])
        assert one.store.list(Query(tags=(("customer", "c-7"),))).heads == []

    def test_one_step_may_delete_and_create_others(self) -> None:
        one = self.writer()
        create(one, "a", "b")
        answers = one.store.commit(
            [
                creation("c", "first", "second", workflow="other"),
                Commit("a", 1, deleted_at=self.clock.now()),
                Commit("b", 1, ("more",)),
                Commit("d", 1, deleted_at=self.clock.now()),
            ]
        )
        assert answers == [True, True, True, False]
        self.sweep(one)
        assert one.store.load("a") is None
        assert one.store.load("c") == Stored(head("c", workflow="other"), ["first", "second"], [])
        assert one.store.history("b") == ["started", "more"]
        assert deleted_events(one, "a") == 1
        assert deleted_events(one, "d") == 0

    def test_the_events_of_all_that_had_the_id_are_counted(self) -> None:
        one = self.writer()
        assert deleted_events(one, "a") == 0
        create(one, "a")
        assert one.store.commit([Commit("a", 1, ("end", "next"), head("a", run=2, base=2))])[0]
        assert deleted_events(one, "a") == 0
        assert self.delete(one, "a", 3)
        create(one, "a")
        assert deleted_events(one, "a") == 3
        self.clock.set(self.clock.now() + 2 * DELETIONS_KEPT)
        self.sweep(one)
        assert deleted_events(one, "a") == 3, "the id is in use"
        assert self.delete(one, "a", 1)
        for opened in (one, self.reader()):
            assert deleted_events(opened, "a") == 4
        self.clock.set(self.clock.now() + DELETIONS_KEPT - 1)
        self.sweep(one)
        assert deleted_events(one, "a") == 4
        assert deleted_events(one, "b") == 0

    def test_many_ids_are_looked_up_at_once(self) -> None:
        one = self.writer()
        create(one, "a", "b", "c")
        assert one.store.commit([Commit("a", 1, ("more",))]) == [True]
        assert self.delete(one, "a", 2)
        assert self.delete(one, "b", 1)
        create(one, "b", tags=TAGS)
        for opened in (one, self.reader()):
            assert opened.store.lookup(["c", "nobody", "a", "b"]) == {
                "a": Found(None, 2),
                "b": Found(head("b", tags=TAGS), 1),
                "c": Found(head("c")),
                "nobody": Found(None),
            }
            assert opened.store.lookup([]) == {}

    def test_pages_fit_together_although_something_is_deleted(self) -> None:
        one = self.writer()
        names = [f"e{number}" for number in range(6)]
        for number, name in enumerate(names):
            create(one, name, started_at=1_000 + number)
        first = one.store.list(Query(limit=2))
        assert [found.execution_id for found in first.heads] == ["e5", "e4"]
        for name in ("e4", "e2"):
            assert self.delete(one, name, 1)
        self.sweep(one)
        rest = one.store.list(Query(limit=9, after=first.next))
        assert [found.execution_id for found in rest.heads] == ["e3", "e1", "e0"]

    def test_a_sweep_leaves_all_that_can_be_read(self) -> None:
        one = self.writer()
        create(one, "a", "b")
        assert one.store.commit([Commit("a", 1, ("1", "2", "3"))]) == [True]
        assert one.store.commit([Commit("b", 1, ("end", "next"), head("b", run=2, base=2))])[0]
        self.sweep(one)
        assert one.store.history("a") == ["started", "1", "2", "3"]
        assert one.store.load("b") == Stored(head("b", run=2, base=2), ["next"], [])
        assert one.store.commit([Commit("b", 3, ("more",))]) == [True]


class OwnedDeletionContract(BackendContract):
    """Deletions of executions with owners and messages. Inherit it, and override `open_backend`."""

    def test_what_another_owner_holds_is_not_deleted(self) -> None:
        one = self.owner()
        create(one, "a")
        two = self.owner("two")
        assert two.store.commit([Commit("a", 1, deleted_at=5)]) == [False]
        assert one.store.commit([Commit("a", 1, ("more",))]) == [True]

    def test_it_takes_its_messages_along_and_gets_no_others(self) -> None:
        one = self.owner()
        create(one, "a", "b")
        one.mailbox.post("a", "to a", "k")
        one.mailbox.post("b", "to b", "k")
        assert bodies(one) == ["to a", "to b"]
        out = QueuedMessage("a", "from b", "out")
        assert one.store.commit(
            [Commit("b", 1, ("sent",), outbox=(out,)), Commit("a", 1, deleted_at=5)]
        ) == [True, True]
        assert bodies(one) == ["to b"]
        with pytest.raises(ExecutionNotFound):
            one.mailbox.post("a", "late", "late")
        create(one, "a")
        assert bodies(one) == ["to b"]
        one.mailbox.post("a", "new", "k")
        assert sorted(bodies(one)) == ["new", "to b"]

    def test_a_message_that_was_not_read_keeps_it_there(self) -> None:
        one, other = self.owner(), self.onlooker("other")
        create(one, "a", "b")
        assert bodies(one) == []
        other.mailbox.post("a", "asked", "k")
        deletion = [Commit("b", 1, ("more",)), Commit("a", 1, deleted_at=5)]
        assert one.store.commit(deletion) == [True, False]
        assert one.store.history("a") == ["started"]
        assert one.store.history("b") == ["started", "more"]
        assert bodies(one) == ["asked"]
        assert one.store.commit(deletion[1:]) == [True]
        assert bodies(one) == []

    def test_whoever_sends_to_what_is_gone_gets_the_message_in_its_place(self) -> None:
        one = self.owner()
        create(one, "a", "b")
        sent = [QueuedMessage(name, f"to {name}", f"k {name}", f"no {name}") for name in "acd"]
        answers = one.store.commit(
            [
                Commit("b", 1, outbox=tuple(sent)),
                Commit("a", 1, deleted_at=5),
                creation("d"),
                Commit("e", 0, ("started",), head("e"), outbox=(sent[1],)),
            ]
        )
        assert answers == [True, True, True, True]
        found = one.mailbox.entries(0, 10)
        assert sorted((each.execution_id, each.body) for each in found) == [
            *(("b", "no a"), ("b", "no c"), ("d", "to d"), ("e", "no c"))
        ]

    def test_nothing_of_it_is_due_or_taken_over(self) -> None:
        one = self.owner()
        create(one, "a", busy=True, wake_at=5)
        create(one, "b", status="blocked", blocked_kind="code")
        answers = [one.store.commit([Commit(name, 1, deleted_at=5)]) for name in ("a", "b")]
        assert answers == [[True], [True]]
        one.leases.release()
        two = self.owner("two")
        for agenda in (one.agenda, two.agenda):
            assert agenda.due(10, 10) == []
            assert agenda.next_wake() is None
            assert agenda.busy("", 10) == []
            assert agenda.blocked("code", "", 10) == []

    def test_whoever_opens_the_store_next_goes_on_to_sweep(self) -> None:
        one = self.owner()
        create(one, "a")
        assert one.store.commit([Commit("a", 1, tuple(map(str, range(9))))]) == [True]
        assert one.store.commit([Commit("a", 10, deleted_at=5)]) == [True]
        one.store.sweep(5, 2)
        two = self.onlooker("two")
        create(one, "a")
        for _ in range(100):
            if not two.store.sweep(5, 2):
                break
        assert one.store.history("a") == ["started"]


class DroppedRunsContract(BackendContract):
    """A store that drops the events of earlier runs. Inherit it, and override `open_backend`."""

    def test_the_current_run_and_its_length_stay(self) -> None:
        one = self.owner()
        create(one, "a")
        assert one.store.commit([Commit("a", 1, ("end", "next"), head("a", run=2, base=2))])[0]
        for _ in range(100):
            if not one.store.sweep(5, 1):
                break
        assert one.store.load("a") == Stored(head("a", run=2, base=2), ["next"], [])
        assert one.store.commit([Commit("a", 3, ("more", "end"))]) == [True]
        assert one.store.history("a", 4) == ["end"]
        assert one.store.commit([Commit("a", 5, ("third",), head("a", run=3, base=5))]) == [True]
        extent = one.store.extent("a")
        assert extent is not None
        assert extent.length == 6
        for _ in range(100):
            if not one.store.sweep(5, 1):
                break
        two = self.successor(one)
        assert two.store.load("a") == Stored(head("a", run=3, base=5), ["third"], [])
        assert two.store.commit([Commit("a", 6, ("more",))]) == [True]
        assert two.store.commit([Commit("a", 7, deleted_at=5)]) == [True]
        assert deleted_events(two, "a") == 7

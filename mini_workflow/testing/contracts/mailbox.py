"""Hold every `Mailbox` to its contract. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from mini_workflow.errors import ExecutionNotFound, LeaseLost, UsageError
from mini_workflow.ports import Commit, QueuedMessage
from mini_workflow.testing.contracts.backend import (
    Backend,
    BackendContract,
    bodies,
    create,
    creation,
    head,
    length,
)
from mini_workflow.testing.contracts.fenced_store import at_once


class MailboxContract(BackendContract):
    """The contract of `Mailbox`. Inherit it, and override `open_backend`."""

    def take_all(self, backend: Backend) -> None:
        """Take all messages."""
        for entry in backend.mailbox.entries(0, 1_000):
            name = entry.execution_id
            taking = Commit(name, length(backend, name), taken=(entry.number,))
            assert backend.store.commit([taking]) == [True]

    def hold_post(self, execution_id: str, body: str, key: str) -> Callable[[], None]:
        """Post a message as another owner, without the commit. Return a function that commits it.

        Stores that let others write meanwhile override it; in other stores the post is done at once.
        """
        self.onlooker("sender").mailbox.post(execution_id, body, key)
        return lambda: None

    def test_who_reads_on_behind_the_last_number_misses_no_writer_that_was_held_up(self) -> None:
        one = self.owner()
        create(one, "a", "b")
        commits = [self.hold_post("a", "held", "1"), self.hold_post("b", "held longer", "1")]
        found: list[str] = []
        last = 0
        for number, commit in enumerate(commits):
            one.mailbox.post("a", f"meanwhile {number}", f"key {number}")
            entries = one.mailbox.entries(last, 10)
            found += [entry.body for entry in entries]
            last = max((entry.number for entry in entries), default=last)
            commit()
        found += [entry.body for entry in one.mailbox.entries(last, 10)]
        assert sorted(found) == ["held", "held longer", "meanwhile 0", "meanwhile 1"]

    def test_who_reads_on_behind_the_last_number_misses_none_of_many_writers(self) -> None:
        one = self.owner()
        create(one, "a")
        senders = [self.onlooker(f"sender {number}") for number in range(3)]
        posted = threading.Semaphore(0)

        def post(sender: Backend, name: str) -> None:
            done = 0
            try:
                for number in range(10):
                    sender.mailbox.post("a", f"{name}/{number}", f"{name}/{number}")
                    posted.release()
                    done += 1
            finally:
                posted.release(20 - done)

        found: list[str] = []

        def read() -> None:
            last = 0
            for _ in range(60):
                posted.acquire()
                entries = one.mailbox.entries(last, 7)
                found.extend(entry.body for entry in entries)
                last = max((entry.number for entry in entries), default=last)

        at_once([read, *(partial(post, sender, str(n)) for n, sender in enumerate(senders))])
        assert len(found) == len(set(found)) == 30
        for number in range(3):
            own = [body for body in found if body.startswith(f"{number}/")]
            assert own == [f"{number}/{n}" for n in range(10)]

    def test_a_message_arrives_as_it_was_sent(self) -> None:
        one = self.owner()
        create(one, "a")
        one.mailbox.post("a", "é\n\U0001f9ea", "key")
        (entry,) = one.mailbox.entries(0, 10)
        assert (entry.execution_id, entry.body) == ("a", "é\n\U0001f9ea")

    def test_messages_keep_their_order_and_can_be_read_in_parts(self) -> None:
        one = self.owner()
        create(one, "a", "b")
        for number in range(9):
            one.mailbox.post("ab"[number % 2], str(number), f"key {number}")
        entries = one.mailbox.entries(0, 100)
        assert [entry.body for entry in entries] == [str(number) for number in range(9)]
        numbers = [entry.number for entry in entries]
        assert numbers == sorted(set(numbers))
        assert min(numbers) > 0
        assert one.mailbox.entries(0, 4) == entries[:4]
        assert one.mailbox.entries(numbers[3], 100) == entries[4:]
        assert one.mailbox.entries(numbers[-1], 100) == []

    def test_nobody_posts_to_an_unknown_execution(self) -> None:
        one = self.owner()
        with pytest.raises(ExecutionNotFound) as caught:
            one.mailbox.post("a", "message", "key")
        assert caught.value.execution_id == "a"
        create(one, "a")
        assert bodies(one) == []

    def test_the_messages_of_one_execution_can_be_read_alone(self) -> None:
        one = self.owner("one")
        create(one, "a", "b")
        for number in range(3):
            one.mailbox.post("a", f"a{number}", f"{number}")
            one.mailbox.post("b", f"b{number}", f"{number}")
        found = one.mailbox.entries(0, 2, "b")
        assert [entry.body for entry in found] == ["b0", "b1"]
        rest = one.mailbox.entries(found[-1].number, 10, "b")
        assert [entry.body for entry in rest] == ["b2"]
        assert one.mailbox.entries(0, 10, "c") == []
        assert self.onlooker("two").mailbox.entries(0, 10, "b") == []

    def test_a_second_message_of_the_same_key_is_ignored_while_the_first_is_there(self) -> None:
        one = self.owner()
        create(one, "a", "b")
        one.mailbox.post("a", "first", "key")
        one.mailbox.post("a", "again", "key")
        one.mailbox.post("a", "another key", "key 2")
        one.mailbox.post("b", "another execution", "key")
        assert bodies(one) == ["first", "another key", "another execution"]
        self.take_all(one)
        one.mailbox.post("a", "later", "key")
        assert bodies(one) == ["later"]

    def test_a_number_is_never_used_twice(self) -> None:
        one = self.owner()
        create(one, "a")
        seen = 0
        for number in range(3):
            one.mailbox.post("a", str(number), "key")
            (entry,) = one.mailbox.entries(seen, 10)
            assert entry.number > seen
            seen = entry.number
            self.take_all(one)

    def test_anybody_may_post_but_only_the_owner_reads(self) -> None:
        one, two = self.owner("one"), self.owner("two")
        create(one, "a")
        create(two, "b")
        for sender in (one, two, self.onlooker("three")):
            sender.mailbox.post("a", "to a", f"key {id(sender)}")
            sender.mailbox.post("b", "to b", f"key {id(sender)}")
        assert bodies(one) == ["to a"] * 3
        assert bodies(two) == ["to b"] * 3
        assert bodies(self.onlooker()) == []

    def test_messages_go_to_whoever_takes_over(self) -> None:
        one = self.owner("one")
        create(one, "a", "b")
        one.mailbox.post("a", "first", "1")
        one.mailbox.post("b", "second", "2")
        one.close()
        self.clock.advance(self.LEASE + 1)
        two = self.owner("two")
        create(two, "c")
        two.mailbox.post("c", "third", "3")
        two.mailbox.post("a", "fourth", "4")
        assert bodies(two) == ["first", "second", "third", "fourth"]

    def test_messages_keep_their_order_over_what_was_taken_over(self) -> None:
        owners = [self.owner(str(number)) for number in range(3)]
        for number, owner in enumerate(owners):
            create(owner, f"e{number}")
        for number in range(9):
            owners[0].mailbox.post(f"e{number % 3}", str(number), f"key {number}")
        for owner in owners[1:]:
            owner.leases.release()
        assert owners[0].leases.acquire(self.clock.now())
        assert bodies(owners[0]) == [str(number) for number in range(9)]

    def test_messages_to_closed_and_blocked_executions_are_delivered_too(self) -> None:
        one = self.owner()
        create(one, "a", status="completed", closed_at=5)
        create(one, "b", status="blocked", blocked_kind="code")
        one.mailbox.post("a", "to a closed one", "key")
        one.mailbox.post("b", "to a blocked one", "key")
        assert bodies(one) == ["to a closed one", "to a blocked one"]

    def test_any_thread_may_post(self) -> None:
        one = self.owner()
        create(one, "a")
        problems: list[BaseException] = []

        def post(sender: int) -> None:
            try:
                for number in range(20):
                    one.mailbox.post("a", f"{sender} {number:02}", f"{sender} {number}")
            except BaseException as error:
                problems.append(error)

        senders = [threading.Thread(target=post, args=(number,)) for number in range(4)]
        for sender in senders:
            sender.start()
        for number in range(1, 41):
            assert one.store.commit([Commit("a", number, ("meanwhile",))]) == [True]
        for sender in senders:
            sender.join()
        assert problems == []
        found = bodies(one)
        assert len(found) == len(set(found)) == 80
        for number in range(4):
            own = [body for body in found if body.startswith(f"{number} ")]
            assert own == sorted(own)


class OutboxContract(BackendContract):
    """`Commit.outbox`: messages that a commit posts. Inherit it, and override `open_backend`."""

    def test_what_a_commit_sends_arrives_like_what_is_posted(self) -> None:
        one = self.owner()
        create(one, "a", "b")
        sent = (QueuedMessage("b", "é\n\U0001f9ea", "key"), QueuedMessage("b", "", ""))
        assert one.store.commit([Commit("a", 1, ("sent",), outbox=sent)]) == [True]
        entries = one.mailbox.entries(0, 10)
        assert [(entry.execution_id, entry.body) for entry in entries] == [
            ("b", "é\n\U0001f9ea"),
            ("b", ""),
        ]
        assert 0 < entries[0].number < entries[1].number
        assert one.store.history("a") == ["started", "sent"]
        assert one.store.history("b") == ["started"]

    def test_an_outbox_may_be_all_there_is_to_commit(self) -> None:
        one = self.owner()
        create(one, "a", "b")
        assert one.store.commit([Commit("a", 1, outbox=(QueuedMessage("b", "hi", "key"),))]) == [
            True
        ]
        assert bodies(one) == ["hi"]

    def test_an_execution_may_write_to_itself(self) -> None:
        one = self.owner()
        create(one, "a")
        writing = Commit("a", 1, ("sent",), outbox=(QueuedMessage("a", "hi", "key"),))
        assert one.store.commit([writing]) == [True]
        assert bodies(one) == ["hi"]

    def test_whoever_holds_the_addressee_finds_the_message(self) -> None:
        one, two = self.owner("one"), self.owner("two")
        create(one, "a")
        create(two, "b")
        create(free := self.owner("three"), "c")
        free.leases.release()
        sent = tuple(QueuedMessage(name, f"to {name}", "key") for name in "abc")
        assert one.store.commit([Commit("a", 1, outbox=sent)]) == [True]
        assert bodies(one) == ["to a"]
        assert bodies(two) == ["to b"]
        assert two.leases.acquire(self.clock.now())
        assert bodies(two) == ["to b", "to c"]

    def test_executions_of_the_same_step_can_be_written_to(self) -> None:
        one = self.owner()
        create(one, "a")
        answers = one.store.commit(
            [
                Commit("a", 1, ("x",), outbox=(QueuedMessage("b", "first", "1"),)),
                Commit(
                    "b", 0, ("started",), head("b"), outbox=(QueuedMessage("b", "second", "2"),)
                ),
            ]
        )
        assert answers == [True, True]
        assert bodies(one) == ["first", "second"]

    def test_what_is_for_nobody_is_dropped(self) -> None:
        one = self.owner()
        create(one, "a")
        sent = (QueuedMessage("gone", "lost", "key"), QueuedMessage("a", "found", "key"))
        answers = one.store.commit(
            # A commit that is answered False creates no execution.
            [Commit("a", 1, ("x",), outbox=sent), Commit("gone", 1, ("x",), head("gone"))]
        )
        assert answers == [True, False]
        assert bodies(one) == ["found"]
        create(one, "gone")
        assert bodies(one) == ["found"]

    def test_messages_to_closed_and_blocked_executions_are_kept_too(self) -> None:
        one = self.owner()
        create(one, "a", status="completed", closed_at=5)
        create(one, "b", status="blocked", blocked_kind="code")
        sent = (QueuedMessage("a", "to a", "key"), QueuedMessage("b", "to b", "key"))
        assert one.store.commit([creation("c"), Commit("c", 1, outbox=sent)]) == [True, True]
        assert bodies(one) == ["to a", "to b"]

    def test_a_second_message_of_the_same_key_is_ignored_wherever_it_comes_from(self) -> None:
        one = self.owner()
        create(one, "a", "b")
        one.mailbox.post("a", "posted", "1")
        sent = (
            QueuedMessage("a", "again", "1"),
            QueuedMessage("a", "sent", "2"),
            QueuedMessage("a", "again", "2"),
            QueuedMessage("b", "another execution", "2"),
        )
        again = (QueuedMessage("a", "again", "2"), QueuedMessage("a", "another key", "3"))
        answers = one.store.commit([Commit("a", 1, outbox=sent), Commit("b", 1, outbox=again)])
        assert answers == [True, True]
        one.mailbox.post("a", "again", "2")
        assert bodies(one) == ["posted", "sent", "another execution", "another key"]

    def test_what_is_taken_makes_room_for_the_messages_of_the_same_step(self) -> None:
        one = self.owner()
        create(one, "a", "b")
        one.mailbox.post("a", "first", "key")
        (entry,) = one.mailbox.entries(0, 10)
        # All items of a commit happen at once, in any order.
        answers = one.store.commit(
            [
                Commit("b", 1, outbox=(QueuedMessage("a", "second", "key"),)),
                Commit("a", 1, taken=(entry.number,)),
            ]
        )
        assert answers == [True, True]
        assert bodies(one) == ["second"]
        assert one.mailbox.entries(0, 10)[0].number > entry.number

    def test_messages_are_in_the_order_of_the_items_among_those_posted(self) -> None:
        one = self.owner()
        create(one, "a", "b", "c")
        one.mailbox.post("c", "0", "0")
        first = (QueuedMessage("c", "1", "1"), QueuedMessage("c", "2", "2"))
        answers = one.store.commit(
            [
                Commit("b", 1, ("x",), outbox=first),
                Commit("a", 1, ("x",), outbox=(QueuedMessage("c", "3", "3"),)),
                Commit("b", 2, ("x",), outbox=(QueuedMessage("c", "4", "4"),)),
            ]
        )
        assert answers == [True, True, True]
        one.mailbox.post("c", "5", "5")
        assert bodies(one) == ["0", "1", "2", "3", "4", "5"]

    def test_who_fails_sends_nothing(self) -> None:
        one, two = self.owner("one"), self.owner("two")
        create(one, "a", "b")
        create(two, "c")
        sent = (QueuedMessage("b", "no", "1"), QueuedMessage("c", "no", "1"))
        answers = one.store.commit(
            [
                Commit("a", 2, ("stale",), outbox=sent),
                Commit("b", 1, ("x",), outbox=(QueuedMessage("a", "yes", "1"),)),
                Commit("c", 1, ("not ours",), outbox=sent),
                Commit("b", 0, ("there already",), head("b"), outbox=sent),
                Commit("d", 3, ("not there",), outbox=sent),
            ]
        )
        assert answers == [False, True, False, False, False]
        assert bodies(one) == ["yes"]
        assert bodies(two) == []

    def test_a_step_that_is_refused_sends_nothing(self) -> None:
        one = self.owner()
        create(one, "a")
        sending = Commit("a", 1, ("x",), outbox=(QueuedMessage("a", "no", "key"),))
        with pytest.raises(UsageError):
            one.store.commit([sending, Commit("b", 0, ("x",))])
        bad = (
            QueuedMessage("a", "\ud800", "key"),
            QueuedMessage("a", "body", "\ud800"),
            QueuedMessage("\ud800", "body", "key"),
        )
        for outgoing in bad:
            with pytest.raises(ValueError, match="surrogates"):
                one.store.commit([sending, Commit("a", 2, outbox=(outgoing,))])
        self.clock.advance(self.LEASE + 1)
        two = self.owner("two")
        with pytest.raises(LeaseLost):
            one.store.commit([sending])
        assert bodies(two) == []
        assert two.store.commit([sending]) == [True]
        assert bodies(two) == ["no"]

    def test_what_was_sent_survives_the_owner(self) -> None:
        one = self.owner()
        assert one.store.commit(
            [Commit("a", 0, ("x",), head("a"), outbox=(QueuedMessage("a", "hi", "key"),))]
        ) == [True]
        one.close()
        self.clock.advance(self.LEASE + 1)
        assert bodies(self.owner("two")) == ["hi"]

    def test_messages_to_an_execution_that_begins_again_are_kept(self) -> None:
        one = self.owner()
        create(one, "a")
        one.mailbox.post("a", "before", "1")
        anew = Commit(
            "a", 1, ("end", "first"), head("a", run=2, base=2),
            outbox=(QueuedMessage("a", "at once", "2"),),
        )  # fmt: skip
        assert one.store.commit([anew]) == [True]
        one.mailbox.post("a", "after", "3")
        assert bodies(one) == ["before", "at once", "after"]
        self.take_first(one)
        assert bodies(one) == ["at once", "after"]

    def take_first(self, backend: Backend) -> None:
        """Take the first message."""
        entry = backend.mailbox.entries(0, 1)[0]
        name = entry.execution_id
        taking = Commit(name, length(backend, name), taken=(entry.number,))
        assert backend.store.commit([taking]) == [True]

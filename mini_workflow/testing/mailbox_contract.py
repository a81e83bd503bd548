"""What every `Mailbox` must do. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

import threading

import pytest

from mini_workflow.errors import ExecutionNotFound
from mini_workflow.ports import Commit
from mini_workflow.testing.backend_contract import Backend, BackendContract, bodies, create


class MailboxContract(BackendContract):
    """Inherit it, and override `open_backend`."""

    def take_all(self, backend: Backend) -> None:
        """Be done with all letters."""
        for letter in backend.mailbox.letters(0, 1_000):
            name = letter.execution_id
            length = len(backend.store.history(name))
            taking = Commit(name, length, taken=(letter.number,))
            assert backend.store.commit([taking]) == [True]

    def test_a_letter_arrives_as_it_was_sent(self) -> None:
        one = self.owner()
        create(one, "a")
        one.mailbox.post("a", "é\n\U0001f9ea", "key")
        (letter,) = one.mailbox.letters(0, 10)
        assert (letter.execution_id, letter.body) == ("a", "é\n\U0001f9ea")

    def test_letters_keep_their_order_and_can_be_read_in_parts(self) -> None:
        one = self.owner()
        create(one, "a", "b")
        for number in range(9):
            one.mailbox.post("ab"[number % 2], str(number), f"key {number}")
        letters = one.mailbox.letters(0, 100)
        assert [letter.body for letter in letters] == [str(number) for number in range(9)]
        numbers = [letter.number for letter in letters]
        assert numbers == sorted(set(numbers))
        assert min(numbers) > 0
        assert one.mailbox.letters(0, 4) == letters[:4]
        assert one.mailbox.letters(numbers[3], 100) == letters[4:]
        assert one.mailbox.letters(numbers[-1], 100) == []

    def test_nobody_posts_to_an_unknown_execution(self) -> None:
        one = self.owner()
        with pytest.raises(ExecutionNotFound) as caught:
            one.mailbox.post("a", "letter", "key")
        assert caught.value.execution_id == "a"
        create(one, "a")
        assert bodies(one) == []

    def test_a_second_letter_of_the_same_key_is_ignored_while_the_first_is_there(self) -> None:
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
            (letter,) = one.mailbox.letters(seen, 10)
            assert letter.number > seen
            seen = letter.number
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

    def test_letters_go_to_whoever_takes_over(self) -> None:
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

    def test_letters_keep_their_order_over_what_was_taken_over(self) -> None:
        owners = [self.owner(str(number)) for number in range(3)]
        for number, owner in enumerate(owners):
            create(owner, f"e{number}")
        for number in range(9):
            owners[0].mailbox.post(f"e{number % 3}", str(number), f"key {number}")
        for owner in owners[1:]:
            owner.leases.release()
        assert owners[0].leases.acquire(self.clock.now())
        assert bodies(owners[0]) == [str(number) for number in range(9)]

    def test_letters_to_closed_and_blocked_executions_are_delivered_too(self) -> None:
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
        for length in range(1, 41):
            assert one.store.commit([Commit("a", length, ("meanwhile",))]) == [True]
        for sender in senders:
            sender.join()
        assert problems == []
        found = bodies(one)
        assert len(found) == len(set(found)) == 80
        for number in range(4):
            own = [body for body in found if body.startswith(f"{number} ")]
            assert own == sorted(own)

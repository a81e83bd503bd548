"""Hold every `FencedStore` to its contract, within a number of calls. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar, Final

import pytest

from mini_workflow.core.tags import tags_as_text
from mini_workflow.engine.transport import ReadableStore
from mini_workflow.errors import StoreError, UsageError
from mini_workflow.ports import Commit, Extent, Query, QueuedMessage, Stored
from mini_workflow.ports.queue import (
    NO_EFFECTS,
    NO_WAKEUPS,
    ExecutionMeta,
    FencedStore,
    PendingEffects,
    Wakeup,
    Wakeups,
)
from mini_workflow.testing.contracts.backend import creation, head

EFFECTS: Final = PendingEffects(
    tasks=((1, 1), (2, 3)),
    outbox=(QueuedMessage("b", '{"x":"é\n"}', "a/1"), QueuedMessage("c", "", "")),
    wakeup=True,
    caused_by=("m1", "m2"),
    unconfirmed=True,
)
WAKEUPS: Final = Wakeups(Wakeup(5_000), Wakeup(9_000, "by a schedule"))
PARENT: Final = {"id": "parent", "seq": 7}
"""The parent of an execution; its head has the same id."""
TEXTS: Final = ("{}", '"', "two\nlines\r\n", "],", "\u2028\u0085", "e\u0301 é", "\U0001f9ea" * 9)


class FencedStoreContract:
    """The contract of `FencedStore`. Inherit it, and override the four methods below."""

    ROUND_TRIPS: ClassVar[Mapping[str, int]] = {}
    """How many calls of the outside each operation takes, by the names of `measure`; to be overridden
    where there are any."""

    def open_store(self) -> FencedStore:
        """Open the state of this test, which is empty at first, as another process does."""
        raise NotImplementedError

    def open_reader(self) -> ReadableStore:
        """Return the store by which clients read the state of this test."""
        raise NotImplementedError

    def failing(self, *, after: bool) -> AbstractContextManager[None]:
        """Let each write to the state raise StoreUnavailable in this block: before it is done, or after
        it, so that its answer is lost.
        """
        raise NotImplementedError

    def calls(self) -> int:
        """Return the number of calls of a service that the stores of this test have made so far."""
        return 0

    # Writing and reading

    def test_what_is_created_is_there_for_every_process(self) -> None:
        one = self.open_store()
        commit = creation("a", "first", "second", wake_at=9, busy=True, parent="parent")
        assert commit.head is not None
        assert one.create(commit, PARENT, "print", EFFECTS, WAKEUPS)
        for store in (one, self.open_store()):
            assert store.meta("a") == ExecutionMeta(EFFECTS, False, WAKEUPS, 0, PARENT, 2)
            assert store.head("a") == commit.head
            assert store.extent("a") == Extent(2, True)
            assert store.load("a") == Stored(commit.head, list(commit.events), [])

    def test_of_an_unknown_execution_there_is_nothing(self) -> None:
        one = self.open_store()
        found = (one.meta("a"), one.head("a"), one.extent("a"), one.load("a"))
        assert found == (None, None, None, None)

    def test_a_creation_of_an_id_that_is_taken_changes_nothing(self) -> None:
        one, two = self.open_store(), self.open_store()
        assert add(one, "a")
        for store in (two, one):
            again = creation("a", "other", workflow="other")
            assert not store.create(again, None, "other", EFFECTS, WAKEUPS)
        self.sees("a", ["started"])
        assert meta(self.open_store(), "a") == ExecutionMeta(
            NO_EFFECTS, False, NO_WAKEUPS, 0, None, 1
        )

    def test_a_commit_is_there_for_every_process_as_a_whole(self) -> None:
        one = self.open_store()
        assert one.create(creation("a", parent="parent"), PARENT, "", NO_EFFECTS, NO_WAKEUPS)
        blocked = {"status": "blocked", "blocked_kind": "code", "blocked_reason": "é"}
        after = head("a", closed_at=5, parent="parent", **blocked)
        assert one.commit(Commit("a", 1, ("1", "2"), after, park=("p",)), EFFECTS, WAKEUPS, 2)
        for store in (one, self.open_store()):
            assert store.load("a") == Stored(after, ["started", "1", "2"], ["p"])
            assert store.meta("a") == ExecutionMeta(EFFECTS, False, WAKEUPS, 2, PARENT, 3)

    def test_what_a_commit_does_not_name_stays_and_the_rest_is_replaced(self) -> None:
        one = self.open_store()
        assert one.create(creation("a", parent="parent"), PARENT, "", EFFECTS, WAKEUPS)
        about = head("a", parent="parent")
        assert put(one, "a", park=("p", "q"))
        assert put(one, "a", park=("r",))
        for store in (one, self.open_store()):
            assert store.load("a") == Stored(about, ["started"], ["p", "q", "r"])
            assert store.meta("a") == ExecutionMeta(NO_EFFECTS, False, NO_WAKEUPS, 0, PARENT, 1)
        assert put(one, "a", unpark=True, park=("s",))
        for store in (one, self.open_store()):
            assert store.load("a") == Stored(about, ["started"], ["s"])

    def test_effects_are_kept_and_not_posted(self) -> None:
        one = self.open_store()
        assert add(one, "a")
        assert add(one, "b")
        assert one.commit(Commit("a", 1), EFFECTS, NO_WAKEUPS, 0)
        assert self.open_reader().history("b") == ["started"]
        assert meta(self.open_store(), "a").pending == EFFECTS

    def test_a_new_run_is_loaded_alone_and_all_events_count(self) -> None:
        one = self.open_store()
        assert add(one, "a")
        assert put(one, "a", "end", "next", head=head("a", run=2, base=2))
        assert put(one, "a", "more")
        for store in (one, self.open_store()):
            assert store.load("a") == Stored(head("a", run=2, base=2), ["next", "more"], [])
            assert store.extent("a") == Extent(4, True)

    def test_texts_come_back_as_they_were(self) -> None:
        one = self.open_store()
        made = creation("a", *TEXTS, parent="é")
        assert one.create(made, {"id": "é", "seq": 1}, "é", NO_EFFECTS, NO_WAKEUPS)
        outbox = tuple(QueuedMessage(text, text, text) for text in TEXTS)
        effects = PendingEffects(outbox=outbox, caused_by=TEXTS)
        assert one.commit(Commit("a", len(TEXTS), TEXTS, park=TEXTS), effects, NO_WAKEUPS, 0)
        two = self.open_store()
        assert two.load("a") == Stored(head("a", parent="é"), [*TEXTS, *TEXTS], list(TEXTS))
        assert meta(two, "a").pending == effects
        assert meta(two, "a").parent == {"id": "é", "seq": 1}

    def test_large_values_come_back(self) -> None:
        one = self.open_store()
        large = ['{"x":"' + letter * 1_000_000 + '"}' for letter in "abc"]
        assert add(one, "a", large[0])
        assert put(one, "a", large[1], park=(large[2],))
        assert put(one, "a", "small")
        assert self.open_store().load("a") == Stored(head("a"), [*large[:2], "small"], [large[2]])

    def test_long_histories_keep_their_order(self) -> None:
        one = self.open_store()
        assert add(one, "a", "0")
        lines = [f"{number:03}" * 1_000 for number in range(90)]
        for number in range(0, 90, 3):
            assert put(one, "a", *lines[number : number + 3])
        self.sees("a", ["0", *lines])
        assert self.open_store().extent("a") == Extent(91, True)

    def test_what_cannot_be_written_is_refused_and_changes_nothing(self) -> None:
        one = self.open_store()
        assert add(one, "a")
        bad = (Commit("b", 0, ("x",)), Commit("b", 0, (), head("b")), creation("b", "x", base=1))
        for commit in bad:
            with pytest.raises(UsageError):
                one.create(commit, None, "", NO_EFFECTS, NO_WAKEUPS)
        for base in (-1, 2):
            with pytest.raises(UsageError):
                put(one, "a", "x", head=head("a", base=base))
        self.sees("a", ["started"])
        assert self.open_reader().head("b") is None
        assert put(one, "a", "x")

    # The fence

    def test_a_holder_who_was_overtaken_is_refused_and_writes_nothing(self) -> None:
        one, two = self.open_store(), self.open_store()
        assert add(one, "a")
        assert put(two, "a", "two")
        late = Commit("a", 1, ("late",), head("a", status="failed"), park=("late",))
        assert not one.commit(late, EFFECTS, WAKEUPS, 3)
        self.sees("a", ["started", "two"])
        assert meta(self.open_store(), "a") == ExecutionMeta(
            NO_EFFECTS, False, NO_WAKEUPS, 0, None, 2
        )

    @pytest.mark.parametrize("what", ["head", "park", "effects", "alarm", "tries"])
    def test_a_commit_without_events_overtakes_too(self, what: str) -> None:
        one, two = self.open_store(), self.open_store()
        assert add(one, "a")
        commit = {
            "head": Commit("a", 1, head=head("a", status="blocked", blocked_kind="code")),
            "park": Commit("a", 1, park=("p",)),
        }.get(what, Commit("a", 1))
        assert two.meta("a") is not None
        assert two.commit(
            commit,
            EFFECTS if what == "effects" else NO_EFFECTS,
            WAKEUPS if what == "alarm" else NO_WAKEUPS,
            1 if what == "tries" else 0,
        )
        assert not one.commit(Commit("a", 1, ("late",)), NO_EFFECTS, NO_WAKEUPS, 0)
        self.sees("a", ["started"])

    def test_who_was_refused_sees_what_is_there_and_goes_on(self) -> None:
        one, two = self.open_store(), self.open_store()
        assert add(one, "a")
        assert put(two, "a", "two")
        assert not one.commit(Commit("a", 1, ("late",)), NO_EFFECTS, NO_WAKEUPS, 0)
        assert meta(one, "a").length == 2
        assert one.commit(Commit("a", 2, ("again",)), NO_EFFECTS, NO_WAKEUPS, 0)
        self.sees("a", ["started", "two", "again"])

    def test_nobody_writes_what_is_not_in_memory(self) -> None:
        one, two = self.open_store(), self.open_store()
        assert add(one, "a")
        one.forget("a")
        for store in (one, two):
            assert not store.commit(Commit("a", 1, ("blind",)), NO_EFFECTS, NO_WAKEUPS, 0)
        assert not two.commit(Commit("b", 1, ("nobody",)), NO_EFFECTS, NO_WAKEUPS, 0)
        self.sees("a", ["started"])

    @pytest.mark.parametrize("expected", [1, 3])
    def test_another_number_of_events_is_refused(self, expected: int) -> None:
        one = self.open_store()
        assert add(one, "a")
        assert put(one, "a", "1")
        assert not one.commit(Commit("a", expected, ("x",)), NO_EFFECTS, NO_WAKEUPS, 0)
        self.sees("a", ["started", "1"])

    def test_the_same_commit_again_is_refused(self) -> None:
        one = self.open_store()
        assert add(one, "a")
        commit = Commit("a", 1, ("1",))
        assert one.commit(commit, NO_EFFECTS, NO_WAKEUPS, 0)
        assert not one.commit(commit, NO_EFFECTS, NO_WAKEUPS, 0)
        self.sees("a", ["started", "1"])

    def test_of_concurrent_writers_one_wins_each_time_and_nothing_is_lost(self) -> None:
        assert add(self.open_store(), "a")
        written: list[str] = []

        def write(writer: int) -> None:
            store = self.open_store()
            for number in range(5):
                line = f"{writer}/{number}"
                while not put(store, "a", line):
                    pass
                written.append(line)

        at_once([partial(write, writer) for writer in range(3)])
        loaded = self.open_store().load("a")
        assert loaded is not None
        assert sorted(loaded.events) == sorted(["started", *written])
        for writer in range(3):
            own = [line for line in loaded.events if line.startswith(f"{writer}/")]
            assert own == [f"{writer}/{number}" for number in range(5)]

    def test_of_concurrent_creations_one_wins(self) -> None:
        won: list[tuple[str, str]] = []

        def start(line: str) -> None:
            store = self.open_store()
            won.extend((name, line) for name in "abcd" if add(store, name, line))

        at_once([partial(start, line) for line in "123"])
        assert sorted(name for name, _ in won) == ["a", "b", "c", "d"]
        for name, line in won:
            self.sees(name, [line])

    def test_threads_share_a_store_each_for_executions_of_its_own(self) -> None:
        one = self.open_store()

        def work(name: str) -> None:
            assert add(one, name)
            for number in range(4):
                assert put(one, name, str(number))

        at_once([partial(work, name) for name in "abcd"])
        for name in "abcd":
            self.sees(name, ["started", "0", "1", "2", "3"])

    # The cache in memory

    def test_memory_answers_until_somebody_else_turns_out_to_have_written(self) -> None:
        one, two = self.open_store(), self.open_store()
        assert not one.is_current("a")
        assert add(one, "a")
        assert one.is_current("a")
        assert put(two, "a", "two", head=head("a", status="blocked"))
        # A turn reads more than once, and must see one state.
        assert (one.head("a"), meta(one, "a").length) == (head("a"), 1)
        assert one.load("a") == Stored(head("a"), ["started"], [])
        assert not one.is_current("a")
        assert one.load("a") == Stored(head("a", status="blocked"), ["started", "two"], [])
        assert one.is_current("a")
        assert two.is_current("a")

    @pytest.mark.parametrize("what", ["effects", "tries", "head"])
    def test_memory_is_out_of_date_after_a_commit_without_events(self, what: str) -> None:
        one, two = self.open_store(), self.open_store()
        assert add(one, "a")
        assert two.meta("a") is not None
        changed = Commit("a", 1, head=head("a", status="blocked") if what == "head" else None)
        effects = EFFECTS if what == "effects" else NO_EFFECTS
        assert two.commit(changed, effects, NO_WAKEUPS, 1 if what == "tries" else 0)
        assert not one.is_current("a")
        assert one.meta("a") == two.meta("a")
        assert one.head("a") == two.head("a")

    @pytest.mark.parametrize("what", ["effects", "tries", "head", "park"])
    def test_what_was_decided_before_the_memory_was_read_anew_is_refused(self, what: str) -> None:
        one, two = self.open_store(), self.open_store()
        assert add(one, "a")
        seen = meta(one, "a").version
        changed = Commit(
            "a",
            1,
            head=head("a", status="blocked") if what == "head" else None,
            park=("p",) if what == "park" else (),
        )
        effects = EFFECTS if what == "effects" else NO_EFFECTS
        assert two.meta("a") is not None
        assert two.commit(changed, effects, NO_WAKEUPS, 1 if what == "tries" else 0)
        # A memory that is full forgets, and reads again: in the middle of a turn, too.
        one.forget("a")
        assert one.extent("a") == Extent(1, True)
        one.done("a", seen)
        assert not meta(one, "a").done
        assert not one.commit(Commit("a", 1, ("late",)), NO_EFFECTS, NO_WAKEUPS, 0, seen)
        found, before = meta(self.open_store(), "a"), meta(two, "a")
        assert (found, found.version) == (before, before.version)
        self.sees("a", ["started"])

    def test_each_write_is_a_version_of_its_own_and_reading_is_none(self) -> None:
        one, two = self.open_store(), self.open_store()
        assert add(one, "a")
        first = meta(one, "a").version
        assert one.commit(Commit("a", 1), NO_EFFECTS, NO_WAKEUPS, 0, first)
        assert meta(two, "a").version == meta(one, "a").version == first + 1
        one.done("a", first)
        assert not meta(one, "a").done
        one.done("a", first + 1)
        assert meta(one, "a").done
        assert two.commit(Commit("a", 1, ("1",)), NO_EFFECTS, NO_WAKEUPS, 0, first + 1)
        assert meta(self.open_store(), "a").version == first + 2

    def test_what_is_forgotten_is_read_again(self) -> None:
        one, two = self.open_store(), self.open_store()
        assert add(one, "a")
        assert put(two, "a", "two")
        one.forget("a")
        assert not one.is_current("a")
        assert one.load("a") == Stored(head("a"), ["started", "two"], [])
        one.forget("unknown")

    def test_effects_are_known_to_be_done_until_the_next_commit_and_here_alone(self) -> None:
        one = self.open_store()
        one.done("unknown")
        assert one.create(creation("a"), None, "", EFFECTS, NO_WAKEUPS)
        one.done("a")
        assert meta(one, "a").done
        assert one.is_current("a")
        assert meta(one, "a").done
        assert not meta(self.open_store(), "a").done
        assert one.commit(Commit("a", 1, ("1",)), EFFECTS, NO_WAKEUPS, 0)
        assert not meta(one, "a").done
        one.done("a")
        one.forget("a")
        assert not meta(one, "a").done

    # When a write fails

    def test_a_commit_whose_answer_is_lost_is_there_once(self) -> None:
        one = self.open_store()
        assert add(one, "a")
        commit = Commit("a", 1, ("1",))
        with self.failing(after=True), pytest.raises(StoreError):
            one.commit(commit, EFFECTS, NO_WAKEUPS, 0)
        assert meta(one, "a") == ExecutionMeta(EFFECTS, False, NO_WAKEUPS, 0, None, 2)
        assert not one.commit(commit, EFFECTS, NO_WAKEUPS, 0)
        assert put(one, "a", "2")
        self.sees("a", ["started", "1", "2"])

    def test_a_commit_that_has_failed_has_left_nothing(self) -> None:
        one = self.open_store()
        assert add(one, "a")
        with self.failing(after=False), pytest.raises(StoreError):
            one.commit(Commit("a", 1, ("1",)), EFFECTS, WAKEUPS, 1)
        assert meta(one, "a") == ExecutionMeta(NO_EFFECTS, False, NO_WAKEUPS, 0, None, 1)
        assert put(one, "a", "2")
        self.sees("a", ["started", "2"])

    def test_a_creation_whose_answer_is_lost_is_there_once(self) -> None:
        one = self.open_store()
        with self.failing(after=False), pytest.raises(StoreError):
            add(one, "a", "never")
        assert one.meta("a") is None
        with self.failing(after=True), pytest.raises(StoreError):
            add(one, "b", "once")
        assert meta(one, "b").length == 1
        assert not add(one, "b", "again")
        self.sees("b", ["once"])

    # The reads of clients

    def test_readers_see_each_commit(self) -> None:
        one, reader = self.open_store(), self.open_reader()
        assert reader.load("a") is None
        assert add(one, "a")
        assert put(one, "a", "1", park=("p",), head=head("a", busy=True))
        assert reader.head("a") == head("a", busy=True)
        assert reader.load("a") == Stored(head("a", busy=True), ["started", "1"], ["p"])
        assert reader.history("a") == ["started", "1"]
        assert reader.history("a", 1) == ["1"]
        assert (reader.ends("a", 0), reader.ends("a", 3)) == (["started"], ["started", "1"])

    def test_executions_are_listed_under_the_status_that_they_have(self) -> None:
        one, reader = self.open_store(), self.open_reader()
        for number, name in enumerate("abcd"):
            assert add(one, name, started_at=number, workflow="ab"[number % 2])
        closed = head("b", status="completed", closed_at=9, started_at=1, workflow="b")
        assert put(one, "b", "end", head=closed)
        listed = [found.execution_id for found in reader.list(Query()).heads]
        assert listed == ["d", "c", "b", "a"]
        assert reader.list(Query(status="completed")).heads == [closed]
        running = reader.list(Query(status="running", limit=2))
        assert [found.execution_id for found in running.heads] == ["d", "c"]
        rest = reader.list(Query(status="running", limit=2, after=running.next))
        assert [found.execution_id for found in rest.heads] == ["a"]
        assert rest.next is None
        assert [h.execution_id for h in reader.list(Query(workflow="b")).heads] == ["d", "b"]

    def test_executions_are_found_by_the_tags_that_they_have(self) -> None:
        one, reader = self.open_store(), self.open_reader()
        first, later = (tags_as_text({"at": at, "of": "ü"}) for at in ("first", "later"))
        assert add(one, "a", tags=first, started_at=1)
        assert add(one, "b", tags=first, started_at=2)
        assert put(one, "a", "1", head=head("a", tags=later, started_at=1))
        assert one.head("a") == reader.head("a") == head("a", tags=later, started_at=1)

        def names(*tags: tuple[str, str], **others: Any) -> list[str]:
            query = Query(tags=tags, **others)
            found = [one.execution_id for one in reader.list(query).heads]
            assert reader.count(query) == len(found)
            return found

        assert names(("at", "first")) == ["b"]
        assert names(("at", "later"), ("of", "ü")) == ["a"]
        assert names(("of", "ü")) == ["b", "a"]
        assert names(("of", "ü"), started_before=2) == ["a"]
        assert names(("of", "ü"), started_after=2) == ["b"]
        assert names(("of", "ü"), status="completed") == []
        assert names(started_after=2) == ["b"]
        assert names(started_before=2) == ["a"]

    def test_what_is_acknowledged_is_listed_also_if_its_answer_was_lost(self) -> None:
        one, reader = self.open_store(), self.open_reader()
        with self.failing(after=True), pytest.raises(StoreError):
            add(one, "a")
        assert [found.execution_id for found in reader.list(Query()).heads] == ["a"]

    # Round trips

    def test_each_operation_takes_the_calls_that_are_stated(self, request: Any) -> None:
        found = self.measure()
        table = "\n".join(f"{count:3}  {name}" for name, count in found.items())
        request.node.add_report_section("call", "round trips", table)
        print(f"round trips of {type(self).__name__}:\n{table}")  # noqa: T201 - shown by pytest -rP
        assert found == (self.ROUND_TRIPS or dict.fromkeys(found, 0))

    def measure(self) -> dict[str, int]:
        """Return how many calls each operation takes."""
        one, two, three = self.open_store(), self.open_store(), self.open_store()
        found: dict[str, int] = {}

        def count(name: str, operation: Callable[[], object]) -> None:
            before = self.calls()
            operation()
            found[name] = self.calls() - before

        closed = head("a", status="completed", closed_at=5)
        count("create", lambda: add(one, "a"))
        count("create, the id is taken", lambda: add(two, "a"))
        count("meta, from memory", lambda: one.meta("a"))
        count("load, from memory", lambda: one.load("a"))
        count("meta, cold", lambda: two.meta("a"))
        count("meta, of nothing", lambda: two.meta("b"))
        three.meta("a")
        count("commit", lambda: one.commit(Commit("a", 1, ("1",)), EFFECTS, NO_WAKEUPS, 0))
        count("commit, refused", lambda: two.commit(Commit("a", 1), EFFECTS, NO_WAKEUPS, 0))
        count("is_current, True", lambda: one.is_current("a"))
        count("is_current, False", lambda: three.is_current("a"))
        count("done and forget", lambda: (one.done("a"), three.forget("a")))
        last = Commit("a", 2, ("end",), closed)
        count("commit, another status", lambda: one.commit(last, NO_EFFECTS, NO_WAKEUPS, 0))
        return found

    def sees(self, execution_id: str, events: list[str]) -> None:
        """Check the execution that another process loads."""
        loaded = self.open_store().load(execution_id)
        assert loaded is not None
        assert loaded.events == events


def add(store: FencedStore, name: str, *events: str, **fields: Any) -> bool:
    """Create an execution, by default with one event."""
    return store.create(creation(name, *events, **fields), None, "", NO_EFFECTS, NO_WAKEUPS)


def put(store: FencedStore, name: str, *events: str, **changes: Any) -> bool:
    """Commit to an execution as it is in memory."""
    commit = Commit(name, meta(store, name).length, events, **changes)
    return store.commit(commit, NO_EFFECTS, NO_WAKEUPS, 0)


def meta(store: FencedStore, name: str) -> ExecutionMeta:
    """Return the meta of an execution that exists."""
    found = store.meta(name)
    assert found is not None
    return found


def at_once(calls: Sequence[Callable[[], None]]) -> None:
    """Make the calls on threads of their own, and raise the first error of any."""
    problems: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]

"""Hold every `Store` to its contract: writing, the fence, and what readers see. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

import threading
from itertools import product
from typing import Any

import pytest

from mini_workflow.core import wire
from mini_workflow.core.records import replace
from mini_workflow.core.tags import tags_as_text
from mini_workflow.errors import UsageError, WireError
from mini_workflow.ports import Commit, Extent, Head, Query, Stored
from mini_workflow.stores.listing import page_of
from mini_workflow.testing.contracts.backend import (
    Opened,
    StoreCase,
    change,
    create,
    creation,
    head,
)

_BLOCKED = {
    "status": "blocked",
    "closed_at": 2_000,
    "busy": True,
    "wake_at": 3_000,
    "blocked_kind": "code",
    "blocked_reason": "the code has changed",
    "run": 7,
}

TEXTS = ("", "'; --", "two\nlines\r\n", "\u2028\u0085", "e\u0301 é", "\U0001f9ea" * 9)


class StoreContract(StoreCase):
    """The contract of `Store`. Inherit it, and override `open_store`."""

    def test_what_is_created_can_be_read_in_every_way(self) -> None:
        one = self.writer()
        assert one.store.commit([creation("a", "first", "second", **_BLOCKED)]) == [True]
        whole = head("a", **_BLOCKED)
        assert one.store.load("a") == Stored(whole, ["first", "second"], [])
        assert one.store.head("a") == whole
        assert one.store.history("a") == ["first", "second"]
        assert one.store.list(Query()).heads == [whole]

    def test_extent_says_how_many_events_there_are(self) -> None:
        one = self.writer()
        assert one.store.extent("a") is None
        create(one, "a")
        assert one.store.commit([Commit("a", 1, ("1", "2"))]) == [True]
        assert one.store.extent("a") == Extent(3, True)
        assert one.store.commit([Commit("a", 3, ("next",), head("a", run=2, base=3))]) == [True]
        assert one.store.extent("a") == Extent(4, True)

    def test_history_can_begin_at_an_event(self) -> None:
        one = self.writer()
        create(one, "a")
        assert one.store.commit([Commit("a", 1, ("1", "2"))]) == [True]
        assert [one.store.history("a", n) for n in range(5)] == [
            ["started", "1", "2"],
            ["1", "2"],
            ["2"],
            [],
            [],
        ]
        assert one.store.commit([Commit("a", 3, ("next", "4"), head("a", run=2, base=3))]) == [True]
        assert one.store.history("a", 1) == ["next", "4"]
        assert one.store.history("a", 4) == ["4"]

    def test_of_an_unknown_execution_there_is_nothing(self) -> None:
        one = self.writer()
        assert one.store.load("a") is None
        assert one.store.head("a") is None
        assert one.store.history("a") == []
        assert one.store.list(Query()).heads == []

    def test_nothing_committed_answers_nothing(self) -> None:
        assert self.writer().store.commit([]) == []

    def test_events_keep_their_order_over_commits(self) -> None:
        one = self.writer()
        create(one, "a")
        for number in range(1, 40, 3):
            events = tuple(str(number + offset) for offset in range(3))
            assert one.store.commit([Commit("a", number, events)]) == [True]
        assert one.store.history("a") == ["started", *(str(n) for n in range(1, 40))]

    def test_a_commit_without_a_head_leaves_the_head(self) -> None:
        one = self.writer()
        create(one, "a", **_BLOCKED)
        assert one.store.commit([Commit("a", 1, ("more",))]) == [True]
        assert one.store.head("a") == head("a", **_BLOCKED)

    def test_a_commit_without_events_can_change_the_head(self) -> None:
        one = self.writer()
        create(one, "a", **_BLOCKED)
        assert one.store.commit([Commit("a", 1, head=head("a"))]) == [True]
        assert one.store.load("a") == Stored(head("a"), ["started"], [])

    @pytest.mark.parametrize("expected", [0, 1, 3, 4, 1_000])
    def test_a_commit_that_expects_another_length_writes_nothing(self, expected: int) -> None:
        one = self.writer()
        assert one.store.commit([creation("a", "first", "second")]) == [True]
        stale = Commit("a", expected, ("third",), head("a", **_BLOCKED), park=("p",))
        assert one.store.commit([stale]) == [False]
        assert one.store.load("a") == Stored(head("a"), ["first", "second"], [])

    def test_the_fence_holds_for_one_that_has_only_just_opened(self) -> None:
        one = self.writer()
        assert one.store.commit([creation("a", "first", "second")]) == [True]
        two = self.successor(one)
        answers = [two.store.commit([Commit("a", n, (str(n),))]) for n in (1, 3, 2, 2, 3)]
        assert answers == [[False], [False], [True], [False], [True]]
        assert two.store.history("a") == ["first", "second", "2", "3"]

    def test_an_unknown_execution_can_only_be_created(self) -> None:
        one = self.writer()
        assert one.store.commit([Commit("a", 1, ("second",), head("a"))]) == [False]
        assert one.store.head("a") is None

    def test_a_creation_that_lacks_something_is_refused_with_its_whole_batch(self) -> None:
        one = self.writer()
        for lacking in (Commit("b", 0, ("event",)), Commit("b", 0, (), head("b"))):
            with pytest.raises(UsageError):
                one.store.commit([creation("a"), lacking])
        assert one.store.list(Query()).heads == []
        create(one, "a")

    def test_an_item_that_fails_does_not_touch_the_others(self) -> None:
        one = self.writer()
        create(one, "a", "b")
        answers = one.store.commit(
            [
                Commit("a", 1, ("yes",)),
                Commit("b", 2, ("no",)),
                creation("a"),
                creation("c"),
                Commit("d", 1, ("no",)),
                Commit("b", 1, ("yes",)),
            ]
        )
        assert answers == [True, False, False, True, False, True]
        assert one.store.history("a") == one.store.history("b") == ["started", "yes"]
        assert one.store.history("c") == ["started"]
        assert one.store.head("d") is None

    def test_items_of_one_execution_build_on_each_other(self) -> None:
        one = self.writer()
        answers = one.store.commit(
            [
                creation("a"),
                Commit("a", 1, ("second",), head("a", run=2), park=("p", "q")),
                Commit("a", 1, ("too late",)),
                Commit("a", 2, ("third",), head("a", run=3), unpark=True),
                Commit("a", 3, park=("r",)),
            ]
        )
        assert answers == [True, True, False, True, True]
        assert one.store.load("a") == Stored(
            head("a", run=3), ["started", "second", "third"], ["r"]
        )

    def test_what_was_read_is_a_copy(self) -> None:
        one = self.writer()
        create(one, "a")
        assert one.store.commit([Commit("a", 1, park=("p",))]) == [True]
        stored = one.store.load("a")
        assert stored is not None
        stored.events.clear()
        stored.parked.clear()
        one.store.history("a").clear()
        assert one.store.load("a") == Stored(head("a"), ["started"], ["p"])

    def test_a_damaged_event_hurts_nothing_else(self) -> None:
        one = self.writer()
        create(one, "a", "b")
        assert one.store.commit([Commit("a", 1, ("before", "damage-me", "behind"))]) == [True]
        assert one.store.commit([Commit("b", 1, park=("damage-me-too",))]) == [True]
        one.close()
        self.damage("damage-me")
        self.damage("damage-me-too")
        two = self.writer()
        stored, parked = two.store.load("a"), two.store.load("b")
        assert stored is not None
        assert parked is not None
        assert len(stored.events) == 4
        assert [stored.events[n] for n in (0, 1, 3)] == ["started", "before", "behind"]
        assert two.store.history("a") == stored.events
        assert len(parked.parked) == 1
        for line in (stored.events[2], parked.parked[0]):
            with pytest.raises(WireError):
                wire.decode(line)
        assert {one.execution_id for one in two.store.list(Query()).heads} == {"a", "b"}
        assert two.store.extent("a") == Extent(4, stored.held)

    @pytest.mark.parametrize("text", TEXTS, ids=ascii)
    def test_any_text_comes_back_as_it_was(self, text: str) -> None:
        one = self.writer()
        fields = {"workflow": f"w{text}", "blocked_kind": text, "blocked_reason": text}
        assert one.store.commit([creation("a", text, **fields)]) == [True]
        assert one.store.commit([Commit("a", 1, (text,), park=(text, text))]) == [True]
        stored = Stored(head("a", **fields), [text, text], [text, text])
        assert one.store.load("a") == stored
        assert one.store.list(Query()).heads == [stored.head]

    def test_names_differ_by_every_letter(self) -> None:
        one = self.writer()
        names = ["a", "A", "a.", "a-", "a:", "a@b", "_a", "a.json", "9", "index", "segments"]
        create(one, *names)
        assert {item.execution_id for item in one.store.list(Query()).heads} == set(names)

    def test_a_line_of_five_mebibytes(self) -> None:
        one = self.writer()
        line = "0123456789abcdef" * (5 * 1024 * 1024 // 16)
        assert one.store.commit([creation("a", line), creation("b")]) == [True, True]
        assert one.store.commit([Commit("a", 1, ("short", line))]) == [True]
        assert one.store.history("a") == [line, "short", line]

    def test_what_is_not_text_is_refused_with_its_whole_batch(self) -> None:
        one = self.writer()
        create(one, "a")
        for bad in (Commit("a", 1, ("\ud800",)), Commit("a", 1, park=("\ud800",))):
            with pytest.raises(ValueError, match="surrogates"):
                one.store.commit([creation("b"), bad])
        assert one.store.head("b") is None
        assert one.store.commit([Commit("a", 1, ("fine",))]) == [True]

    def test_parked_messages_keep_their_order(self) -> None:
        one = self.writer()
        create(one, "a", "b")
        for number in range(3):
            items = [Commit(name, 1, park=(f"{name}{number}", f"{name}{number}x")) for name in "ab"]
            assert one.store.commit(items) == [True, True]
        for name in "ab":
            stored = one.store.load(name)
            assert stored is not None
            assert stored.parked == [f"{name}{n}{x}" for n in range(3) for x in ("", "x")]

    def test_unparking_removes_what_was_there_and_nothing_else(self) -> None:
        one = self.writer()
        create(one, "a", "b")
        items = [Commit("a", 1, park=("old",)), Commit("b", 1, park=("other",))]
        assert one.store.commit(items) == [True, True]
        assert one.store.commit([Commit("a", 1, park=("new", "newer"), unpark=True)]) == [True]
        assert one.store.load("a") == Stored(head("a"), ["started"], ["new", "newer"])
        assert one.store.load("b") == Stored(head("b"), ["started"], ["other"])

    def test_a_reader_sees_whole_commits_only(self) -> None:
        one = self.writer()
        create(one, "a")
        done = threading.Event()
        seen: list[int] = []
        problems: list[BaseException] = []

        def read() -> None:
            try:
                while not done.is_set():
                    seen.append(len(one.store.history("a")))
                    found = one.store.head("a")
                    assert found is not None
                    assert found.run <= len(one.store.history("a"))
                    assert one.store.list(Query(limit=1)).heads != []
            except BaseException as error:
                problems.append(error)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for length in range(1, 301, 3):
            item = Commit("a", length, ("x", "y", "z"), head("a", run=length + 3))
            assert one.store.commit([item]) == [True]
        done.set()
        for reader in readers:
            reader.join()
        assert problems == []
        assert all(length % 3 == 1 for length in seen)


class ListingContract(StoreCase):
    """The contract of `Store.list` and `Store.count`. Inherit it, and override `open_store`.

    `unanswered` are the fields of a query that the store's indexes do not answer, and that it has to
    refuse.
    """

    unanswered: frozenset[str] = frozenset()

    def names(self, backend: Opened, query: Query) -> list[str]:
        """Return the ids of all pages."""
        found: list[str] = []
        while True:
            page = backend.store.list(query)
            assert len(page.heads) <= query.limit
            found += [item.execution_id for item in page.heads]
            if page.next is None:
                return found
            assert len(page.heads) == query.limit
            query = replace(query, after=page.next)

    @pytest.mark.parametrize("limit", [1, 2, 3, 11, 12, 13, 1_000])
    def test_newest_first_whatever_the_size_of_a_page(self, limit: int) -> None:
        one = self.writer()
        for number in range(12):
            # Four start at the same time; the one that was created later is newer.
            status = "running" if number % 2 else "failed"
            create(one, f"e{number}", started_at=1_000 + number // 4, status=status)
        expected = [f"e{number}" for number in reversed(range(12))]
        assert self.names(one, Query(limit=limit)) == expected
        assert self.names(one, Query(limit=limit, status="running")) == expected[::2]

    def test_the_start_decides_and_not_the_order_of_creation(self) -> None:
        one = self.writer()
        for started_at in (5, 3, 9, 0, 7):
            create(one, f"at {started_at}", started_at=started_at)
        assert self.names(one, Query(limit=2)) == ["at 9", "at 7", "at 5", "at 3", "at 0"]

    def test_filters(self) -> None:
        one = self.writer()
        for number, (workflow, status) in enumerate(
            [(w, s) for w in ("order", "refund") for s in ("running", "blocked", "completed")] * 2
        ):
            create(
                one, f"{number} {workflow} {status}", workflow=workflow, status=status,
                started_at=number,
            )  # fmt: skip
        everything = self.names(one, Query(limit=5))
        assert len(everything) == 12
        for limit in (1, 2, 100):
            assert self.names(one, Query(workflow="refund", limit=limit)) == [
                name for name in everything if "refund" in name
            ]
            assert self.names(one, Query(status="blocked", limit=limit)) == [
                name for name in everything if "blocked" in name
            ]
            assert self.names(one, Query("order", "completed", limit)) == [
                name for name in everything if "order completed" in name
            ]
        assert self.names(one, Query(workflow="ord")) == []
        assert self.names(one, Query(status="terminated")) == []

    def kept(self, one: Opened) -> list[tuple[int, Head]]:
        """Create executions that differ in all fields of a query. Return their heads."""
        heads: list[Head] = []
        for number in range(24):
            closed = 5_000 - 70 * number if number % 3 else None
            tags = {"parity": "eü"[number % 2], "third": str(number % 3)} if number % 4 else {}
            made = head(
                f"e{number}",
                workflow=("order", "refund")[number % 2],
                status="running" if closed is None else ("completed", "failed")[number % 2],
                started_at=1_000 + 10 * (number // 2),
                closed_at=closed,
                parent=None if "parent" in self.unanswered or number % 5 else f"p{number % 2}",
                tags=tags_as_text(tags),
                waits='{"kind":"signal"}' if closed is None else "",
                progress=f'[{number},24,""]' if number % 2 else "",
            )
            heads.append(made)
            assert one.store.commit([Commit(made.execution_id, 0, ("started",), made)]) == [True]
        return list(enumerate(heads))

    def test_every_filter_alone_and_with_others(self) -> None:
        one = self.writer()
        heads = self.kept(one)
        filters: list[dict[str, Any]] = [
            {"workflow": "order"},
            {"status": "failed"},
            {"tags": (("parity", "e"),)},
            {"tags": (("parity", "ü"), ("third", "1"))},
            {"tags": (("parity", "other"),)},
            {"started_after": 1_030},
            {"started_before": 1_080},
            {"closed_after": 4_000},
            {"closed_before": 4_500},
            {"parent": "p0"},
            {"id_prefix": "e1"},
            {"id_prefix": "e"},
            {"id_prefix": "other"},
            {"order": "started"},
            {"order": "-closed"},
            {"order": "closed"},
        ]
        queries: list[dict[str, Any]] = [{}]
        for one_filter, other in product(filters, filters):
            if (both := one_filter | other) not in queries:
                queries.append(both)
        for given in queries:
            if self.unanswered & given.keys():
                with pytest.raises(UsageError, match=r"\bworkflow, status\b"):
                    one.store.list(Query(**given))
                with pytest.raises(UsageError, match=r"\bworkflow, status\b"):
                    one.store.count(Query(**given))
                continue
            query = Query(**given, limit=100)
            wanted = [found.execution_id for found in page_of(heads, query).heads]
            for limit in (3, 100):
                assert self.names(one, replace(query, limit=limit)) == wanted, (query, limit)
            assert one.store.count(query) == len(wanted), query

    def test_tags_are_found_as_they_are_now(self) -> None:
        one = self.writer()
        first, later, last = (tags_as_text({"at": at}) for at in ("first", "later", "last"))
        create(one, "a", "b", tags=first)
        create(one, "c")
        change(one, "a", tags=later)
        change(one, "c", tags=last)
        change(one, "b")
        queries = {at: Query(tags=(("at", at),)) for at in ("first", "later", "last")}
        found = {at: (self.names(one, query)) for at, query in queries.items()}
        assert found == {"first": [], "later": ["a"], "last": ["c"]}
        change(one, "a", tags=later, status="completed", closed_at=2_000)
        assert self.names(one, replace(queries["later"], status="completed")) == ["a"]
        assert one.store.count(replace(queries["later"], status="running")) == 0
        loaded = one.store.load("a")
        assert loaded is not None
        assert loaded.head.tags == later

    def test_a_listing_shows_all_owners_executions(self) -> None:
        one, two = self.writer("one"), self.writer("two")
        create(one, "a", started_at=1)
        create(two, "b", started_at=2)
        for backend in (one, two, self.reader()):
            assert self.names(backend, Query()) == ["b", "a"]

    def test_pages_stay_in_step_while_executions_start_and_end(self) -> None:
        one = self.writer()
        create(one, *(f"e{number}" for number in range(6)))
        first = one.store.list(Query(limit=3))
        create(one, "later", started_at=2_000)
        create(one, "at the same time", started_at=1_000)
        for name in ("e1", "e4"):
            assert one.store.commit(
                [Commit(name, 1, ("end",), head(name, status="completed"))]
            ) == [True]
        second = one.store.list(Query(limit=3, after=first.next))
        names = [item.execution_id for item in (*first.heads, *second.heads)]
        assert names == ["e5", "e4", "e3", "e2", "e1", "e0"]
        assert second.next is None

    @pytest.mark.parametrize(
        "page",
        ["", "x", "1", "1-", "-1", "1-2-3", "1-2 ", "\uff11-\uff12", "1' OR 1=1", "9" * 30 + "-1"],
    )
    def test_what_is_not_a_page_is_refused(self, page: str) -> None:
        with pytest.raises(UsageError, match="page"):
            self.writer().store.list(Query(after=page))

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_page_has_room_for_something(self, limit: int) -> None:
        with pytest.raises(UsageError, match="limit"):
            self.writer().store.list(Query(limit=limit))

"""Hold every `Store` to its contract for executions that begin anew. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

import threading

import pytest

from mini_workflow.errors import UsageError
from mini_workflow.ports import Commit, Query, Stored
from mini_workflow.testing.contracts.backend import StoreCase, create, creation, head


class RunsContract(StoreCase):
    """`Head.base`, and the events before it. Inherit it, and override `open_store`."""

    def test_a_new_run_begins_in_the_commit_that_ends_the_last(self) -> None:
        one = self.writer()
        assert one.store.commit([creation("a", "first", "second")]) == [True]
        anew = head("a", run=2, base=4)
        events = ("third", "end", "begin", "go on")
        assert one.store.commit([Commit("a", 2, events, anew, park=("p",))]) == [True]
        assert one.store.load("a") == Stored(anew, ["begin", "go on"], ["p"])
        assert one.store.history("a") == ["begin", "go on"]
        assert one.store.head("a") == anew
        assert one.store.list(Query()).heads == [anew]

    def test_a_new_run_may_begin_with_an_event_that_is_stored_already(self) -> None:
        one = self.writer()
        assert one.store.commit([creation("a", "first", "second", "third")]) == [True]
        assert one.store.commit([Commit("a", 3, head=head("a", run=2, base=2))]) == [True]
        assert one.store.history("a") == ["third"]

    def test_several_runs_may_pass_in_one_step(self) -> None:
        one = self.writer()
        answers = one.store.commit(
            [
                creation("a", "1.1", "1.2", "2.1", base=2, run=2),
                Commit("a", 3, ("2.2",)),
                Commit("a", 4, ("2.3", "3.1"), head("a", run=3, base=5)),
                Commit("a", 6, ("3.2", "4.1"), head("a", run=4, base=7)),
            ]
        )
        assert answers == [True] * 4
        assert one.store.load("a") == Stored(head("a", run=4, base=7), ["4.1"], [])

    def test_runs_of_one_execution_are_nothing_to_another(self) -> None:
        one = self.writer()
        create(one, "a", "b", "c")
        assert one.store.commit([Commit("b", 1, ("end", "begin"), head("b", base=2))]) == [True]
        assert one.store.commit([Commit("a", 1, ("x",)), Commit("c", 1, ("x",))]) == [True, True]
        assert [one.store.history(name) for name in "abc"] == [
            ["started", "x"],
            ["begin"],
            ["started", "x"],
        ]

    @pytest.mark.parametrize("reopen", ["no", "load", "take over", "take over and load"])
    def test_the_fence_goes_on_counting_all_events(self, reopen: str) -> None:
        one = self.writer()
        assert one.store.commit([creation("a", "first", "end", "begin", base=2)]) == [True]
        if "take over" in reopen:
            one = self.successor(one)
        if "load" in reopen:
            assert one.store.load("a") is not None
        # Not the number of events of the run, nor 0: the execution exists.
        assert one.store.commit([creation("a")]) == [False]
        answers = [one.store.commit([Commit("a", n, (str(n),))]) for n in (1, 2, 4, 3, 3, 4)]
        assert answers == [[False], [False], [False], [True], [False], [True]]
        assert one.store.history("a") == ["begin", "3", "4"]

    def test_a_run_that_was_not_begun_leaves_the_last(self) -> None:
        one = self.writer()
        create(one, "a")
        stale = Commit("a", 2, ("end", "begin"), head("a", run=2, base=3))
        assert one.store.commit([stale]) == [False]
        assert one.store.load("a") == Stored(head("a"), ["started"], [])

    def test_without_a_head_the_run_goes_on(self) -> None:
        one = self.writer()
        anew = head("a", run=2, base=1)
        assert one.store.commit([creation("a", "end", "begin", base=1, run=2)]) == [True]
        assert one.store.commit([Commit("a", 2, ("more",), unpark=True)]) == [True]
        assert one.store.load("a") == Stored(anew, ["begin", "more"], [])

    def test_the_events_of_earlier_runs_stay_stored(self) -> None:
        one = self.writer()
        assert one.store.commit([creation("a", "1", "2", "3", "4", base=3)]) == [True]
        for base in (2, 1, 3, 0):
            assert one.store.commit([Commit("a", 4, head=head("a", base=base))]) == [True]
            assert one.store.history("a") == ["1", "2", "3", "4"][base:]
        loaded = one.store.load("a")
        assert loaded is not None
        assert loaded.events == ["1", "2", "3", "4"]

    @pytest.mark.parametrize("base", [-1, 2, 3, 1_000])
    def test_a_run_without_an_event_is_refused_with_its_whole_batch(self, base: int) -> None:
        one = self.writer()
        create(one, "a")
        for bad in (
            Commit("a", 1, ("x",), head("a", base=base)),
            Commit("a", 2, head=head("a", base=base)),  # Also where the fence would forbid it.
            creation("c", "1", "2", base=base),
        ):
            with pytest.raises(UsageError, match="run"):
                one.store.commit([creation("b"), bad])
        assert one.store.load("a") == Stored(head("a"), ["started"], [])
        assert [item.execution_id for item in one.store.list(Query()).heads] == ["a"]
        assert one.store.commit([Commit("a", 1, ("x",), head("a", base=1))]) == [True]

    def test_pages_show_the_run_of_each(self) -> None:
        one = self.writer()
        heads = [head(f"e{n}", run=n + 1, base=n) for n in range(5)]
        items = [
            Commit(item.execution_id, 0, ("x",) * (item.base + 1), item) for item in heads
        ]  # fmt: skip
        assert one.store.commit(items) == [True] * 5
        first = one.store.list(Query(limit=3))
        second = one.store.list(Query(limit=3, after=first.next))
        assert first.heads + second.heads == heads[::-1]

    def test_a_reader_sees_one_run_or_the_other(self) -> None:
        one = self.writer()
        assert one.store.commit([creation("a", "run 1")]) == [True]
        done = threading.Event()
        seen: list[list[str]] = []
        problems: list[BaseException] = []

        def read() -> None:
            try:
                while not done.is_set():
                    seen.append(one.store.history("a"))
            except BaseException as error:
                problems.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        for run in range(2, 200):
            item = Commit("a", run - 1, (f"run {run}",), head("a", run=run, base=run - 1))
            assert one.store.commit([item]) == [True]
        done.set()
        reader.join()
        assert problems == []
        assert {len(lines) for lines in seen} == {1}

"""Hold every `FencedStore` to its contract about deletions. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

from contextlib import AbstractContextManager, suppress

import pytest

from mini_workflow.core.tags import tags_as_text
from mini_workflow.engine.transport import ReadableStore
from mini_workflow.errors import StoreError
from mini_workflow.ports import Commit, Query, Stored
from mini_workflow.ports.queue import NO_EFFECTS, NO_WAKEUPS, FencedStore
from mini_workflow.testing.contracts.backend import creation, head

_CLOSED = {"status": "completed", "closed_at": 2_000, "tags": tags_as_text({"customer": "c-7"})}


class FencedDeletionContract:
    """The contract about deletions. Inherit it beside `FencedStoreContract`, which opens the stores."""

    def open_store(self) -> FencedStore:
        """See `FencedStoreContract.open_store`."""
        raise NotImplementedError

    def open_reader(self) -> ReadableStore:
        """See `FencedStoreContract.open_reader`."""
        raise NotImplementedError

    def failing(self, *, after: bool) -> AbstractContextManager[None]:
        """See `FencedStoreContract.failing`."""
        raise NotImplementedError

    def test_what_is_deleted_is_gone_for_every_process(self) -> None:
        one, two = self.open_store(), self.open_store()
        made = _create(one, "a", "started", "end")
        assert two.meta("a") is not None
        assert one.delete("a", 5, made)
        for store in (one, self.open_store()):
            assert store.meta("a") is None
            assert store.head("a") is None
            assert store.load("a") is None
            assert store.extent("a") is None
        assert not two.commit(Commit("a", 2, ("late",)), NO_EFFECTS, NO_WAKEUPS, 0)
        reader = self.open_reader()
        assert reader.head("a") is None
        assert reader.history("a") == []
        for query in (Query(), Query(tags=(("customer", "c-7"),))):
            assert reader.list(query).heads == []

    def test_one_that_was_overtaken_deletes_nothing(self) -> None:
        one, two = self.open_store(), self.open_store()
        made = _create(one, "a", "started")
        assert two.meta("a") is not None
        after = head("a", **_CLOSED)
        assert two.commit(Commit("a", 1, ("more",), after), NO_EFFECTS, NO_WAKEUPS, 0)
        assert not one.delete("a", 5, made)
        assert self.open_store().load("a") == Stored(after, ["started", "more"], [])

    def test_an_id_is_free_again_and_brings_nothing_along(self) -> None:
        one = self.open_store()
        for number in range(1, 4):
            assert one.meta("a") is None
            assert one.deleted_events("a") == 2 * (number - 1)
            made = _create(one, "a", f"started {number}", "end")
            assert self.open_reader().history("a") == [f"started {number}", "end"]
            assert [each.execution_id for each in self.open_reader().list(Query()).heads] == ["a"]
            assert one.delete("a", number, made)
        two = self.open_store()
        assert two.meta("a") is None
        assert two.deleted_events("a") == 6
        assert two.meta("b") is None
        assert two.deleted_events("b") == 0

    @pytest.mark.parametrize("after", [False, True])
    def test_what_was_begun_is_finished_by_the_next_one(self, after: bool) -> None:
        one = self.open_store()
        made = _create(one, "a", "started", "end")
        with self.failing(after=after), suppress(StoreError):
            one.delete("a", 5, made)
        two = self.open_store()
        meta = two.meta("a")
        if meta is not None:  # nothing was deleted
            assert two.load("a") == Stored(head("a", **_CLOSED), ["started", "end"], [])
            assert two.delete("a", 5, meta.version)
        else:
            assert two.delete("a", 5)
        assert two.meta("a") is None
        assert two.deleted_events("a") == 2
        _create(two, "a", "again")
        assert two.delete("a", 5, 10_000) is False
        assert self.open_reader().history("a") == ["again"]

    def test_deleting_what_is_not_there_changes_nothing(self) -> None:
        one = self.open_store()
        assert one.meta("a") is None
        assert one.delete("a", 5)
        assert one.meta("a") is None
        assert one.deleted_events("a") == 0


def _create(store: FencedStore, name: str, *events: str) -> int:
    """Create an execution that has closed. Return its version."""
    store.meta(name)
    made = creation(name, *events, **_CLOSED)
    assert store.create(made, None, "", NO_EFFECTS, NO_WAKEUPS)
    meta = store.meta(name)
    assert meta is not None
    return meta.version

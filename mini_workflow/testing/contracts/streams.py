"""Hold every `StreamStore` to its contract. Needs pytest."""

# ruff: noqa: D102 - the name of a test says what it pins

from __future__ import annotations

from functools import cached_property
from typing import Any

import pytest

from mini_workflow.core.streams import WORKFLOW
from mini_workflow.errors import LeaseLost
from mini_workflow.ports import Backend, Commit, StreamStore, StreamWrite
from mini_workflow.ports import streams as port
from mini_workflow.ports.heartbeats import Heartbeat, heartbeats_of
from mini_workflow.stores import stream_state
from mini_workflow.testing.contracts.backend import (
    BackendContract,
    Opened,
    StoreCase,
    change,
    create,
    creation,
    head,
)


def write(
    number: int,
    body: str = '"x"',
    *,
    execution_id: str = "a",
    stream: str = "s",
    source: int = 1,
    attempt: int = 1,
) -> StreamWrite:
    """Return a write of a task with the given fields, and defaults for the others."""
    return StreamWrite(execution_id, stream, source, attempt, number, body)


def bodies(streams: StreamStore, execution_id: str = "a", stream: str = "s") -> list[str]:
    """Return the bodies of a stream, read page by page."""
    return [chunk.body for chunk in everything(streams, execution_id, stream)]


def everything(streams: StreamStore, execution_id: str = "a", stream: str = "s") -> list[Any]:
    """Return the chunks of a stream, read page by page."""
    found: list[Any] = []
    after = 0
    while page := streams.read(execution_id, stream, after, 3).chunks:
        found += page
        after = page[-1].offset
    return found


class StreamContract(StoreCase):
    """The contract of `StreamStore`. Inherit it. The store has `streams`, over the state of its `store`."""

    @cached_property
    def opened(self) -> Opened:
        """A store with two executions."""
        opened = self.writer()
        create(opened, "a", "b")
        return opened

    @property
    def streams(self) -> StreamStore:
        """Its streams."""
        opened: Any = self.opened
        return opened.streams

    def test_the_last_heartbeat_of_a_task_is_kept(self) -> None:
        beats = heartbeats_of(self.streams)
        first, later = Heartbeat("a", 1, 1, 10, '"x"'), Heartbeat("a", 1, 2, 5)
        other = Heartbeat("b", 1, 1, 7, '{"n":2}')
        beats.keep([first, other, Heartbeat("gone", 1, 1, 7)], ())
        assert beats.last("a", [1, 2]) == [first]
        beats.keep([later], ())
        assert beats.last("a", [2, 1]) == [later]
        assert beats.last("b", [1]) == [other]
        assert beats.last("a", []) == []

    def test_what_is_appended_can_be_read_in_its_order(self) -> None:
        answers = self.streams.append([write(n, f"[{n}]") for n in range(1, 8)])
        assert answers == ["kept"] * 7
        assert bodies(self.streams) == [f"[{n}]" for n in range(1, 8)]

    def test_offsets_begin_at_one_and_rise(self) -> None:
        for n in range(1, 6):
            self.streams.append([write(n), write(n + 10, source=2)])
        offsets = [chunk.offset for chunk in everything(self.streams)]
        assert offsets[0] == 1
        assert offsets == sorted(set(offsets))
        assert len(offsets) == 10

    def test_reading_goes_on_behind_any_offset(self) -> None:
        self.streams.append([write(n, str(n)) for n in range(1, 5)])
        self.streams.append([write(n, str(n)) for n in range(5, 9)])
        offsets = [chunk.offset for chunk in everything(self.streams)]
        for index, offset in enumerate(offsets):
            for limit in (1, 2, 100):
                found = self.streams.read("a", "s", offset, limit).chunks
                assert [c.offset for c in found] == offsets[index + 1 :][:limit]
        assert self.streams.read("a", "s", offsets[-1] + 1_000, 5).chunks == []

    def test_chunks_say_who_has_written_them(self) -> None:
        self.streams.append([write(1, source=WORKFLOW, attempt=3), write(1, source=7, attempt=2)])
        found = everything(self.streams)
        assert [(c.source, c.attempt, c.restarts) for c in found] == [(0, 3, False), (7, 2, False)]

    def test_a_write_that_comes_again_is_known(self) -> None:
        writes = [write(1, "1"), write(2, "2")]
        assert self.streams.append(writes) == ["kept", "kept"]
        assert self.streams.append([*writes, write(3, "3")]) == ["known", "known", "kept"]
        assert bodies(self.streams) == ["1", "2", "3"]

    def test_a_write_that_comes_again_at_once_is_known(self) -> None:
        assert self.streams.append([write(1), write(1), write(2), write(1)]) == [
            "kept",
            "known",
            "kept",
            "known",
        ]

    def test_the_next_attempt_restarts_what_its_source_has_written(self) -> None:
        self.streams.append([write(1, "old"), write(1, "other", source=2)])
        self.streams.append([write(1, "new", attempt=2), write(2, "newer", attempt=2)])
        found = everything(self.streams)
        assert [(c.body, c.restarts) for c in found] == [
            ("old", False),
            ("other", False),
            ("new", True),
            ("newer", False),
        ]

    def test_an_attempt_restarts_nothing_where_none_has_written_before(self) -> None:
        self.streams.append([write(1, attempt=3), write(1, stream="t", attempt=4)])
        assert [c.restarts for c in everything(self.streams)] == [False]
        assert [c.restarts for c in everything(self.streams, stream="t")] == [False]

    def test_a_later_run_of_the_workflow_restarts_nothing(self) -> None:
        self.streams.append([write(1, source=WORKFLOW), write(1, source=WORKFLOW, attempt=2)])
        assert [c.restarts for c in everything(self.streams)] == [False, False]

    def test_what_comes_late_of_an_earlier_attempt_is_dropped(self) -> None:
        self.streams.append([write(1, "old")])
        self.streams.append([write(1, "new", attempt=2)])
        assert self.streams.append([write(2, "late"), write(2, "newer", attempt=2)]) == [
            "known",
            "kept",
        ]
        assert bodies(self.streams) == ["old", "new", "newer"]

    def test_streams_and_executions_are_apart(self) -> None:
        self.streams.append(
            [
                write(1, "a-s"),
                write(1, "a-t", stream="t"),
                write(1, "b-s", execution_id="b"),
            ]
        )
        assert bodies(self.streams) == ["a-s"]
        assert bodies(self.streams, stream="t") == ["a-t"]
        assert bodies(self.streams, "b") == ["b-s"]
        assert self.streams.names("a") == ["s", "t"]
        assert self.streams.names("b") == ["s"]

    def test_names_and_ids_that_begin_alike_are_apart(self) -> None:
        create(self.opened, "a.b", "ab")
        self.streams.append(
            [
                write(1, "1", stream="s.t"),
                write(1, "2", stream="st"),
                write(1, "3", execution_id="a.b"),
                write(1, "4", execution_id="ab"),
            ]
        )
        assert self.streams.names("a") == ["s.t", "st"]
        assert bodies(self.streams) == []
        self.streams.remove("a")
        assert bodies(self.streams, "a.b") == ["3"]
        assert bodies(self.streams, "ab") == ["4"]

    def test_of_what_is_not_there_nothing_is_read(self) -> None:
        for execution_id, stream in (("a", "s"), ("nobody", "s")):
            page = self.streams.read(execution_id, stream, 0, 10)
            assert (page.chunks, page.over) == ([], False)
        assert self.streams.names("a") == []
        assert self.streams.names("nobody") == []

    def test_a_write_to_an_unknown_execution_is_missing(self) -> None:
        answers = self.streams.append([write(1, execution_id="nobody"), write(1)])
        assert answers == ["missing", "kept"]
        assert self.streams.read("nobody", "s", 0, 10).chunks == []

    def test_bodies_keep_every_character(self) -> None:
        texts = [
            '"é€😀"',
            '"\\ud800"',
            '"\\u0000"',
            '"a\\nb"',
            '{"$":"x"}',
            "null",
            '"' + "x" * 9_999 + '"',
        ]
        self.streams.append([write(n, text) for n, text in enumerate(texts, 1)])
        assert bodies(self.streams) == texts

    def test_more_chunks_than_are_stored_together(self) -> None:
        many = [write(n, str(n)) for n in range(1, 1_201)]
        assert set(self.streams.append(many)) == {"kept"}
        found = self.streams.read("a", "s", 0, 2_000).chunks
        assert [chunk.body for chunk in found] == [str(n) for n in range(1, 1_201)]
        middle = self.streams.read("a", "s", found[599].offset, 3).chunks
        assert [chunk.body for chunk in middle] == ["601", "602", "603"]

    def test_nothing_appended_answers_nothing(self) -> None:
        assert self.streams.append([]) == []

    def test_an_execution_that_runs_is_not_over(self) -> None:
        self.streams.append([write(1)])
        assert not self.streams.read("a", "s", 0, 10).over
        assert not self.streams.read("a", "s", 1, 10).over

    def test_a_closed_execution_is_over_behind_its_last_chunk(self) -> None:
        self.streams.append([write(n) for n in range(1, 4)])
        change(self.opened, "a", status="completed", closed_at=2_000)
        assert not self.streams.read("a", "s", 0, 2).over
        page = self.streams.read("a", "s", 0, 3)
        assert (len(page.chunks), page.over) == (3, True)
        last = page.chunks[-1].offset
        assert self.streams.read("a", "s", last, 5).over
        assert self.streams.read("a", "another", 0, 5).over

    def test_a_closed_execution_can_be_written_to(self) -> None:
        change(self.opened, "a", status="completed", closed_at=2_000)
        assert self.streams.append([write(1)]) == ["kept"]
        assert len(self.streams.read("a", "s", 0, 5).chunks) == 1

    def test_another_run_goes_on_behind(self) -> None:
        self.streams.append([write(1, "1", source=WORKFLOW)])
        change(self.opened, "a", status="failed", closed_at=2_000)
        change(self.opened, "a", run=2)
        assert not self.streams.read("a", "s", 1, 5).over
        self.streams.append([write(1, "2", source=WORKFLOW, attempt=2)])
        assert bodies(self.streams) == ["1", "2"]

    def test_what_is_removed_is_gone(self) -> None:
        self.streams.append([write(1), write(1, stream="t"), write(1, execution_id="b")])
        self.streams.remove("a")
        self.streams.remove("a")
        self.streams.remove("nobody")
        assert self.streams.names("a") == []
        assert self.streams.read("a", "s", 0, 5).chunks == []
        assert bodies(self.streams, "b") == ['"x"']
        assert self.streams.append([write(1, "again")]) == ["kept"]
        assert [(c.offset, c.body) for c in everything(self.streams)] == [(1, "again")]

    def test_a_stream_has_room_for_so_many_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stream_state, "MAXIMUM_CHUNKS", 3)
        assert self.streams.append([write(n) for n in range(1, 6)]) == [
            *["kept"] * 3,
            *["full"] * 2,
        ]
        assert self.streams.append([write(3), write(6)]) == ["known", "full"]
        assert self.streams.append([write(1, stream="t")]) == ["kept"]
        assert len(everything(self.streams)) == 3
        assert self.streams.append([write(6)], bounded=False) == ["kept"]

    def test_a_stream_has_room_for_so_many_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stream_state, "MAXIMUM_STREAM_BYTES", 10)
        writes = [write(1, '"éé"'), write(2, '"xxxxx"'), write(3, "1234")]
        assert self.streams.append(writes) == ["kept", "full", "kept"]
        assert bodies(self.streams) == ['"éé"', "1234"]

    def test_an_execution_has_room_for_so_many_streams(self) -> None:
        limit = port.MAXIMUM_STREAMS
        names = [f"s{n:03}" for n in range(limit)]
        assert set(self.streams.append([write(1, stream=name) for name in names])) == {"kept"}
        assert self.streams.append([write(1, stream="more"), write(2, stream="s001")]) == [
            "full",
            "kept",
        ]
        assert self.streams.names("a") == names
        assert self.streams.append([write(1, stream="more")], bounded=False) == ["kept"]

    def test_writers_beside_each_other_lose_nothing(self) -> None:
        other: Any = self.reader()
        for n in range(1, 6):
            assert self.streams.append([write(n, f"{n}")]) == ["kept"]
            assert other.streams.append([write(n, f"-{n}", source=2)]) == ["kept"]
        assert bodies(self.streams) == [text for n in range(1, 6) for text in (f"{n}", f"-{n}")]
        assert bodies(other.streams) == bodies(self.streams)

    def test_it_outlives_who_has_written_it(self) -> None:
        self.streams.append([write(1, "1")])
        self.opened.close()
        other: Any = self.reader()
        assert bodies(other.streams) == ["1"]
        assert other.streams.append([write(1, "1"), write(2, "2")]) == ["known", "kept"]


class StreamCommitContract(BackendContract):
    """The chunks of commits, for backends with owners. Inherit it, and override `open_backend`."""

    def _backend(self) -> Any:
        return self.owner()

    def test_heartbeats_go_with_their_attempt_and_with_their_execution(self) -> None:
        one: Any = self.owner()
        create(one, "a", "b")
        beats = heartbeats_of(one.streams)
        beats.keep([Heartbeat(name, seq, 2, 10) for name in "ab" for seq in (1, 2)], ())
        beats.keep([Heartbeat("a", 1, 1, 20)], [("a", 2, 2), ("b", 1, 1)])
        assert beats.last("a", [1, 2]) == [Heartbeat("a", 1, 2, 10)]
        assert len(beats.last("b", [1, 2])) == 2
        assert one.store.commit([Commit("b", 1, deleted_at=5)]) == [True]
        create(one, "b")
        assert beats.last("b", [1, 2]) == []

    def test_chunks_are_kept_with_their_commit(self) -> None:
        one = self._backend()
        chunks = (write(1, "1", source=WORKFLOW), write(2, "2", source=WORKFLOW, stream="t"))
        first = Commit("a", 0, ("started",), head("a"), chunks=chunks)
        assert one.store.commit([first, creation("b")]) == [True, True]
        assert bodies(one.streams) == ["1"]
        assert bodies(one.streams, stream="t") == ["2"]

    def test_chunks_with_events_alone(self) -> None:
        one = self._backend()
        create(one, "a")
        for n in range(1, 4):
            chunk = write(n, str(n), source=WORKFLOW)
            assert one.store.commit([Commit("a", n, ("more",), chunks=(chunk,))]) == [True]
        assert bodies(one.streams) == ["1", "2", "3"]
        assert one.store.history("a") == ["started", "more", "more", "more"]

    def test_chunks_without_events(self) -> None:
        one = self._backend()
        create(one, "a")
        assert one.store.commit([Commit("a", 1, chunks=(write(1, "1"),))]) == [True]
        assert bodies(one.streams) == ["1"]

    def test_the_end_comes_with_its_chunks(self) -> None:
        one = self._backend()
        create(one, "a")
        end = head("a", status="completed", closed_at=2_000)
        assert one.store.commit([Commit("a", 1, ("end",), end, chunks=(write(1, "1"),))]) == [True]
        page = one.streams.read("a", "s", 0, 5)
        assert ([chunk.body for chunk in page.chunks], page.over) == (["1"], True)

    def test_an_item_that_is_not_written_keeps_no_chunks(self) -> None:
        one = self._backend()
        create(one, "a")
        lost = Commit("a", 7, ("more",), chunks=(write(1, "lost"),))
        won = Commit("a", 1, ("more",), chunks=(write(1, "won"),))
        assert one.store.commit([lost, won]) == [False, True]
        assert bodies(one.streams) == ["won"]

    def test_chunks_that_come_again_are_kept_once(self) -> None:
        one = self._backend()
        create(one, "a")
        chunk = write(1, "1", source=WORKFLOW)
        assert one.store.commit([Commit("a", 1, ("2",), chunks=(chunk,))]) == [True]
        assert one.store.commit([Commit("a", 2, ("3",), chunks=(chunk,))]) == [True]
        assert one.streams.append([chunk]) == ["known"]
        assert bodies(one.streams) == ["1"]

    def test_chunks_of_a_commit_need_no_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stream_state, "MAXIMUM_CHUNKS", 1)
        one = self._backend()
        create(one, "a")
        chunks = tuple(write(n, str(n), source=WORKFLOW) for n in range(1, 4))
        assert one.store.commit([Commit("a", 1, ("2",), chunks=chunks)]) == [True]
        assert bodies(one.streams) == ["1", "2", "3"]

    def test_streams_go_with_what_is_deleted(self) -> None:
        one = self._backend()
        create(one, "a", "b")
        writes = [write(1, execution_id=name, stream=s) for name in "ab" for s in ("s", "t")]
        assert one.streams.append(writes) == ["kept"] * 4
        assert one.store.commit([Commit("a", 1, deleted_at=5)]) == [True]
        for _ in range(2):
            assert one.streams.names("a") == []
            assert bodies(one.streams) == []
            assert one.streams.append([write(1)]) == ["missing"]
            for _ in range(10):
                one.store.sweep(self.clock.now(), 1)
        create(one, "a")
        assert one.streams.names("a") == []
        assert one.streams.append([write(1, "anew")]) == ["kept"]
        assert [(c.offset, c.body) for c in everything(one.streams)] == [(1, "anew")]
        assert one.streams.names("b") == ["s", "t"]

    def test_who_holds_nothing_may_append_and_read(self) -> None:
        create(self._backend(), "a")
        onlooker: Any = self.onlooker()
        assert onlooker.streams.append([write(1, "1")]) == ["kept"]
        assert bodies(onlooker.streams) == ["1"]

    def test_a_lost_lease_keeps_no_chunks(self) -> None:
        one = self._backend()
        create(one, "a")
        self.clock.advance(self.LEASE + 1)
        two: Backend = self.owner("two")
        assert two.store.head("a") is not None
        with pytest.raises(LeaseLost):
            one.store.commit([Commit("a", 1, ("2",), chunks=(write(1, "1"),))])
        assert bodies(one.streams) == []

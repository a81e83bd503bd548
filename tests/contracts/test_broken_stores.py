"""Each test of the suite for fenced stores catches a store that breaks its law, and such alone."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from mini_workflow.errors import StoreError, UsageError
from mini_workflow.ports import Extent, Page, Query, Stored
from mini_workflow.ports.queue import NO_EFFECTS
from mini_workflow.stores.cached import CachedStore
from mini_workflow.stores.listing import page_of
from mini_workflow.stores.memory.queue import MemoryDocument, MemoryDocuments
from mini_workflow.testing.contracts.fenced_store import FencedStoreContract
from tests.contracts.catching import check_caught, laws_of
from tests.contracts.queue_cases import StoreInMemory, UnsafeDocuments
from tests.waiting import WAIT

Store = CachedStore[MemoryDocument]


class LosesParent(UnsafeDocuments):
    def create(self, commit: Any, parent: Any, *rest: Any) -> Any:
        return super().create(commit, None, *rest)


class FindsNothingEverywhere(Store):
    def extent(self, execution_id: str) -> Extent | None:
        return super().extent(execution_id) or Extent(0, True)


class CreatesAgain(UnsafeDocuments):
    def create(self, commit: Any, *rest: Any) -> Any:
        self._documents.pop(commit.execution_id, None)
        return super().create(commit, *rest)


class LosesHead(UnsafeDocuments):
    def write(self, document: Any, commit: Any, *rest: Any) -> Any:
        return super().write(document, replace(commit, head=None), *rest)


class KeepsEffects(UnsafeDocuments):
    def write(self, document: Any, commit: Any, pending: Any, *rest: Any) -> Any:
        return super().write(document, commit, pending or document.pending, *rest)


class PostsEffects(UnsafeDocuments):
    def write(self, document: Any, commit: Any, pending: Any, *rest: Any) -> Any:
        for message in pending.outbox:
            found = self._documents.get(message.execution_id)
            if found is not None:
                posted = replace(found, events=(*found.events, message.body))
                self._documents[message.execution_id] = posted
        return super().write(document, commit, pending, *rest)


class LoadsAllRuns(UnsafeDocuments):
    def lines(self, document: Any) -> list[str]:
        return list(document.events)


class StripsLines(UnsafeDocuments):
    def lines(self, document: Any) -> list[str]:
        return [line.strip() for line in super().lines(document)]


class CutsLines(UnsafeDocuments):
    def lines(self, document: Any) -> list[str]:
        return [line[:65_536] for line in super().lines(document)]


class OrdersLinesByText(UnsafeDocuments):
    def lines(self, document: Any) -> list[str]:
        return sorted(super().lines(document), key=lambda line: line[-1:])


class RefusesWithoutReason(Store):
    def create(self, *arguments: Any) -> bool:
        try:
            return super().create(*arguments)
        except UsageError:
            return False


class LastWriterWins(UnsafeDocuments):
    def write(self, document: Any, commit: Any, *rest: Any) -> Any:
        return super().write(self._documents[commit.execution_id], commit, *rest)


class FencesByLength(UnsafeDocuments):
    def write(self, document: Any, commit: Any, *rest: Any) -> Any:
        found = self._documents[commit.execution_id]
        same = found.length == document.length
        return super().write(found if same else document, commit, *rest)

    def changed(self, document: Any) -> bool:
        return self._documents[document.head.execution_id].length != document.length


class KeepsWhatWasRefused(Store):
    def commit(self, commit: Any, *rest: Any) -> bool:
        before = self._known.get(commit.execution_id)
        written = super().commit(commit, *rest)
        if not written and before is not None:
            self._known[commit.execution_id] = before
        return written


class WritesBlindly(Store):
    def commit(self, commit: Any, *rest: Any) -> bool:
        self.meta(commit.execution_id)
        return super().commit(commit, *rest)


class IgnoresExpected(Store):
    def commit(self, commit: Any, *rest: Any) -> bool:
        known = self.meta(commit.execution_id)
        length = commit.expected if known is None else known.length
        return super().commit(replace(commit, expected=length), *rest)


class TakesTwiceForOnce(Store):
    def commit(self, commit: Any, *rest: Any) -> bool:
        found = self.load(commit.execution_id)
        end = tuple(found.events[-len(commit.events) :]) if found else ()
        return bool(commit.events and end == commit.events) or super().commit(commit, *rest)


class ChecksFirstAndWritesLater(UnsafeDocuments):
    """Two writers pass the check before either of them writes."""

    def __init__(self) -> None:
        super().__init__()
        self._both = threading.Barrier(2)
        self._writing = threading.Lock()
        self._let_in = iter(range(2))

    def create(self, *arguments: Any) -> Any:
        name = arguments[0].execution_id
        if name in self._documents:
            return None
        if threading.current_thread() is not threading.main_thread():
            self._meet()
        with self._writing:
            self._documents.pop(name, None)
            return super().create(*arguments)

    def write(self, document: Any, *rest: Any) -> Any:
        name = document.head.execution_id
        if self.changed(document):
            return None
        self._meet()
        with self._writing:
            self._documents[name] = document
            return super().write(document, *rest)

    def _meet(self) -> None:
        if next(self._let_in, None) is not None:
            self._both.wait(WAIT)


class IsForOneThread(Store):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._maker = threading.current_thread()

    def create(self, *arguments: Any) -> bool:
        if threading.current_thread() is not self._maker:
            raise StoreError("made on another thread")
        return super().create(*arguments)


class ReadsHeadsAnew(Store):
    def head(self, execution_id: str) -> Any:
        found = self._documents.read(execution_id)
        return found and found.head


class TakesWhateverIsInMemory(Store):
    def commit(self, commit: Any, pending: Any, wakeup: Any, tries: int, *version: Any) -> bool:
        return super().commit(commit, pending, wakeup, tries)

    def done(self, execution_id: str, *version: Any) -> None:
        super().done(execution_id)


class CountsEventsAlone(UnsafeDocuments):
    def write(self, document: Any, commit: Any, *rest: Any) -> Any:
        written = super().write(document, commit, *rest)
        if written is None or commit.events:
            return written
        same = self._documents[commit.execution_id] = replace(written, version=document.version)
        return same


class ForgetsNothing(Store):
    def forget(self, execution_id: str) -> None: ...


class StaysDone(Store):
    def commit(self, commit: Any, *rest: Any) -> bool:
        known = self._known.get(commit.execution_id)
        written = super().commit(commit, *rest)
        if known is not None and known.done:
            self.done(commit.execution_id)
        return written


class WritesAgainWhenInDoubt(Store):
    def commit(self, commit: Any, pending: Any, *rest: Any) -> bool:
        try:
            return super().commit(commit, pending, *rest)
        except StoreError:
            now = self.meta(commit.execution_id)
            assert now is not None
            super().commit(replace(commit, expected=now.length), pending, *rest)
            raise


class LeavesAPart(UnsafeDocuments):
    def write(self, document: Any, commit: Any, pending: Any, *rest: Any) -> Any:
        try:
            return super().write(document, commit, pending, *rest)
        except StoreError:
            MemoryDocuments.write(self, document, commit, NO_EFFECTS, *rest)
            raise


class CreatesAPart(UnsafeDocuments):
    def create(self, *arguments: Any) -> Any:
        try:
            return super().create(*arguments)
        except StoreError:
            MemoryDocuments.create(self, *arguments)
            raise


class ShowsOldHeads(UnsafeDocuments):
    def load(self, execution_id: str) -> Stored | None:
        found = super().load(execution_id)
        return found and replace(found, head=replace(found.head, busy=False))


class ListsEveryStatus(UnsafeDocuments):
    def list(self, query: Query) -> Page:
        return super().list(replace(query, status=None))


class ForgetsTagsInFilters(UnsafeDocuments):
    def list(self, query: Query) -> Page:
        return super().list(replace(query, tags=()))


class ListsWhatWasAnswered(UnsafeDocuments):
    def __init__(self) -> None:
        super().__init__()
        self._listed: list[str] = []

    def create(self, commit: Any, *rest: Any) -> Any:
        made = super().create(commit, *rest)
        self._listed.append(commit.execution_id)
        return made

    def list(self, query: Query) -> Page:
        found = [(n, self._documents[name].head) for n, name in enumerate(self._listed)]
        return page_of(found, query)


class ReadsTwice(UnsafeDocuments):
    reads = 0

    def read(self, execution_id: str) -> Any:
        self.reads += 1
        return super().read(execution_id)


def case(broken: type) -> type[StoreInMemory]:
    """The suite on a store that is broken."""
    part = "store" if issubclass(broken, CachedStore) else "documents"
    members: dict[str, Any] = {part: broken}
    if broken is ReadsTwice:
        members["calls"] = lambda self: self.state.reads
    return type(broken.__name__, (StoreInMemory,), members)


BROKEN: dict[str, type] = {
    "test_what_is_created_is_there_for_every_process": LosesParent,
    "test_of_an_unknown_execution_there_is_nothing": FindsNothingEverywhere,
    "test_a_creation_of_an_id_that_is_taken_changes_nothing": CreatesAgain,
    "test_a_commit_is_there_for_every_process_as_a_whole": LosesHead,
    "test_what_a_commit_does_not_name_stays_and_the_rest_is_replaced": KeepsEffects,
    "test_effects_are_kept_and_not_posted": PostsEffects,
    "test_a_new_run_is_loaded_alone_and_all_events_count": LoadsAllRuns,
    "test_texts_come_back_as_they_were": StripsLines,
    "test_large_values_come_back": CutsLines,
    "test_long_histories_keep_their_order": OrdersLinesByText,
    "test_what_cannot_be_written_is_refused_and_changes_nothing": RefusesWithoutReason,
    "test_a_holder_who_was_overtaken_is_refused_and_writes_nothing": LastWriterWins,
    "test_a_commit_without_events_overtakes_too": FencesByLength,
    "test_who_was_refused_sees_what_is_there_and_goes_on": KeepsWhatWasRefused,
    "test_nobody_writes_what_is_not_in_memory": WritesBlindly,
    "test_another_number_of_events_is_refused": IgnoresExpected,
    "test_the_same_commit_again_is_refused": TakesTwiceForOnce,
    "test_of_concurrent_writers_one_wins_each_time_and_nothing_is_lost": ChecksFirstAndWritesLater,
    "test_of_concurrent_creations_one_wins": ChecksFirstAndWritesLater,
    "test_threads_share_a_store_each_for_executions_of_its_own": IsForOneThread,
    "test_memory_answers_until_somebody_else_turns_out_to_have_written": ReadsHeadsAnew,
    "test_memory_is_out_of_date_after_a_commit_without_events": FencesByLength,
    "test_what_was_decided_before_the_memory_was_read_anew_is_refused": TakesWhateverIsInMemory,
    "test_each_write_is_a_version_of_its_own_and_reading_is_none": CountsEventsAlone,
    "test_what_is_forgotten_is_read_again": ForgetsNothing,
    "test_effects_are_known_to_be_done_until_the_next_commit_and_here_alone": StaysDone,
    "test_a_commit_whose_answer_is_lost_is_there_once": WritesAgainWhenInDoubt,
    "test_a_commit_that_has_failed_has_left_nothing": LeavesAPart,
    "test_a_creation_whose_answer_is_lost_is_there_once": CreatesAPart,
    "test_readers_see_each_commit": ShowsOldHeads,
    "test_executions_are_listed_under_the_status_that_they_have": ListsEveryStatus,
    "test_executions_are_found_by_the_tags_that_they_have": ForgetsTagsInFilters,
    "test_what_is_acknowledged_is_listed_also_if_its_answer_was_lost": ListsWhatWasAnswered,
    "test_each_operation_takes_the_calls_that_are_stated": ReadsTwice,
}


@pytest.mark.parametrize("name", laws_of(FencedStoreContract))
def test_a_broken_store_is_caught(name: str) -> None:
    check_caught(case(BROKEN[name]), name)

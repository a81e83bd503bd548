"""Each test of the suites for dispatching catches a queue that breaks its law."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mini_workflow.errors import ExecutionNotFound, StoreError
from mini_workflow.ports import QueuedMessage, TaskRequest
from mini_workflow.ports.queue import Wakeup
from mini_workflow.stores.memory.queue import MemoryDispatch
from mini_workflow.testing.contracts.dispatch import DispatchContract, WakeupContract
from tests.contracts.catching import check_caught, laws_of
from tests.contracts.queue_cases import QueueInMemory, UnsafeDispatch


class NewestFirst(UnsafeDispatch):
    def post(self, messages: Sequence[QueuedMessage]) -> None:
        super().post(messages[::-1])


class CutsBodies(UnsafeDispatch):
    def post(self, messages: Sequence[QueuedMessage]) -> None:
        super().post([replace(message, body=message.body[:262_144]) for message in messages])


class MovesWhatComesAgain(UnsafeDispatch):
    """What was posted again takes the place behind, and the first one is dropped."""

    def post(self, messages: Sequence[QueuedMessage]) -> None:
        for message in messages:
            self._queue = [one for one in self._queue if one.body != message.body]
            super().post([message])
            self._queue.reverse()


class ForgetsAfterAnError(UnsafeDispatch):
    """It notes what it has sent before it sends it, and leaves it out the second time."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: set[str] = set()

    def post(self, messages: Sequence[QueuedMessage]) -> None:
        new = [message for message in messages if message.key not in self._keys]
        self._keys.update(message.key for message in messages)
        if self.switch.fails:
            new = new[:10]
            MemoryDispatch.post(self, new)
        super().post(new)


class IsForOneThread(UnsafeDispatch):
    """What other threads post is lost."""

    def __init__(self) -> None:
        super().__init__()
        self._first: threading.Thread | None = None

    def post(self, messages: Sequence[QueuedMessage]) -> None:
        self._first = self._first or threading.current_thread()
        if self._first is threading.current_thread():
            super().post(messages)


class LosesOptions(UnsafeDispatch):
    def run(self, requests: Sequence[TaskRequest]) -> list[StoreError | None]:
        return super().run([replace(request, heartbeat=None) for request in requests])


class RaisesForAll(UnsafeDispatch):
    def run(self, requests: Sequence[TaskRequest]) -> list[StoreError | None]:
        answers = super().run(requests)
        for answer in answers:
            if answer is not None:
                raise answer
        return answers


class MakesUpOutcomes(UnsafeDispatch):
    def outcomes(self, execution_id: str, attempts: Sequence[tuple[int, int]]) -> list[str]:
        return ["{}" for _ in attempts]


class KnowsOnlySomeTasks(UnsafeDispatch):
    def cancel(self, execution_id: str, seq: int, reason: str) -> None:
        raise ExecutionNotFound("nobody runs that task")


class SetsWhatIsAsked(UnsafeDispatch):
    def wakeup(self, execution_id: str, at: int, now: int) -> Wakeup:
        wakeup = super().wakeup(execution_id, at, now)
        self.set(execution_id, wakeup, now)
        return wakeup


class IsNeverEarlyEnough(UnsafeDispatch):
    def set(self, execution_id: str, wakeup: Wakeup, now: int) -> None:
        super().set(execution_id, replace(wakeup, at=wakeup.at + 2_000), now)


class SetsAndTakesBack(UnsafeDispatch):
    """A second one of the same name takes the first away."""

    def set(self, execution_id: str, wakeup: Wakeup, now: int) -> None:
        if (wakeup.at, execution_id) in self._wakeups:
            self.unset(wakeup)
        else:
            super().set(execution_id, wakeup, now)


class KeepsOneForAll(UnsafeDispatch):
    def set(self, execution_id: str, wakeup: Wakeup, now: int) -> None:
        self._wakeups.clear()
        super().set(execution_id, wakeup, now)


class TakesAllBack(UnsafeDispatch):
    def unset(self, wakeup: Wakeup) -> None:
        name = wakeup.schedule.rpartition("@")[0]
        self._wakeups = {one for one in self._wakeups if one[1] != name}


BROKEN: dict[str, Any] = {
    "test_messages_to_one_execution_arrive_in_order": NewestFirst,
    "test_messages_arrive_as_they_were_posted": CutsBodies,
    "test_what_is_posted_again_arrives_once_at_least_and_keeps_its_place": MovesWhatComesAgain,
    "test_a_post_that_failed_can_be_made_again": ForgetsAfterAnError,
    "test_no_message_is_lost_when_many_post_at_once": IsForOneThread,
    "test_attempts_are_handed_over_as_they_are": LosesOptions,
    "test_an_attempt_that_cannot_be_handed_over_has_its_error_in_its_place": RaisesForAll,
    "test_of_attempts_that_were_only_handed_over_no_outcome_is_kept": MakesUpOutcomes,
    "test_a_cancelled_task_leaves_the_others_alone": KnowsOnlySomeTasks,
    "test_what_would_be_set_is_always_the_same_and_sets_nothing": SetsWhatIsAsked,
    "test_an_execution_is_woken_by_its_time": IsNeverEarlyEnough,
    "test_what_is_set_twice_goes_off": SetsAndTakesBack,
    "test_each_execution_has_wakeups_of_its_own": KeepsOneForAll,
    "test_what_is_taken_back_takes_no_other_with_it": TakesAllBack,
}


@pytest.mark.parametrize("name", [*laws_of(DispatchContract), *laws_of(WakeupContract)])
def test_a_broken_dispatch_is_caught(name: str) -> None:
    case = type("Broken", (QueueInMemory,), {"dispatch": BROKEN[name]})
    check_caught(case, name)

"""When an execution is to be woken, and errands that are done in part."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.engine.effects import Effects, put_off, together, waking
from mini_workflow.errors import StoreError, StoreUnavailable
from mini_workflow.ports import QueuedMessage, TaskRequest
from mini_workflow.ports.queue import NO_ERRANDS, PendingEffects, Wakeup
from mini_workflow.testing.clock import ManualClock

alarms = st.builds(Wakeup, st.integers(0, 20), st.sampled_from(["", "schedule"]))


@given(st.none() | alarms, st.none() | alarms, st.lists(st.integers(0, 20)), st.integers(0, 20))
def test_whoever_has_to_be_woken_is_woken(
    current: Wakeup | None, needed: Wakeup | None, woken: list[int], now: int
) -> None:
    plan = waking(current, needed, woken, now)
    if needed is not None:
        # By what is set now, or by what is on its way still, in time.
        assert plan.alarm is not None
        assert plan.alarm.at <= needed.at
        on_its_way = current is not None and current.at > now and current.at not in woken
        assert plan.to_set == plan.alarm or (plan.alarm == current and on_its_way)
    else:
        assert plan.to_set is None
    if plan.alarm is not None and plan.alarm.at > now and plan.to_set is None:
        # Nothing that has gone off is relied upon.
        assert plan.alarm == current
        assert current.at not in woken
    if plan.to_unset is not None:
        assert plan.to_unset == current
        assert plan.to_unset.schedule
        assert plan.alarm != current


@pytest.mark.parametrize("woken", [[], [5]])
def test_a_second_timer_is_set_after_the_first_one_fired(woken: list[int]) -> None:
    """Whether its own message, or another one, brought the turn in which it fired."""
    first = Wakeup(5)
    assert waking(first, None, woken, 5).to_set is None
    kept = waking(first, None, woken, 5).alarm
    assert waking(kept, Wakeup(9), [], 6).to_set == Wakeup(9)


def test_a_schedule_that_went_off_early_is_waited_for_once_more() -> None:
    alarm = Wakeup(5_000, "schedule")
    plan = waking(alarm, Wakeup(5_000), [5_000], 4_000)
    assert (plan.alarm, plan.to_set, plan.to_unset) == (alarm, alarm, None)
    # And if nobody waits for it any more, it does not count for what comes later.
    assert waking(alarm, None, [5_000], 4_000).alarm is None


class Flaky:
    """Refuses the attempts in `bad`."""

    def __init__(self) -> None:
        self.bad: set[int] = set()
        self.ran: list[int] = []
        self.posted: list[QueuedMessage] = []

    def run(self, requests: Sequence[TaskRequest]) -> list[StoreError | None]:
        self.ran += [r.seq for r in requests if r.seq not in self.bad]
        return [StoreUnavailable("no") if r.seq in self.bad else None for r in requests]

    def post(self, messages: Sequence[QueuedMessage]) -> None:
        self.posted += messages


def test_what_was_dispatched_is_not_dispatched_again_when_others_failed() -> None:
    flaky = Flaky()
    courier = Effects(flaky, ManualClock())  # type: ignore[arg-type]
    requests = [TaskRequest("e", seq, 1, "t", b"") for seq in range(1, 5)]
    flaky.bad = {2, 3}
    with pytest.raises(StoreUnavailable):
        courier.begin("e", requests)
    assert flaky.ran == [1, 4]
    flaky.bad = {3}
    with pytest.raises(StoreUnavailable):
        courier.begin("e", requests)
    flaky.bad = set()
    courier.begin("e", requests)
    assert flaky.ran == [1, 4, 2, 3]
    # Those of another execution have nothing to do with it.
    courier.begin("f", [TaskRequest("f", 1, 1, "t", b"")])
    assert flaky.ran == [1, 4, 2, 3, 1]
    courier.done("e")
    courier.begin("e", requests[:1])
    assert flaky.ran[-1] == 1


def test_errands_that_are_owed_come_before_new_ones() -> None:
    old = PendingEffects(((1, 1),), (QueuedMessage("a", "1", "1"),), causes=("m1",))
    new = PendingEffects(((2, 1),), (QueuedMessage("a", "2", "2"),), alarm=True, causes=("m2",))
    assert together(NO_ERRANDS, new) == new
    both = together(put_off(old), new)
    assert both.tasks == ((1, 1), (2, 1))
    assert [out.body for out in both.outbox] == ["1", "2"]
    assert (both.alarm, both.causes, both.doubtful) == (True, ("m2",), True)
    assert put_off(NO_ERRANDS) == NO_ERRANDS

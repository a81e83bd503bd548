"""When an execution is to be woken, and effects that are done in part."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.engine import effects
from mini_workflow.engine.effects import Effects, plan_wakeup, put_off, together
from mini_workflow.errors import StoreError, StoreUnavailable
from mini_workflow.ports import QueuedMessage, TaskRequest
from mini_workflow.ports.queue import NO_EFFECTS, PendingEffects, Wakeup, Wakeups
from mini_workflow.testing.clock import ManualClock

wakeups = st.builds(Wakeup, st.integers(0, 20), st.sampled_from(["", "schedule"]))
several = st.builds(Wakeups, st.none() | wakeups, st.none() | wakeups)
times = st.integers(0, 20)


@given(several, st.none() | wakeups, st.lists(times), times, st.booleans(), st.booleans())
def test_whoever_has_to_be_woken_is_woken(
    current: Wakeups,
    needed: Wakeup | None,
    woken: list[int],
    now: int,
    deadline: bool,
    over: bool,
) -> None:
    plan = plan_wakeup(current, needed, woken, now, deadline=deadline, over=over)
    on_their_way = [one for one in current.all() if one.at > now and one.at not in woken]
    # Nothing that has gone off is relied upon; what is set now has to stand behind it.
    for one in plan.wakeup.all():
        assert one in on_their_way or one == plan.to_set or (one.at <= now and one in current.all())
    if needed is not None:
        counted = [one for one in plan.wakeup.all() if one in on_their_way or one == plan.to_set]
        assert min(one.at for one in counted) <= needed.at
    else:
        assert plan.to_set is None
    for one in plan.to_unset:
        assert one in on_their_way
        assert one.schedule
        assert one not in plan.wakeup.all()
    # Schedules do not pile up: those that count no more were taken back.
    for one in on_their_way:
        assert one in plan.wakeup.all() or one in plan.to_unset or not one.schedule


@given(several, st.lists(times), times)
def test_the_wakeup_of_a_deadline_stays_while_the_execution_is_open(
    current: Wakeups, woken: list[int], now: int
) -> None:
    """Or each step that begins an attempt would set one, and each that ends one take it back."""
    far = current.deadline
    stands = far is not None and far.at > now and far.at not in woken
    for needed in (None, Wakeup(now + 1), Wakeup(21, "schedule")):
        plan = plan_wakeup(current, needed, woken, now)
        assert not stands or plan.wakeup.deadline == far
        assert not stands or plan.to_unset in ((), (current.timer,))
    later = plan_wakeup(current, Wakeup(21, "schedule"), woken, now, deadline=True)
    assert not stands or (later.to_set is None and later.to_unset == ())
    over = plan_wakeup(current, None, woken, now, over=True)
    assert not (stands and far is not None and far.schedule) or far in over.to_unset


@pytest.mark.parametrize("woken", [[], [5]])
def test_a_second_timer_is_set_after_the_first_one_fired(woken: list[int]) -> None:
    """Whether its own message, or another one, brought the turn in which it fired."""
    first = Wakeups(Wakeup(5))
    assert plan_wakeup(first, None, woken, 5).to_set is None
    kept = plan_wakeup(first, None, woken, 5).wakeup
    assert plan_wakeup(kept, Wakeup(9), [], 6).to_set == Wakeup(9)


def test_a_schedule_that_went_off_early_is_waited_for_once_more() -> None:
    wakeup = Wakeup(5_000, "schedule")
    plan = plan_wakeup(Wakeups(wakeup), Wakeup(5_000), [5_000], 4_000)
    assert (plan.wakeup, plan.to_set, plan.to_unset) == (Wakeups(wakeup), wakeup, ())
    # And if nobody waits for it any more, it does not count for what comes later.
    assert plan_wakeup(Wakeups(wakeup), None, [5_000], 4_000).wakeup == Wakeups()


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


def begin(sender: Effects, name: str, requests: Sequence[TaskRequest]) -> None:
    pending = PendingEffects(tuple(request.key[1:] for request in requests))
    sender.do(name, pending, (), requests, lambda: 10**12, lambda left, goes_on: None)


def test_what_was_dispatched_is_not_dispatched_again_when_others_failed() -> None:
    flaky = Flaky()
    sender = Effects(flaky, ManualClock())  # type: ignore[arg-type]
    requests = [TaskRequest("e", seq, 1, "t", b"") for seq in range(1, 5)]
    flaky.bad = {2, 3}
    with pytest.raises(StoreUnavailable):
        begin(sender, "e", requests)
    assert flaky.ran == [1, 4]
    flaky.bad = {3}
    with pytest.raises(StoreUnavailable):
        begin(sender, "e", requests)
    flaky.bad = set()
    begin(sender, "e", requests)
    assert flaky.ran == [1, 4, 2, 3]
    # Those of another execution have nothing to do with it.
    begin(sender, "f", [TaskRequest("f", 1, 1, "t", b"")])
    assert flaky.ran == [1, 4, 2, 3, 1]
    sender.done("e")
    begin(sender, "e", requests[:1])
    assert flaky.ran[-1] == 1


@pytest.mark.parametrize(
    ("attempts", "messages", "steps"),
    [
        (0, 0, []),
        (1, 1, ["run 1", "post 1"]),
        (2, 3, ["run 2", "post 2", "left 0 1", "post 1"]),
        (3, 0, ["run 2", "left 1 0", "run 1"]),
        (0, 3, ["post 2", "left 0 1", "post 1"]),
        (3, 3, ["run 2", "left 1 3", "run 1", "left 0 3", "post 2", "left 0 1", "post 1"]),
    ],
)
@pytest.mark.parametrize("waves", [None, 1, 2])
def test_what_is_left_is_noted_between_two_waves(
    monkeypatch: pytest.MonkeyPatch,
    attempts: int,
    messages: int,
    steps: list[str],
    waves: int | None,
) -> None:
    """And when the time is up after so many waves, that is all."""
    monkeypatch.setattr(effects, "WAVE", 2)
    seen: list[str] = []

    class Noting(Flaky):
        def run(self, requests: Sequence[TaskRequest]) -> list[StoreError | None]:
            seen.append(f"run {len(requests)}")
            return super().run(requests)

        def post(self, messages: Sequence[QueuedMessage]) -> None:
            seen.append(f"post {len(messages)}")
            super().post(messages)

    requests = [TaskRequest("e", seq, 1, "t", b"") for seq in range(attempts)]
    outbox = tuple(QueuedMessage("a", str(n), str(n)) for n in range(messages))
    pending = PendingEffects(tuple(request.key[1:] for request in requests), outbox)

    def note(left: PendingEffects, goes_on: bool) -> None:
        seen.append(f"left {len(left.tasks)} {len(left.outbox)}")
        assert left.tasks == pending.tasks[attempts - len(left.tasks) :]
        assert left.outbox == outbox[messages - len(left.outbox) :]
        assert goes_on == (waves is None or len(notes()) < waves)

    def notes() -> list[str]:
        return [step for step in seen if step.startswith("left")]

    def time_left() -> int:
        return 0 if waves is not None and len(notes()) + 1 >= waves and seen else 10**12

    done = Effects(Noting(), ManualClock())  # type: ignore[arg-type]
    left = done.do("e", pending, (), requests, time_left, note).left
    stops = [index for index, step in enumerate(steps, 1) if step.startswith("left")]
    if waves is None or len(stops) < waves:
        assert seen == steps
        assert left == NO_EFFECTS
    else:
        assert seen == steps[: stops[waves - 1]]
        assert seen[-1] == f"left {len(left.tasks)} {len(left.outbox)}"


def test_errands_that_are_owed_come_before_new_ones() -> None:
    old = PendingEffects(((1, 1),), (QueuedMessage("a", "1", "1"),), caused_by=("m1",))
    new = PendingEffects(((2, 1),), (QueuedMessage("a", "2", "2"),), wakeup=True, caused_by=("m2",))
    assert together(NO_EFFECTS, new) == new
    both = together(put_off(old), new)
    assert both.tasks == ((1, 1), (2, 1))
    assert [out.body for out in both.outbox] == ["1", "2"]
    assert (both.wakeup, both.caused_by, both.unconfirmed) == (True, ("m2",), True)
    assert put_off(NO_EFFECTS) == NO_EFFECTS


def test_what_is_for_one_that_is_behind_waits_with_all_that_follows_it_there() -> None:
    """And nothing else does: neither what is for others, nor what no sender can make more of."""
    flaky, full = Flaky(), {"full"}
    sender = Effects(flaky, ManualClock(), behind=lambda name: name in full)  # type: ignore[arg-type]

    def message(name: str, kind: str) -> QueuedMessage:
        return QueuedMessage(name, f'{{"event":"{kind}"}}', f"{len(bodies)}")

    bodies: list[QueuedMessage] = []
    for name, kind in (
        ("full", "ChildCompleted"),
        ("full", "SignalReceived"),
        ("other", "SignalReceived"),
        ("full", "CancelRequested"),
        ("earlier", "CancelRequested"),
        ("other", "Asked"),
    ):
        bodies.append(message(name, kind))
    end, signal, to_other, cancel, behind_earlier, asked = bodies
    pending = PendingEffects(outbox=tuple(bodies))
    earlier = [QueuedMessage("earlier", "", "before")]

    def note(left: PendingEffects, goes_on: bool) -> None: ...

    undone = sender.do("e", pending, (), (), lambda: 10**12, note, earlier)
    assert flaky.posted == [end, to_other, asked]
    assert undone.held == (signal, cancel, behind_earlier)
    assert undone.left == NO_EFFECTS
    # Once it has caught up, all of it goes.
    full.clear()
    later = sender.do("e", PendingEffects(outbox=undone.held), (), (), lambda: 10**12, note)
    assert later.held == ()
    assert flaky.posted[3:] == [signal, cancel, behind_earlier]


def test_what_is_held_is_among_what_is_left_when_the_time_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(effects, "WAVE", 2)
    sender = Effects(Flaky(), ManualClock(), behind=lambda name: True)  # type: ignore[arg-type]
    outbox = tuple(QueuedMessage("a", '{"event":"Asked"}', str(n)) for n in range(5))
    noted: list[PendingEffects] = []

    def note(left: PendingEffects, goes_on: bool) -> None:
        noted.append(left)

    undone = sender.do("e", PendingEffects(outbox=outbox), (), (), lambda: 0, note)
    assert [left.outbox for left in noted] == [outbox]
    assert (undone.left.outbox, undone.held) == (outbox, ())

"""The engine is a role: who leads, for how long, and that nothing is ever left alone in its inbox."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from math import inf
from threading import get_ident
from typing import Any

import pytest

from mini_workflow.core.payload import Payload
from mini_workflow.engine import engine_role, leading
from mini_workflow.engine.batch import OUTCOMES
from mini_workflow.engine.engine_role import BACKLOG, EngineRole
from mini_workflow.engine.leading import may_lead
from mini_workflow.engine.requests import Ask, Input, Waited
from mini_workflow.errors import RuntimeClosed
from mini_workflow.ports import TaskOutcome, TaskRequest
from mini_workflow.task import CURRENT, CurrentTask
from mini_workflow.testing.clock import ManualClock
from tests.waiting import WAIT, eventually

NOTHING = Payload(text="null")
NEVER = 10.0**10
"""Milliseconds: what a renewal that is far away looks like."""


def ask(name: str = "x") -> Ask:
    return Ask(name, "question", NOTHING)


def outcome(name: str = "x") -> TaskOutcome:
    return TaskOutcome(name, 1, 1, result="null")


class FakeEngine:
    """Takes batches, one at a time, and answers every request. `hold` is called within a batch."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[Input]]] = []
        self.waiting = 0
        self.unsettled = False
        self.interrupted = False
        self.idle = True
        self.in_flight = 10**6
        self.at: float = NEVER
        self.leaves: list[float] = []
        """What the next batches leave as the deadline."""
        self.hold: Callable[[Sequence[Input]], None] = lambda requests: None
        self._busy = threading.Lock()

    def process(self, requests: Sequence[Input]) -> None:
        assert self._busy.acquire(blocking=False), "two lead at once"
        try:
            self.batches.append((get_ident(), list(requests)))
            self.at = self.leaves.pop(0) if self.leaves else NEVER
            self.hold(requests)
            for request in requests:
                if isinstance(request, Waited):
                    request.reply.give(NOTHING)  # type: ignore[arg-type]
        finally:
            self._busy.release()

    def deadline(self) -> float:
        return self.at

    def resumes(self, execution_id: str) -> bool:
        return False

    def close(self) -> None:
        pass

    def leader_of(self, request: Input) -> int:
        """The thread that has taken the request."""

        def look() -> int | None:
            taken = [who for who, batch in list(self.batches) if any(r is request for r in batch)]
            assert len(taken) <= 1
            return taken[0] if taken else None

        return eventually(look)


class Case:
    def __init__(self, pace: Any = None) -> None:
        self.engine = FakeEngine()
        self.clock = ManualClock(1_000)
        self.role = EngineRole(
            store=None,  # type: ignore[arg-type]
            clock=self.clock,
            pace=pace,
            notify_peers=lambda: None,
            on_end=lambda: None,
        )
        self.role.start(self.engine)  # type: ignore[arg-type]
        self.own = self.role._thread.ident
        self.settle()

    def settle(self) -> None:
        """Wait until the own thread sleeps."""
        role = self.role
        eventually(
            lambda: (
                not role._inbox
                and not role._rung
                and not role._lead.locked()
                and role._sleeps_until == role._due
            )
        )

    def wake_ups(self) -> list[None]:
        """One for each wake-up of the own thread from now on."""
        given: list[None] = []
        bell, put = self.role._bell, self.role._bell.put

        class Counted:
            def put(self, item: None) -> None:
                given.append(item)
                put(item)

            get = staticmethod(bell.get)

        self.role._bell = Counted()  # type: ignore[assignment]
        return given


@pytest.fixture
def case() -> Iterator[Case]:
    made = Case()
    yield made
    made.role.stop()


def on_thread(work: Callable[[], object]) -> int:
    """Do it on a thread of its own; answers which."""
    found: list[int] = []
    failed: list[BaseException] = []

    def run() -> None:
        found.append(get_ident())
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(WAIT)
    assert not thread.is_alive()
    if failed:
        raise failed[0]
    return found[0]


class Hold:
    """Keeps one batch from ending."""

    def __init__(self, engine: FakeEngine) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        engine.hold = self._hold
        self._engine = engine

    def _hold(self, _requests: Sequence[Input]) -> None:
        self._engine.hold = lambda requests: None
        self.reached.set()
        assert self.opened.wait(WAIT)


class TestWhoLeads:
    def test_a_caller_that_waits_for_the_answer(self, case: Case) -> None:
        wake_ups = case.wake_ups()
        request = ask()
        caller = on_thread(lambda: case.role.ask(request))
        assert case.engine.leader_of(request) == caller
        assert not wake_ups

    def test_a_thread_of_the_runner(self, case: Case) -> None:
        wake_ups = case.wake_ups()
        report = outcome()
        thread = on_thread(lambda: case.role.hand_in(report))
        assert case.engine.leader_of(report) == thread
        assert not wake_ups

    def test_many_outcomes_one_after_the_other(self, case: Case) -> None:
        wake_ups = case.wake_ups()
        reports = [outcome(str(i)) for i in range(100)]
        thread = on_thread(lambda: [case.role.hand_in(report) for report in reports])
        assert [case.engine.leader_of(report) for report in reports] == [thread] * 100
        assert not wake_ups

    def test_not_a_caller_with_a_timeout(self, case: Case) -> None:
        request = ask()
        on_thread(lambda: case.role.ask(request, WAIT))
        assert case.engine.leader_of(request) == case.own

    def test_not_on_an_event_loop(self, case: Case) -> None:
        request, report = ask(), outcome()

        async def work() -> None:
            case.role.ask(request)
            case.role.hand_in(report)

        on_thread(lambda: asyncio.run(work()))
        assert case.engine.leader_of(request) == case.engine.leader_of(report) == case.own

    def test_not_on_the_event_loop_of_another_library(self, case: Case) -> None:
        request, report = ask(), outcome()

        def work() -> None:
            sys.set_asyncgen_hooks(firstiter=lambda generator: None)
            case.role.ask(request)
            case.role.hand_in(report)

        on_thread(work)
        assert case.engine.leader_of(request) == case.engine.leader_of(report) == case.own

    def test_not_in_a_task(self, case: Case) -> None:
        request = ask()

        def work() -> None:
            CURRENT.set(CurrentTask(TaskRequest("x", 1, 1, "task", b"")))
            case.role.ask(request)

        on_thread(work)
        assert case.engine.leader_of(request) == case.own

    def test_not_deep_in_a_recursion(self, case: Case) -> None:
        request = ask()

        def work(depth: int) -> None:
            if depth:
                work(depth - 1)
            else:
                case.role.ask(request)

        on_thread(lambda: work(sys.getrecursionlimit() // 2))
        assert case.engine.leader_of(request) == case.own

    def test_not_in_the_main_thread_beside_signal_handlers(self) -> None:
        assert threading.current_thread() is threading.main_thread()
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
        try:
            for number in before:
                signal.signal(number, signal.SIG_DFL)
            assert may_lead(in_main=True)
            for handler, leads in ((print, False), (signal.SIG_IGN, True)):
                signal.signal(signal.SIGTERM, handler)
                assert may_lead(in_main=True) == leads
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def test_handlers_of_signals_are_known_by_identity(self) -> None:
        # Each start looks at those of all signals, and to find equal ones takes longer.
        plain, handler_of = vars(leading)["_PLAIN"], vars(leading)["_GET_HANDLER"]
        found = [handler_of(number) for number in signal.valid_signals()]
        usual = [handler for handler in found if handler in (signal.SIG_DFL, signal.SIG_IGN)]
        assert usual
        assert set(map(id, usual)) <= set(map(id, plain))

    def test_who_only_reports_does_not(self, case: Case) -> None:
        report = outcome()
        on_thread(lambda: case.role.put(report))
        assert case.engine.leader_of(report) == case.own

    def test_a_thread_of_the_runner_leaves_a_backlog(self, case: Case) -> None:
        hold, first = Hold(case.engine), outcome("first")
        leader = threading.Thread(target=case.role.hand_in, args=(first,))
        leader.start()
        assert hold.reached.wait(WAIT)
        reports = [outcome(str(i)) for i in range(BACKLOG + 1)]
        on_thread(lambda: [case.role.hand_in(report) for report in reports])
        hold.opened.set()
        leader.join(WAIT)
        assert {case.engine.leader_of(report) for report in reports} == {case.own}

    def test_a_thread_of_the_runner_does_not_where_others_bring_work_too(self, case: Case) -> None:
        """What they bring shares a commit then, if the own thread takes it."""
        first, second, third = outcome("1"), outcome("2"), outcome("3")
        on_thread(lambda: case.role.ask(ask()))
        on_thread(lambda: case.role.hand_in(first))
        assert case.engine.leader_of(first) == case.own
        case.settle()
        thread = on_thread(lambda: [case.role.hand_in(report) for report in (second, third)])
        assert case.engine.leader_of(second) == case.engine.leader_of(third) == thread

    def test_a_thread_of_the_runner_leaves_queries(self, case: Case) -> None:
        """They run code after the dispatch, when it has an attempt to begin."""
        case.role._inbox.append(question := ask())  # by somebody who is about to look at the lead
        report = outcome()
        on_thread(lambda: case.role.hand_in(report))
        assert case.engine.leader_of(question) == case.engine.leader_of(report) == case.own


class TestOutcomesOfWhichMoreAreToCome:
    """Those of a runner whose attempts wait for a thread share commits, however slow everything is."""

    @pytest.fixture(autouse=True)
    def patient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine_role, "QUIET", WAIT)
        monkeypatch.setattr(engine_role, "LONGEST", WAIT)

    def test_wait_for_the_last_one(self, case: Case) -> None:
        reports = [outcome(str(i)) for i in range(20)]
        case.engine.in_flight = len(reports)
        for report in reports[:-2]:
            on_thread(lambda report=report: case.role.hand_in(report, more=True))
        for report in reports[-2:]:  # its last attempts have a thread, and may take longer
            on_thread(lambda report=report: case.role.hand_in(report))
        assert case.engine.leader_of(reports[-1]) == case.own
        assert case.engine.batches == [(case.own, reports)]

    def test_wait_until_there_are_as_many_as_a_turn_takes(self, case: Case) -> None:
        reports = [outcome(str(i)) for i in range(OUTCOMES)]
        on_thread(lambda: [case.role.hand_in(report, more=True) for report in reports])
        assert case.engine.leader_of(reports[-1]) == case.own
        assert case.engine.batches == [(case.own, reports)]

    def test_go_with_whatever_else_comes(self, case: Case) -> None:
        reports = [outcome(str(i)) for i in range(3)]
        on_thread(lambda: [case.role.hand_in(report, more=True) for report in reports])
        case.role.put(question := ask())
        assert case.engine.leader_of(question) == case.own
        assert case.engine.batches == [(case.own, [*reports, question])]

    def test_do_not_wait_where_none_comes(
        self, case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine_role, "QUIET", 0.001)
        on_thread(lambda: case.role.hand_in(outcome(), more=True))
        eventually(lambda: case.engine.batches)

    def test_wait_for_so_long_at_most(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine_role, "QUIET", 0.01)
        monkeypatch.setattr(engine_role, "LONGEST", 0.02)
        monkeypatch.setattr(engine_role, "OUTCOMES", 10**9)

        def come_again() -> bool:
            on_thread(lambda: case.role.hand_in(outcome(), more=True))
            return bool(case.engine.batches)

        eventually(come_again)

    def test_are_taken_when_it_stops(self, case: Case) -> None:
        on_thread(lambda: case.role.hand_in(outcome(), more=True))
        case.role.stop()
        assert len(case.engine.batches) == 1


class TestTheInbox:
    def test_a_leader_hands_on_what_has_arrived_meanwhile(self, case: Case) -> None:
        hold, first = Hold(case.engine), ask()
        leader = threading.Thread(target=case.role.ask, args=(first,))
        leader.start()
        assert hold.reached.wait(WAIT)
        assert case.engine.batches[0][0] == leader.ident
        later = [outcome(str(i)) for i in range(3)]
        on_thread(lambda: [case.role.hand_in(report) for report in later])  # does not wait
        assert len(case.engine.batches) == 1
        hold.opened.set()
        leader.join(WAIT)
        assert not leader.is_alive()
        assert [case.engine.leader_of(report) for report in later] == [case.own] * 3
        assert len(case.engine.batches) == 2  # together

    def test_a_wake_up_is_not_given_twice(self, case: Case) -> None:
        hold = Hold(case.engine)
        case.role.put(outcome())
        assert hold.reached.wait(WAIT)
        wake_ups = case.wake_ups()
        case.role._lead_once()
        for i in range(1_000):
            case.role.put(outcome(str(i)))
            case.role._wake()
        assert len(wake_ups) == 1
        hold.opened.set()

    def test_a_storm_of_looks_is_one(self, case: Case) -> None:
        hold = Hold(case.engine)
        case.role.put(outcome())
        assert hold.reached.wait(WAIT)
        for _ in range(1_000):
            case.role.wake_up()
        assert len(case.role._inbox) == 2
        case.role._store = None  # type: ignore[assignment] # nobody waits: it is not asked
        hold.opened.set()

    def test_a_batch_runs_in_a_context_of_the_engines_own(self, case: Case) -> None:
        variable: ContextVar[str] = ContextVar("variable")
        seen: list[object] = []

        def hold(_requests: Sequence[Input]) -> None:
            seen.append(variable.get("unset"))
            variable.set("engine")

        case.engine.hold = hold

        def work() -> None:
            variable.set("caller")
            case.role.ask(ask())
            seen.append(variable.get())

        on_thread(work)
        on_thread(work)
        assert seen == ["unset", "caller", "engine", "caller"]

    def test_the_leader_is_who_leads_now(self, case: Case) -> None:
        seen: list[bool] = []
        case.engine.hold = lambda requests: seen.append(case.role.is_current())

        def work() -> None:
            seen.append(case.role.is_current())
            case.role.ask(ask())
            seen.append(case.role.is_current())

        on_thread(work)
        case.role.put(outcome())
        eventually(lambda: len(seen) == 4)
        assert seen == [False, True, False, True]


class TestTime:
    def test_an_earlier_deadline_wakes_the_own_thread(self, case: Case) -> None:
        case.engine.leaves = [case.clock.now()]
        request = ask()
        caller = on_thread(lambda: case.role.ask(request))
        eventually(lambda: len(case.engine.batches) == 2)
        assert [who for who, _ in case.engine.batches] == [caller, case.own]
        assert case.engine.batches[1][1] == []

    def test_a_later_one_does_not(self, case: Case) -> None:
        on_thread(lambda: case.role.ask(ask()))
        case.engine.leaves = [case.clock.now() + 10**9]
        case.role.put(outcome())
        eventually(lambda: case.engine.batches[-1][0] == case.own)
        case.settle()
        wake_ups = case.wake_ups()
        case.engine.leaves = [case.clock.now() + 10**9 + 1]
        on_thread(lambda: case.role.ask(ask()))
        assert not wake_ups

    def test_a_deadline_that_passes_while_somebody_leads(self, case: Case) -> None:
        hold = Hold(case.engine)
        case.engine.leaves = [case.clock.now()]
        leader = threading.Thread(target=case.role.ask, args=(ask(),))
        leader.start()
        assert hold.reached.wait(WAIT)
        case.role._wake()  # as by the time: it finds the lead taken, and nothing to wait for
        eventually(lambda: case.role._sleeps_until == inf and not case.role._rung)
        hold.opened.set()
        leader.join(WAIT)
        eventually(lambda: len(case.engine.batches) == 2)
        assert case.engine.batches[1] == (case.own, [])

    def test_a_clock_that_jumps_is_told_that_nothing_is_under_way(self) -> None:
        class Pace:
            def __init__(self) -> None:
                self.asked: list[tuple[int, float, bool]] = []

            def is_due(self, until: float, idle: bool) -> bool:
                self.asked.append((get_ident(), until, idle))
                return False

        pace = Pace()
        case = Case(pace)
        pace.asked.clear()
        case.engine.idle = False
        on_thread(lambda: case.role.ask(ask()))
        assert not pace.asked
        case.engine.idle = True
        case.engine.leaves = [case.clock.now() + 1]
        on_thread(lambda: case.role.ask(ask()))
        eventually(lambda: pace.asked)
        assert pace.asked[0] == (case.own, case.clock.now() + 1, True)
        case.role.stop()


class TestTheEnd:
    def test_who_leads_is_waited_for(self, case: Case) -> None:
        hold, request, late = Hold(case.engine), ask(), ask()
        leader = threading.Thread(target=case.role.ask, args=(request,))
        leader.start()
        assert hold.reached.wait(WAIT)
        stopping = threading.Thread(target=case.role.stop)
        stopping.start()
        eventually(lambda: case.role._stopping)
        caller = threading.Thread(target=case.role.ask, args=(late,))
        caller.start()
        eventually(lambda: case.role._inbox)
        assert len(case.engine.batches) == 1
        hold.opened.set()
        for thread in (leader, stopping, caller):
            thread.join(WAIT)
            assert not thread.is_alive()
        assert case.engine.leader_of(late) == case.own

    def test_nobody_leads_once_it_stops(self, case: Case) -> None:
        case.role._stopping = True
        report = outcome()
        on_thread(lambda: case.role.hand_in(report))
        case.role.stop()
        assert case.engine.leader_of(report) == case.own
        with pytest.raises(RuntimeClosed):
            case.role.ask(ask())
        on_thread(lambda: case.role.hand_in(outcome()))
        case.role.put(outcome())
        case.role.stop()
        assert len(case.engine.batches) == 1
        assert not case.role.is_current()

    @pytest.mark.parametrize("leads", [True, False])
    def test_a_failure_is_told_to_everybody(
        self, case: Case, leads: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_requests: Sequence[Input]) -> None:
            raise SystemExit("a fault")

        case.engine.hold = fail
        told: list[object] = []
        case.role.waiters.add("x", told.append)

        def work() -> None:
            with pytest.raises(RuntimeClosed):
                case.role.ask(ask(), None if leads else WAIT)

        on_thread(work)
        eventually(lambda: told)
        with pytest.raises(RuntimeClosed):
            case.role.ask(ask())
        assert len(case.engine.batches) == 1
        assert "the engine has failed" in caplog.text

    @pytest.mark.parametrize("after", range(12))
    def test_everything_that_was_taken_is_answered(self, after: int) -> None:
        """Callers on many threads, and the end after so many answers."""
        case, answered = Case(), threading.Semaphore(0)
        endings: list[str] = []

        def call(number: int) -> None:
            while True:
                try:
                    if number % 2:
                        case.role.ask(ask(str(number)))
                    else:
                        case.role.call(lambda: None, WAIT)
                except RuntimeClosed:
                    endings.append("closed")
                    return
                answered.release()

        threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(after):
            assert answered.acquire(timeout=WAIT)
        case.role.stop()
        for thread in threads:
            thread.join(WAIT)
            assert not thread.is_alive()
        assert endings == ["closed"] * 4


@pytest.mark.parametrize("seed", range(8))
def test_two_never_lead_at_once_and_nothing_is_left_alone(seed: int) -> None:
    """Any mixture of callers, reports and looks, with threads that change at every instruction. The
    engine fails if it is called twice at once.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    case = Case()
    chance = random.Random(seed)
    case.engine.hold = lambda requests: case.engine.leaves.extend(
        [chance.choice([NEVER, case.clock.now(), case.clock.now() + 10**9])]
        if len(case.engine.leaves) < 2 and len(case.engine.batches) < 2_000
        else []
    )
    brought: list[list[Input]] = []
    called: list[None] = []

    def work(number: int) -> None:
        dice, mine = random.Random(seed * 100 + number), []
        brought.append(mine)
        for _ in range(60):
            kind = dice.randrange(6)
            if kind < 2:
                mine.append(request := ask())
                case.role.ask(request, None if kind else WAIT)
            elif kind == 2:
                case.role.call(lambda: called.append(None))
            else:
                mine.append(report := outcome())
                if kind == 3:
                    case.role.put(report)
                else:
                    case.role.hand_in(report, more=len(mine) % 2 == 0)

    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
            assert not thread.is_alive()
        expected = sum(map(len, brought))
        eventually(lambda: sum(len(batch) for _, batch in list(case.engine.batches)) == expected)
        case.engine.hold = lambda requests: None
        case.engine.leaves = []
    finally:
        sys.setswitchinterval(interval)
        case.role.stop()
    # Each once, and those of one thread in the order in which it has brought them.
    order = {
        id(request): i for i, request in enumerate(r for _, b in case.engine.batches for r in b)
    }
    assert len(order) == expected
    for mine in brought:
        places = [order[id(request)] for request in mine]
        assert places == sorted(places)

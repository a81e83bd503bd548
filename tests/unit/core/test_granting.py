"""Whom a limit grants slots: in turn by key and run, by priority, within a rate, whoever is lost and
whatever is changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mini_workflow.codecs import StandardCodec
from mini_workflow.core import events
from mini_workflow.core.decide import decide
from mini_workflow.core.granting import FINEST, REMEMBERED, Granting
from mini_workflow.core.limit import LIMIT
from mini_workflow.core.payload import Payload
from mini_workflow.core.run import Run
from mini_workflow.core.slots import SLOTS_SIGNAL
from mini_workflow.limits.workflow import limit
from mini_workflow.workflow import Workflow

Place = tuple[str, int]


class Asker:
    """A run as it knows itself: what it waits for, knows of and holds, at each place."""

    def __init__(self) -> None:
        self.at = 0
        self.lines: dict[Place, list[int]] = {}


class World:
    """A limit with runs around it. What it grants arrives at once, unless it is lost."""

    def __init__(self, **plan: Any) -> None:
        self.granting = Granting()
        self.granting.declare({"per_key": False, **plan})
        self.now = 0
        self.runs: dict[str, Asker] = {}
        self.order: list[tuple[str, str]] = []
        """The run and the key of each slot, as they are granted."""
        self.given: list[tuple[int, str]] = []
        """When each slot was granted, and to which key."""
        self.total: dict[tuple[str, Place], int] = {}

    def ask(self, run: str, key: str = "", priority: int = 0, count: int = 1) -> None:
        asker = self.runs.setdefault(run, Asker())
        asker.lines.setdefault((key, priority), [0, 0, 0])[0] += count
        self.tell(run)

    def tell(self, run: str, *, again: bool = False) -> None:
        asker = self.runs[run]
        asker.at += not again
        lines = [[*place, *line] for place, line in asker.lines.items()]
        self.granting.take_report({"from": run, "as": run, "at": asker.at, "lines": lines})

    def give_back(self, run: str) -> None:
        """One slot, if it holds any."""
        for line in self.runs[run].lines.values():
            if line[2]:
                line[2] -= 1
                self.tell(run)
                return

    def leave(self, run: str) -> None:
        del self.runs[run]
        self.granting.take_report({"from": run, "as": run})

    def grant(self, *, lost: bool = False) -> int:
        """Have it grant what there is; answers how many slots that were."""
        before = len(self.order)
        for run, granted in self.granting.grant(self.now).items():
            for key, priority, total in granted:
                place = (key, priority)
                new = total - self.total.get((run, place), 0)
                self.total[run, place] = total
                self.order += [(run, key)] * new
                self.given += [(self.now, key)] * new
                if not lost and run in self.runs:
                    line = self.runs[run].lines[place]
                    taken = min(line[0], total - line[1])
                    line[0], line[1], line[2] = line[0] - taken, total, line[2] + taken
        return len(self.order) - before

    def keys(self) -> str:
        return "".join(key for _, key in self.order)

    def held(self, key: str | None = None) -> int:
        """How many slots are held, or on their way."""
        return sum(
            line[2] + self.total.get((run, place), line[1]) - line[1]
            for run, asker in self.runs.items()
            for place, line in asker.lines.items()
            if key in (None, place[0])
        )


# In turn


def one_by_one(world: World, count: int) -> None:
    for _ in range(count):
        assert world.grant() == 1
        run, _ = world.order[-1]
        world.give_back(run)


def test_keys_take_turns() -> None:
    """However many wait for one of them."""
    world = World(concurrency=1)
    world.ask("big", "a", count=1_000)
    world.ask("small", "b", count=2)
    world.ask("small", "c")
    one_by_one(world, 7)
    assert world.keys() == "abcabaa"


def test_the_runs_of_a_key_take_turns() -> None:
    world = World(concurrency=1)
    world.ask("x", count=3)
    world.ask("y", count=3)
    one_by_one(world, 6)
    assert "".join(run for run, _ in world.order) == "xyxyxy"


def test_the_highest_priority_goes_first() -> None:
    """Before any other key; within one, keys take turns."""
    world = World(concurrency=1)
    world.ask("x", "a", 0, count=2)
    world.ask("x", "b", -3)
    world.ask("y", "c", 9, count=2)
    world.ask("y", "d", 9)
    one_by_one(world, 6)
    assert world.keys() == "cdcaab"


def test_each_key_may_have_slots_of_its_own() -> None:
    world = World(concurrency=2, per_key=True)
    for key in "ab":
        world.ask("x", key, count=3)
    assert world.grant() == 4
    assert sorted(world.keys()) == ["a", "a", "b", "b"]


# Within a rate


def test_a_rate_is_that_of_any_span() -> None:
    """What is granted counts until the span is over, and a hundredth of it longer at most."""
    world = World(rate=[2, 1_000])
    world.ask("x", count=5)
    world.now = 995
    assert world.grant() == 2
    assert world.grant() == 0
    due = world.granting.due()
    assert due is not None
    assert 1_995 <= due <= 1_995 + 1_000 // FINEST
    world.now = due - 1
    assert world.grant() == 0
    world.now = due
    assert world.grant() == 2
    world.now = 10 * due
    assert world.grant() == 1
    assert world.granting.due() is None


def test_a_rate_goes_on_counting_in_the_next_run_of_the_limit() -> None:
    world = World(rate=[2, 1_000])
    world.ask("x", count=3)
    assert world.grant() == 2
    world.granting = again(world.granting, world.now)
    assert world.grant() == 0
    world.now = 1_010
    assert world.grant() == 1


# Lost holders, and lost messages


def test_what_has_left_gives_back() -> None:
    """What it says later, or said before, counts no more."""
    world = World(concurrency=1)
    world.ask("x")
    world.ask("y")
    world.grant()
    late = {"from": "x", "as": "x", "at": 99, "lines": [["", 0, 1, 1, 0]]}
    world.leave("x")
    world.granting.take_report(late)
    assert world.grant() == 1
    assert world.order[-1][0] == "y"
    world.leave("y")
    world.granting.take_report({"from": "y", "as": "y"})
    assert (world.granting.totals(), len(world.granting)) == ((0, 0), 0)


def test_an_older_message_says_nothing() -> None:
    world = World(concurrency=1)
    world.ask("x", count=2)
    world.grant()
    world.give_back("x")
    old = {"from": "x", "as": "x", "at": 1, "lines": [["", 0, 2, 0, 0]]}
    world.granting.take_report(old)
    assert world.granting.totals() == (0, 1)


def test_who_has_not_heard_is_told_again() -> None:
    """When it says how it stands once more, and of no slot more."""
    world = World(concurrency=3)
    world.ask("x", count=2)
    assert world.grant(lost=True) == 2
    assert world.granting.grant(0) == {}
    world.tell("x", again=True)
    assert world.granting.grant(0) == {"x": [["", 0, 2]]}
    assert world.granting.totals() == (2, 0)


def test_as_many_that_have_left_are_remembered_as_may_be_late() -> None:
    world = World(concurrency=1)
    for n in range(REMEMBERED + 5):
        world.ask(f"r{n}")
        world.leave(f"r{n}")
    assert len(world.granting.to_plain(0)["gone"]) == REMEMBERED


# Changed limits


def test_fewer_slots_wait_for_those_that_are_held() -> None:
    world = World(concurrency=3)
    world.ask("x", count=6)
    assert world.grant() == 3
    world.granting.change({"per_key": False, "concurrency": 1})
    for _ in range(2):
        world.give_back("x")
        assert world.grant() == 0
    world.give_back("x")
    assert world.grant() == 1


def test_more_slots_are_granted_at_once() -> None:
    world = World(concurrency=1)
    world.ask("x", count=4)
    world.grant()
    world.granting.change({"per_key": False, "concurrency": 3})
    assert world.grant() == 2
    world.granting.change({"per_key": False, "rate": [100, 60_000]})
    assert world.grant() == 1


def test_what_is_held_counts_for_its_key_after_a_change() -> None:
    """And the other way round."""
    world = World(concurrency=2)
    for key in "abc":
        world.ask("x", key, count=2)
    assert world.grant() == 2
    world.granting.change({"per_key": True, "concurrency": 1})
    assert world.grant() == 1
    assert world.keys() == "abc"
    world.granting.change({"per_key": False, "concurrency": 4})
    assert world.grant() == 1


def test_a_change_holds_until_the_code_says_something_else() -> None:
    world = World(concurrency=1)
    world.granting.change({"per_key": False, "concurrency": 2})
    world.granting.declare({"per_key": False, "concurrency": 1})
    assert world.granting.plan["concurrency"] == 2
    world.granting.declare({"per_key": False, "concurrency": 5})
    assert world.granting.plan["concurrency"] == 5


# Whatever happens

RUNS = st.sampled_from(["r", "s", "t"])
PLANS = st.fixed_dictionaries(
    {"per_key": st.booleans()},
    optional={
        "concurrency": st.integers(1, 4),
        "rate": st.tuples(st.integers(1, 4), st.integers(1, 500)).map(list),
    },
).filter(lambda plan: len(plan) > 1)
ACTIONS = st.one_of(
    st.tuples(st.just("ask"), RUNS, st.sampled_from("ab"), st.integers(-1, 1), st.integers(1, 3)),
    st.tuples(st.sampled_from(["give back", "leave", "again", "lost"]), RUNS),
    st.tuples(st.just("wait"), st.integers(1, 400)),
    st.tuples(st.just("change"), PLANS),
    st.tuples(st.just("continue")),
)


def again(granting: Granting, now: int) -> Granting:
    """The same, as the next run of the limit gets it."""
    return Granting.from_plain(json.loads(json.dumps(granting.to_plain(now))))


@settings(max_examples=100)
@given(PLANS, st.lists(ACTIONS, max_size=40))
def test_no_more_than_there_are_and_nobody_waits_in_vain(
    plan: dict[str, Any], actions: list[tuple[Any, ...]]
) -> None:
    world, generation = World(**plan), 0
    for what, *about in actions:
        run = f"{about[0]}{generation}" if about and isinstance(about[0], str) else ""
        if what == "ask":
            world.ask(run, *about[1:])
        elif what == "wait":
            world.now += about[0]
        elif what == "change":
            world.granting.change(about[0])
            world.given.clear()  # of what was given before the span is that of the plan before
            plan = about[0]
        elif what == "continue":
            world.granting = again(world.granting, world.now)
        elif run in world.runs:
            if what == "leave":
                world.leave(run)
                generation += 1
            elif what == "give back":
                world.give_back(run)
            elif what == "again":
                world.tell(run, again=True)
        before = {key: world.held(key) for key in (None, "a", "b")}
        world.grant(lost=what == "lost")
        check(world, plan, before)
    for run in list(world.runs):
        world.leave(run)
    assert (world.granting.totals(), len(world.granting)) == ((0, 0), 0)


def check(world: World, plan: dict[str, Any], before: dict[str | None, int]) -> None:
    """No more are held than there are, or were held before, no more are granted than the rate allows, and who
    waits waits for one of the two.
    """
    granting = world.granting
    assert len(granting) == len(again(granting, world.now))
    for key in ("a", "b") if plan["per_key"] else (None,):
        held = world.held(key)
        most = plan.get("concurrency")
        if most is not None:
            assert held <= max(most, before[key])
        if "rate" in plan:
            allowed, span = plan["rate"]
            given = [at for at, one in world.given if key in (None, one)]
            assert sum(at > world.now - span for at in given) <= allowed
        described = {one[0]: one[2] for one in granting.described(9)["keys"]}
        waiting = sum(described.values()) if key is None else described.get(key, 0)
        due = granting.due()
        looks_again = due is not None and due > world.now
        assert not waiting or looks_again or (most is not None and held >= most)


# The work

CODEC = StandardCodec()


def calls(function: Callable[[], object]) -> int:
    """How many calls of Python functions, and steps of generators, a call takes."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def come_and_go(count: int) -> None:
    """So many wait, and get a slot one after the other."""
    world = World(concurrency=1)
    for n in range(count):
        world.ask(f"r{n}", f"k{n % 50}", n % 3)
        len(world.granting)
    for _ in range(count):
        assert world.grant() == 1
        world.leave(world.order[-1][0])
        len(world.granting)


def test_the_work_for_a_slot_does_not_grow_with_how_many_wait() -> None:
    few, many = (calls(lambda n=n: come_and_go(n)) for n in (300, 1_200))  # type: ignore[misc]
    assert many <= 4.2 * few


def written(count: int) -> tuple[int, int]:
    """So many runs wait for one slot, and get it one after the other: how many characters the runs of the
    limit hand over to each other, and how many they are told.
    """
    definition = Workflow(LIMIT, limit)
    arguments = CODEC.encode([["few"], {}], "arguments")
    now, handed, told = 1_000, 0, 0

    def begin() -> Run:
        run = Run(definition, "limit:few", CODEC)
        decide(run, [events.ExecutionStarted(now, LIMIT, arguments, now)])
        return run

    run, waiting = begin(), list(range(count))
    plan = {"per_key": False, "concurrency": 1}
    for asked in (True, False):
        for n in waiting:
            value: dict[str, Any] = {"from": f"execution-{n}", "as": f"execution-{n}/{n}"}
            if asked:
                value |= {"at": 2, "lines": [["", 0, 1, 0, 0]], "plan": plan}
            now += 1
            signal = events.SignalReceived(now, SLOTS_SIGNAL, Payload(tree=value), f"{n}/{asked}")
            told += len(signal.value.text)
            decision = decide(run, [signal])
            assert decision.fault is None
            ended = next((e for e in decision.events if isinstance(e, events.ContinuedAsNew)), None)
            if ended is not None:
                arguments = ended.arguments
                handed += len(arguments.text)
                run.close()
                run = begin()
    run.close()
    return handed, told


def test_what_a_limit_hands_over_is_no_more_than_what_it_was_told() -> None:
    """Of however many wait: each of its runs is as long as what the next one has to be told."""
    for count in (500, 1_500):
        handed, told = written(count)
        assert 0 < handed < 1.5 * told


@pytest.mark.parametrize("per_key", [False, True])
def test_one_run_may_wait_with_very_many(per_key: bool) -> None:
    """They are a number, however many they are."""
    world = World(concurrency=10, per_key=per_key)
    world.ask("x", "a", count=100_000)
    assert world.grant() == 10
    assert len(world.granting) == 2
    assert len(json.dumps(world.granting.to_plain(0))) < 300

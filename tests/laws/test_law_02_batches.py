"""Laws 2 and 13: how messages are batched, repeated or delayed does not change the history."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mini_workflow.core import events
from mini_workflow.core.events import Message
from tests.laws import corpus
from tests.laws.driver import Driver, chosen, run

NAMES = sorted(corpus.SHAPES)


@settings(max_examples=150)
@given(st.sampled_from(NAMES), st.integers(0, 50), st.data())
def test_law_02_any_partition_into_turns_gives_the_same_history(
    name: str, seed: int, data: st.DataObject
) -> None:
    """Law 2: the messages one by one, all at once, or cut anywhere, with evictions in between."""
    one_by_one = run(corpus.SHAPES[name], choices=chosen(seed))
    rest = one_by_one.messages[1:]
    again = Driver(corpus.SHAPES[name])
    while rest:
        size = data.draw(st.integers(1, len(rest)), label="size of the batch")
        if data.draw(st.booleans(), label="evicted before"):
            again.evict()
        again.deliver(*rest[:size])
        rest = rest[size:]
    assert again.lines == one_by_one.lines


@settings(max_examples=100)
@given(st.sampled_from(NAMES), st.integers(0, 50), st.data())
def test_law_02_repeated_and_late_messages_change_nothing(
    name: str, seed: int, data: st.DataObject
) -> None:
    """Laws 2 and 13: every message may arrive again, at once or much later."""
    once = run(corpus.SHAPES[name], choices=chosen(seed))
    again = Driver(corpus.SHAPES[name])
    told: list[Message] = list(again.messages)
    for message in once.messages[1:]:
        told.append(message)
        repeated: list[Any] = data.draw(st.lists(st.sampled_from(told), max_size=3))
        again.deliver(message, *repeated)
    assert again.lines == once.lines


@settings(max_examples=60)
@given(st.sampled_from(NAMES), st.integers(0, 50))
def test_law_02_evictions_and_duplicates_at_any_moment(name: str, seed: int) -> None:
    """Laws 2 and 13: in a world that drops the run and repeats itself, all still ends."""
    driver = run(corpus.SHAPES[name], choices=chosen(seed), evictions=0.4, duplicates=0.3)
    assert len(driver.bodies) == len(set(driver.bodies))


@given(st.integers(0, 50))
def test_law_03_a_body_runs_once_per_dispatched_attempt(seed: int) -> None:
    """Law 3: a recorded result is never computed again, however often the run is revived."""
    driver = run(corpus.SHAPES["retries"], choices=chosen(seed), evictions=0.9, duplicates=0.5)
    dispatched = [c for c in driver.commands if hasattr(c, "payload")]
    attempts = [(c.seq, c.attempt) for c in dispatched]  # type: ignore[union-attr]
    assert sorted(driver.bodies) == sorted(set(attempts))
    assert sorted(driver.bodies) == [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (3, 2)]


def test_law_03_results_are_not_captured_again_on_replay() -> None:
    """Law 3: of the recorded tasks only those still open are serialized again."""
    codec = Counting()
    driver = Driver(corpus.SHAPES["sequence"], codec=codec)
    while len(driver.recorded(events.TaskCompleted)) < 3:
        driver.step()
    while driver.dispatched == []:
        driver.step()
    driver.evict()
    codec.captured = 0
    driver.step()
    assert codec.captured == 1


class Counting:
    """The driver's codec, counting captures."""

    def __init__(self) -> None:
        self.captured = 0

    def for_execution(self, _execution_id: str) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        from tests.laws.driver import CODEC

        return getattr(CODEC, name)

    def capture(self, *call: Any) -> bytes:
        from tests.laws.driver import CODEC

        self.captured += 1
        return CODEC.capture(*call)

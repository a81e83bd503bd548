"""How many heartbeats leave a worker process, and which."""

import time
from typing import Any

import pytest

from mini_workflow.ports import TaskRequest
from mini_workflow.runners.processes.heartbeats import INTERVAL, Heartbeats, interval


class Later:
    """What a pulse has asked for, to happen when the test says so."""

    def __init__(self) -> None:
        self.watched: dict[Heartbeats, float] = {}

    def watch(self, item: Heartbeats, at: float) -> None:
        self.watched[item] = at

    def forget(self, item: Heartbeats) -> None:
        self.watched.pop(item, None)

    def happen(self) -> None:
        for pulse in list(self.watched):
            del self.watched[pulse]
            pulse.flush()


@pytest.fixture
def later() -> Later:
    return Later()


def request(heartbeat_timeout: int | None = None) -> TaskRequest:
    return TaskRequest("e", 1, 1, "t", b"", heartbeat_timeout=heartbeat_timeout)


def pulse(sent: list[str | None], later: Any) -> Heartbeats:
    return Heartbeats(request(), sent.append, later)


def test_the_first_leaves_at_once_and_the_last_of_the_interval_at_its_end(later: Later) -> None:
    sent: list[str | None] = []
    one = pulse(sent, later)
    began = time.monotonic()
    for number in range(100):
        one.beat(str(number))
    if time.monotonic() - began < INTERVAL:
        assert sent == ["0"]
    assert began < later.watched[one] <= time.monotonic() + INTERVAL
    later.happen()
    assert sent[-1] == "99"
    one.flush()
    assert sent.count("99") == 1


def test_nothing_leaves_when_the_attempt_has_ended(later: Later) -> None:
    sent: list[str | None] = []
    one = pulse(sent, later)
    one.beat("first")
    one.beat("second")
    one.stop()
    assert not later.watched
    one.flush()
    one.beat("third")
    assert sent == ["first"]
    assert not later.watched


def test_the_interval_is_a_part_of_a_short_heartbeat_timeout() -> None:
    assert interval(request()) == interval(request(60_000)) == INTERVAL
    assert interval(request(100)) == 0.025

"""Pages of long histories: what is new is read, what is shown is decoded, and nothing else, counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.testclient import TestClient

from mini_workflow import LocalRuntime
from mini_workflow.core import wire
from mini_workflow.engine.timeline import Reader
from mini_workflow.ui import app, live
from mini_workflow.ui.execution_page import EVENTS, ExecutionPage
from mini_workflow.ui.followed import AllFollowed
from mini_workflow.ui.live import Watch
from tests.ui.conftest import HOST
from tests.ui.flows import fan_out, order, rounds
from tests.waiting import WAIT, eventually

TASKS = 600
ALL = 2 * TASKS + 2
"""Events of a fan-out of so many tasks."""


class Counted:
    """How many lines of histories were read, and values of events decoded, since it was asked last."""

    def __init__(self, runtime: LocalRuntime, patch: pytest.MonkeyPatch) -> None:
        self.lines = self.values = 0
        read, decode = runtime.lines, Reader.values

        def lines(name: str, since: int = 0) -> list[str]:
            found = read(name, since)
            self.lines += len(found)
            return found

        def values(reader: Reader, event: Any) -> Any:
            self.values += 1
            return decode(reader, event)

        patch.setattr(runtime, "lines", lines)
        patch.setattr(Reader, "values", values)

    def take(self) -> tuple[int, int]:
        found = self.lines, self.values
        self.lines = self.values = 0
        return found


@pytest.fixture
def counted(runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(runtime, monkeypatch)


@pytest.fixture
def fanned(runtime: LocalRuntime) -> str:
    execution = runtime.start_execution(fan_out, TASKS, id="f-1")
    execution.result(timeout=WAIT)
    return execution.id


def ask(known: AllFollowed, name: str, **asked: str) -> ExecutionPage:
    return ExecutionPage.read(known, name, asked)


def test_a_page_decodes_what_it_shows(runtime: LocalRuntime, fanned: str, counted: Counted) -> None:
    page = ask(AllFollowed(runtime), fanned)
    lines, values = counted.take()
    assert (page.total, len(page.lines)) == (ALL, EVENTS)
    assert lines == ALL
    assert values <= EVENTS + 2  # the arguments and the result beside the events


def test_of_a_long_history_the_lines_of_plain_tasks_are_not_parsed(
    runtime: LocalRuntime, fanned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, parsed = wire.decode, list[str]()

    def counting(line: str) -> Any:
        parsed.append(wire.kind_of(line))
        return decode(line)

    monkeypatch.setattr(wire, "decode", counting)
    with AllFollowed(runtime).at(fanned) as one:
        assert len(one.entries) == ALL
    # The first task of a map tells of the map.
    assert parsed == ["ExecutionStarted", "TaskScheduled", "ExecutionCompleted"]


def test_a_result_that_is_damaged_is_shown_as_it_stands(
    runtime: LocalRuntime, fanned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = runtime.lines

    def damaged(name: str, since: int = 0) -> list[str]:
        return [
            line.replace('"result":', '"result":{"input_tokens":')
            if "TaskCompleted" in line
            else line
            for line in read(name, since)
        ]

    monkeypatch.setattr(runtime, "lines", damaged)
    page = ask(AllFollowed(runtime), fanned)
    assert page.total == ALL
    (value,) = page.lines[1].values
    assert '{"input_tokens":' in value.text
    assert page.usage.requests == 0


def test_a_page_that_is_asked_for_again_reads_nothing_of_the_history(
    runtime: LocalRuntime, fanned: str, counted: Counted
) -> None:
    known = AllFollowed(runtime)
    first = ask(known, fanned)
    counted.take()
    for asked in ({}, {"e": "tasks"}, {"before": "500"}, {"view": "0.25,0.5"}, {"scale": "true"}):
        again = ask(known, fanned, **asked)
        lines, values = counted.take()
        assert again.total == first.total == ALL
        assert lines == 0
        assert values <= EVENTS + 2
    with known.at(fanned) as one:
        assert one.counts.updates == TASKS


def test_of_a_history_that_grows_what_is_new_is_read_and_taken_in(
    runtime: LocalRuntime, counted: Counted
) -> None:
    execution = runtime.start_execution(order, "o-1", id="o-1")
    for number in range(300):
        execution.signal("noted", number)
    eventually(lambda: not execution.describe().busy and len(execution.history()) == 303)
    known = AllFollowed(runtime)
    before = ask(known, "o-1")
    counted.take()
    execution.signal("noted", 300)
    execution.signal("noted", 301)
    eventually(lambda: len(execution.history()) == 305)
    counted.take()
    page = ask(known, "o-1")
    assert counted.take()[0] == 2
    assert (before.total, page.total) == (303, 305)
    execution.signal("approve", {"by": "ann"})
    execution.result(timeout=WAIT)
    counted.take()
    page = ask(known, "o-1")
    assert counted.take()[0] == 3  # the signal, those that were never received, and the end
    fresh = ask(AllFollowed(runtime), "o-1")
    assert page.lines == fresh.lines
    assert page.picture == fresh.picture
    assert page.description == fresh.description
    assert page.result == fresh.result


def test_of_a_run_after_others_each_event_is_taken_in_once(
    runtime: LocalRuntime, counted: Counted
) -> None:
    """Stores count events over all runs."""
    execution = runtime.start_execution(rounds, 2, id="r-1")
    eventually(lambda: [one.kind for one in execution.describe().waits] == ["signal"])
    assert runtime.head("r-1").run == 3
    known = AllFollowed(runtime)
    stored = len(execution.history())
    for _ in range(2):
        assert ask(known, "r-1").total == stored
    counted.take()
    execution.signal("go")
    execution.result(timeout=WAIT)
    page = ask(known, "r-1")
    assert page.total == len(execution.history()) == stored + 2
    assert page.lines == ask(AllFollowed(runtime), "r-1").lines


def test_another_run_and_another_execution_of_the_id_are_read_anew(runtime: LocalRuntime) -> None:
    known = AllFollowed(runtime)
    execution = runtime.start_execution(order, "o-1", id="o-1")
    execution.signal("approve", 1)
    execution.result(timeout=WAIT)
    assert ask(known, "o-1").description.run == 1
    execution.restart()
    eventually(lambda: not execution.describe().busy and len(execution.history()) >= 3)
    page = ask(known, "o-1")
    assert (page.description.run, page.word) == (2, "running")
    execution.terminate()
    assert ask(known, "o-1").word == "terminated"
    execution.delete()
    runtime.start_execution(order, "another", id="o-1").signal("approve", 2)
    runtime.get_execution("o-1").result(timeout=WAIT)
    page = ask(known, "o-1")
    assert page.arguments[0].text == '"another"'
    assert page.lines == ask(AllFollowed(runtime), "o-1").lines


def test_what_is_kept_is_bounded_and_what_was_asked_for_last_stays(
    runtime: LocalRuntime, counted: Counted
) -> None:
    for name in ("f-1", "f-2", "f-3"):
        runtime.start_execution(fan_out, 20, id=name).result(timeout=WAIT)
    counted.take()
    known = AllFollowed(runtime, most=100)
    each = 2 * 20 + 2
    for name in ("f-1", "f-2", "f-1", "f-3"):
        ask(known, name)
    assert counted.take()[0] == 3 * each
    ask(known, "f-1")
    assert counted.take()[0] == 0
    ask(known, "f-2")
    assert counted.take()[0] == each
    small = AllFollowed(runtime, most=1)
    ask(small, "f-1")
    ask(small, "f-1")
    assert counted.take()[0] == each


def test_live_updates_read_what_is_new_alone(
    runtime: LocalRuntime, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_EVERY", 0.01)
    execution = runtime.start_execution(order, "o-1", id="o-1")
    for number in range(200):
        execution.signal("noted", number)
    eventually(lambda: not execution.describe().busy and len(execution.history()) == 203)
    known = AllFollowed(runtime)
    counted.take()
    assert ask(known, "o-1").total == 203
    assert counted.take()[0] == 203

    async def watch() -> None:
        changes = Watch(runtime, known).changes("o-1")
        assert await anext(changes) == "retry: 2000\n\n"
        assert "changed" in await anext(changes)  # it has come before the first look
        for number in range(5):
            execution.signal("noted", number)
            assert "changed" in await anext(changes)
        await changes.aclose()

    asyncio.run(asyncio.wait_for(watch(), WAIT))
    assert ask(known, "o-1").total == 208
    # Neither the looks nor the page has read anything twice.
    assert counted.take()[0] == 5


def test_a_damaged_history_is_told_and_read_anew_once_it_is_mended(
    runtime: LocalRuntime, fanned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = runtime.lines

    def damaged(name: str, since: int = 0) -> list[str]:
        return [*read(name, since)[:10], "not an event"]

    with TestClient(app(runtime), base_url=HOST) as browser:
        monkeypatch.setattr(runtime, "lines", damaged)
        answer = browser.get(f"/executions/{fanned}")
        assert answer.status_code != 200
        assert "not an event" in answer.text
        monkeypatch.setattr(runtime, "lines", read)
        assert f"{EVENTS} of 1,202" in browser.get(f"/executions/{fanned}").text

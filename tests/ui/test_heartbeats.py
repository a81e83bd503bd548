"""Heartbeats of running attempts: marked in the timeline, with what they say."""

from __future__ import annotations

import asyncio
import re

import pytest
from starlette.testclient import TestClient

from mini_workflow import LocalRuntime
from mini_workflow.core.records import replace
from mini_workflow.ui import live
from mini_workflow.ui.followed import AllFollowed
from mini_workflow.ui.live import Watch
from tests.ui.flows import beating, order
from tests.waiting import WAIT, eventually


def marks_in(page: str) -> list[str]:
    return re.findall(r'<line class="beat"[^>]*><title>([^<]+)', page)


def test_the_last_heartbeat_is_marked_on_the_attempt(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    execution = runtime.start_execution(beating, 1, id="b-1")
    eventually(lambda: any(wait.heartbeat for wait in execution.describe().waits))
    page = browser.get("/executions/b-1").text
    (mark,) = marks_in(page)
    assert re.fullmatch(r"last heartbeat .+ ago: page 3 of 7", mark)
    assert page.count('class="sec told"') == 1  # and under the label, for whoever has no pointer
    assert "its last heartbeat was" in page
    assert re.search(r"<title>last heartbeat .+ ago: page 3 of 7", execution._repr_html_())
    execution.terminate()
    assert marks_in(browser.get("/executions/b-1").text) == []


def test_those_of_a_map_are_marked_too(runtime: LocalRuntime, browser: TestClient) -> None:
    execution = runtime.start_execution(beating, 3, id="b-3")
    eventually(lambda: sum(one.heartbeat is not None for one in execution.timeline()) == 3)
    marks = marks_in(browser.get("/executions/b-3").text)
    assert sorted(re.sub(r".* ago: ", "", mark) for mark in marks) == [
        f"page {page} of 7" for page in range(3)
    ]
    execution.terminate()


def test_without_a_heartbeat_nothing_is_marked(runtime: LocalRuntime, browser: TestClient) -> None:
    execution = runtime.start_execution(order, "o-1", id="o-1")
    eventually(lambda: not execution.describe().busy and len(execution.history()) >= 3)
    assert marks_in(browser.get("/executions/o-1").text) == []


def test_a_live_page_is_told_of_a_heartbeat(
    runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_EVERY", 0.01)
    execution = runtime.start_execution(beating, 1, id="b-1")
    eventually(lambda: any(wait.heartbeat for wait in execution.describe().waits))
    found = runtime.looks.heartbeats
    later = 0

    def heartbeats(name: str, attempts: dict[int, int]) -> object:
        return {
            seq: replace(beat, at=beat.at + later) for seq, beat in found(name, attempts).items()
        }

    monkeypatch.setattr(runtime.looks, "heartbeats", heartbeats)

    async def watch() -> None:
        nonlocal later
        changes = Watch(runtime, AllFollowed(runtime)).changes("b-1")
        assert await anext(changes) == "retry: 2000\n\n"
        assert "changed" in await anext(changes)  # it has come before the first look
        for _ in range(3):
            later += 1000
            assert "changed" in await anext(changes)
        await changes.aclose()

    asyncio.run(asyncio.wait_for(watch(), WAIT))
    execution.terminate()

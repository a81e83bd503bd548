"""Streams, and the pages of workflows, schedules, workers and the doctor, without a browser."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import httpx2
import pytest
from starlette.testclient import TestClient

from mini_workflow import LocalRuntime
from mini_workflow.doctor.findings import Finding
from tests.ui.conftest import Opening
from tests.ui.flows import HOSTILE, failing, fan_out, long_task, order, scheduled, telling, token_in
from tests.ui.test_serving import served
from tests.waiting import WAIT, eventually


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def told(runtime: LocalRuntime) -> None:
    execution = runtime.start_execution(telling, id="t-1")
    eventually(lambda: len(execution.stream("words").read()) == 2)


def test_a_stream_stands_on_the_page_as_text(runtime: LocalRuntime, browser: TestClient) -> None:
    told(runtime)
    page = browser.get("/executions/t-1").text
    assert "once &lt;script&gt;alert(1)&lt;/script&gt;</pre>" in page
    assert 'data-stream="/executions/t-1/stream/live?name=words"' in page
    part = browser.get("/executions/t-1/stream?name=words&after=1")
    assert "once" not in text_of(part.text)
    assert browser.get("/executions/t-1/stream?name=words&after=x").status_code == 400
    assert browser.get("/executions/t-1/stream/live?name=no%20name").status_code == 400
    assert browser.get("/executions/nobody/stream/live?name=words").status_code == 404


def test_a_stream_comes_live_and_ends(runtime: LocalRuntime) -> None:
    told(runtime)
    execution = runtime.get_execution("t-1")
    with (
        served(runtime) as address,
        httpx2.stream(
            "GET", f"{address}/executions/t-1/stream/live?name=words&after=1", timeout=WAIT
        ) as answer,
    ):
        lines = answer.iter_lines()
        data = (line for line in lines if line.startswith(("data:", "event:")))
        assert next(data) == f'data: "{HOSTILE}"'
        execution.signal("more", 42)
        assert next(data) == 'data: "42"'
        assert next(data) == "event: over"


def test_workflows_are_counted_in_all_and_their_tasks_in_the_latest(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    for number in range(3):
        runtime.start_execution(fan_out, 2, id=f"wide-{number}").result(WAIT)
    with pytest.raises(ValueError, match="row 219"):
        runtime.start_execution(failing, id="f-1").result(WAIT)
    runtime.start_execution(order, "o-1", id="o-1")
    said = text_of(browser.get("/workflows").text)
    assert re.search(r"shown-failure 0 100\.0 % 1 of 1", said)
    assert re.search(r"shown-fan-out 0 0\.0 % 0 of 3 \d", said)
    assert re.search(r"shown-order 1 none yet", said)
    assert browser.get("/workflows?t=ever").status_code == 400

    page = browser.get("/workflow?name=shown-failure").text
    said = text_of(page)
    assert "in the 1 latest execution" in said
    assert re.search(r"parse 1 1 2 ", said)  # made, failed, attempts
    assert re.search(r"/executions/f-1#op-\d", page)
    assert re.search(r"load 6 0 6 ", text_of(browser.get("/workflow?name=shown-fan-out").text))


def test_a_schedule_is_paused_resumed_triggered_and_filled_in(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    runtime.schedules.create("nightly", scheduled, every=3600, overlap="allow")
    page = browser.get("/schedules").text
    assert page.count("<li><time") == 10  # the next ten times
    form = {"form-token": token_in(page)}

    browser.get("/schedules/nightly/pause")
    browser.post("/schedules/nightly/pause", data={**form, "reason": "the shop moves"})
    assert "the shop moves" in browser.get("/schedules").text
    assert "/schedules/nightly/resume" in browser.get("/schedules").text
    browser.post("/schedules/nightly/resume", data=form)
    assert runtime.schedules.get("nightly").describe().paused is False

    browser.post("/schedules/nightly/trigger", data=form)
    eventually(lambda: len(runtime.list_executions(workflow=scheduled, status="completed")) == 1)
    assert "Until" in browser.get("/schedules/nightly/backfill").text
    filled = browser.post(
        "/schedules/nightly/backfill",
        data={**form, "start": "2026-01-01T00:00", "end": "2026-01-01T02:00"},
    )
    assert filled.status_code == 303
    eventually(lambda: len(runtime.list_executions(workflow=scheduled, status="completed")) == 4)
    wrong = browser.post("/schedules/nightly/backfill", data={**form, "start": "now", "end": ""})
    assert wrong.status_code == 409
    assert "give a time such as" in wrong.text
    assert browser.get("/schedules/nobody/pause").status_code == 404
    assert browser.post("/schedules/nightly/pause", data={}).status_code == 409


def test_workers_are_the_processes_with_their_tasks_in_hand(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    execution = runtime.start_execution(long_task, id="l-1")
    eventually(lambda: execution.describe().busy)
    (owner,) = runtime.owners()
    assert (owner.alive, owner.held) == (True, 1)
    assert owner.until > datetime.now(UTC).timestamp() * 1000
    said = text_of(browser.get("/workers").text)
    assert "1 process; 1 alive" in said
    assert owner.name in said
    assert re.search(r"hold #1 l-1 shown-long 1", said)
    execution.terminate()


def test_the_doctor_says_what_is_wrong_and_what_to_do(
    runtime: LocalRuntime, browser: TestClient, opened: Opening
) -> None:
    assert "Nothing is wrong" in browser.get("/doctor").text
    execution = runtime.start_execution(order, "o-1", id="o-1")
    eventually(lambda: not execution.describe().busy and len(execution.history()) >= 3)
    execution.pause("the shop moves")
    eventually(lambda: execution.describe().status == "blocked")
    said = text_of(browser.get("/doctor").text)
    assert "Problems: 1" in said
    assert "o-1 (shown-order) is blocked" in said
    assert "mini-workflow resume o-1" in said

    pages = opened(doctor=lambda: [Finding("problem", HOSTILE, "chmod u+rw state.db")])
    page = pages.get("/doctor").text
    assert "&lt;script&gt;" in page
    assert "chmod u+rw state.db" in page


def test_nothing_of_the_overviews_is_forbidden_by_the_policy(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    told(runtime)
    runtime.schedules.create("nightly", scheduled, every=3600)
    for address in (
        *("/workflows", "/workflow?name=shown-stream", "/schedules", "/schedules/nightly/backfill"),
        *("/workers", "/limits", "/doctor", "/executions/t-1", "/executions/t-1/stream?name=words"),
    ):
        answer = browser.get(address)
        assert answer.status_code == 200, address
        assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:|<script>", answer.text)


def test_read_only_pages_ask_nothing_of_schedules(runtime: LocalRuntime, opened: Opening) -> None:
    runtime.schedules.create("nightly", scheduled, every=3600)
    pages = opened(read_only=True)
    page = pages.get("/schedules").text
    assert "nightly" in page
    assert 'method="post"' not in page
    assert pages.get("/schedules/nightly/pause").status_code == 404
    assert pages.post("/schedules/nightly/pause").status_code == 403

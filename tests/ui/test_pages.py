"""The pages: what they show of executions, without a browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from mini_workflow import LocalRuntime
from mini_workflow.engine.picture.drawing import TIMES
from mini_workflow.engine.picture.folding import ROWS
from mini_workflow.ui.execution_page import stretches_of
from tests.ui.conftest import Opening
from tests.ui.flows import HOSTILE, act, failing, fan_out, hostile, mother, order, waves
from tests.waiting import WAIT, eventually


def waiting(runtime: LocalRuntime, name: str = "o-1", **options: Any) -> Any:
    """An order whose price is known, and that waits for its approval."""
    execution = runtime.start_execution(order, name, id=name, **options)
    eventually(lambda: not execution.describe().busy and len(execution.history()) >= 3)
    return execution


def text_of(page: str) -> str:
    """What a page says, without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_list_shows_executions_with_counts_and_filters(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    waiting(runtime, "o-1", tags={"customer": "c-1"})
    waiting(runtime, "o-2", tags={"customer": "c-2"})
    failed = runtime.start_execution(failing, id="f-1")
    with pytest.raises(ValueError, match="row 219"):
        failed.result(WAIT)

    page = browser.get("/executions").text
    assert all(name in page for name in ("o-1", "o-2", "f-1", "customer c-1"))
    assert re.search(r"<b>3</b>\s*<span>All", page)
    assert "<title>Executions: 1 failed" in page

    assert (
        "Waits for signal <b>approve</b> since" in page
    )  # as on its own page, and in the title without
    assert "Waits for signal <b>approve</b> since" in browser.get("/executions/o-1").text

    by_status = browser.get("/executions?status=failed").text
    assert "f-1" in by_status
    assert "x-o-1" not in by_status
    by_tag = browser.get("/executions?tag=customer%3Dc-2").text
    assert "x-o-2" in by_tag
    assert "x-o-1" not in by_tag
    by_id = browser.get("/executions?prefix=o-").text
    assert "x-o-1" in by_id
    assert "x-f-1" not in by_id
    assert re.search(r"<b>2</b>\s*<span>All", by_id)
    assert "without prefix zz" in browser.get("/executions?prefix=zz").text
    nothing = browser.get("/executions?status=blocked&workflow=shown-order").text
    assert "None matches" in nothing
    assert "without workflow shown-order" in nothing


def test_an_empty_list_says_what_each_part_of_its_filter_hides(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    for name, customer in (("o-1", "1"), ("o-2", "1"), ("o-3", "2")):
        waiting(runtime, name, tags={"customer": customer})
    page = browser.get("/executions?status=running&tag=customer%3D1&prefix=o-3").text
    said = text_of(page)
    assert "without status running : 0 executions" in said
    assert "without tag customer=1 : 1 execution" in said
    assert "without prefix o-3 : 2 executions" in said
    assert 'href="?status=running&amp;prefix=o-3">without tag' in page
    # What matches is shown, and nothing is counted for it.
    assert ">without" not in browser.get("/executions?tag=customer%3D1").text


def test_an_empty_store_says_how_to_fill_it(browser: TestClient) -> None:
    page = browser.get("/executions").text
    assert "No executions yet" in page
    assert "mini-workflow run" in page


def test_a_list_is_read_page_by_page(runtime: LocalRuntime, browser: TestClient) -> None:
    runtime.start_executions(fan_out, [(0,)] * 120)
    seen: list[str] = []
    address = "/executions"
    while address:
        page = browser.get(address).text
        seen += re.findall(r'id="x-([^"]+)"', page)
        older = re.search(r'href="(\?[^"]*after=[^"]+)">Older', page)
        address = f"/executions{older[1].replace('&amp;', '&')}" if older else ""
    assert len(seen) == len(set(seen)) == 120


def test_an_address_that_says_nothing_sensible_is_refused_by_name(browser: TestClient) -> None:
    for address, said in (
        ("/executions?status=lost", "choose one of"),
        ("/executions?tag=customer", "give NAME=VALUE"),
        ("/executions?since=ever", "choose one of"),
    ):
        answer = browser.get(address)
        assert answer.status_code == 400
        assert said in answer.text


def test_an_execution_says_what_it_waits_for_and_shows_its_course(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    waiting(runtime)
    page = browser.get("/executions/o-1").text
    said = text_of(page)
    assert "Waits for signal 'approve'" in said or "Waits for signal approve" in said
    assert re.search(r"tests/ui/flows\.py:\d+ in order", said)
    assert "price #1" in said
    assert "shown-order" in said
    assert "o-1" in said
    assert 'id="op-1"' in page
    assert "price" in browser.get("/executions/o-1?e=tasks").text
    assert 'id="e1"' not in browser.get("/executions/o-1?e=tasks").text
    assert 'id="e2"' not in browser.get("/executions/o-1?q=nowhere").text


def test_a_failure_is_open_with_the_line_of_the_user(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    execution = runtime.start_execution(failing, id="f-1")
    with pytest.raises(ValueError, match="row 219"):
        execution.result(WAIT)
    page = browser.get("/executions/f-1").text
    assert "ValueError: row 219 is not a price" in page
    assert "raise ValueError(&#34;row 219 is not a price&#34;)" in page
    assert re.search(r"tests/ui/flows\.py:\d+ in parse", page)
    assert re.search(r'class="fr mine"', page)


def test_calls_of_libraries_are_folded_between_the_user_s_own() -> None:
    library, own = "/usr/lib/python3/asyncio/tasks.py", "/srv/shop.py"
    lines = [f'  File "{file}", line 1, in x\n    y()' for file in (own, library, library, own)]
    found = stretches_of("\n".join(["Traceback (most recent call last):", *lines, "ValueError"]))
    assert [(one.mine, len(one.frames)) for one in found] == [(True, 1), (False, 2), (True, 1)]


def test_an_execution_that_is_not_there_is_said_so(browser: TestClient) -> None:
    answer = browser.get("/executions/nobody")
    assert answer.status_code == 404
    assert "nobody" in answer.text
    # A part of an id that is typed leads to those that begin so.
    assert 'href="/executions?prefix=nobody">Those whose ids begin so' in answer.text
    assert browser.get("/nowhere").status_code == 404
    jump = browser.get("/executions?id=o-7")
    assert jump.headers["location"] == "/executions/o-7"


def test_text_of_users_is_never_html(runtime: LocalRuntime, browser: TestClient) -> None:
    execution = runtime.start_execution(hostile, HOSTILE, id="h-1")
    with pytest.raises(ValueError, match="script"):
        execution.result(WAIT)
    for address in ("/executions", "/executions/h-1", "/executions?workflow=%3Cscript%3E"):
        page = browser.get(address)
        assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in browser.get("/executions/h-1").text


def test_nothing_stands_in_a_page_that_its_policy_forbids(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    waiting(runtime)
    for address in ("/executions", "/executions/o-1", "/executions/o-1/cancel", "/schedules"):
        answer = browser.get(address)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:", answer.text)
        assert all("src=" in one for one in re.findall(r"<script[^>]*>", answer.text))
        assert not re.search(r'(src|href)="(https?:)?//', answer.text)


def test_a_fan_out_of_ten_thousand_is_a_page_of_few_rows(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    execution = runtime.start_execution(fan_out, 10_000, id="wide")
    assert execution.result(WAIT) == sum(range(10_000))
    page = browser.get("/executions/wide").text
    assert page.count('class="row') <= ROWS
    assert re.search(r"load\W+10,000", text_of(page))
    assert page.count('id="e') <= 200
    assert "before=" in page


def test_the_history_is_downloaded_as_it_is_replayed(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    waiting(runtime)
    answer = browser.get("/executions/o-1/history")
    assert answer.json() == runtime.get_execution("o-1").recording().to_plain()
    assert 'filename="o-1.json"' in answer.headers["content-disposition"]


def test_a_person_signals_asks_and_updates(runtime: LocalRuntime, browser: TestClient) -> None:
    execution = waiting(runtime)
    assert "raised" in act(browser, "o-1", "query", name="state").text
    assert "has answered" in act(browser, "o-1", "update", name="raise", value="[5]").text
    refused = act(browser, "o-1", "update", name="raise", value="[-1]")
    assert refused.status_code == 409
    assert "only upwards" in refused.text
    unknown = act(browser, "o-1", "query", name="nothing")
    assert "UnknownHandler" in unknown.text
    sent = act(browser, "o-1", "signal", name="approve", value='{"by": "ann"}')
    assert sent.status_code == 303
    assert execution.result(WAIT) == {"order": "o-1", "approval": {"by": "ann"}}


def test_a_reason_says_who_a_proxy_says_it_was(runtime: LocalRuntime, opened: Opening) -> None:
    execution = waiting(runtime)
    browser = opened(user_header="X-User")
    page = browser.get("/executions/o-1/terminate").text
    token = re.search(r'form-token" value="(\w+)"', page)
    assert token is not None
    browser.post(
        "/executions/o-1/terminate",
        data={"form-token": token[1], "reason": "by mistake"},
        headers={"X-User": "ann"},
    )
    eventually(lambda: execution.describe().closed_at)
    assert "by mistake (by ann, on the page)" in text_of(browser.get("/executions/o-1").text)


def test_an_execution_is_paused_resumed_and_run_again(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    execution = waiting(runtime)
    act(browser, "o-1", "pause", reason="lunch")
    eventually(lambda: execution.describe().status == "blocked")
    page = browser.get("/executions/o-1").text
    assert "lunch" in page
    assert "paused" in page
    act(browser, "o-1", "resume")
    eventually(lambda: execution.describe().status == "running")
    act(browser, "o-1", "cancel", reason="no more")
    eventually(lambda: execution.describe().status == "cancelled")
    act(browser, "o-1", "restart")
    eventually(lambda: execution.describe().run == 2)


def test_what_is_selected_is_acted_on_after_a_confirmation_and_the_rest_is_named(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    for name in ("o-1", "o-2"):
        waiting(runtime, name)
    failed = runtime.start_execution(failing, id="f-1")
    with pytest.raises(ValueError, match="row 219"):
        failed.result(WAIT)
    page = browser.get("/executions").text
    token = re.search(r'form-token" value="(\w+)"', page)
    assert token is not None
    form = {"form-token": token[1], "action": "cancel", "ids": ["o-1", "f-1"]}
    asked = browser.post("/executions/bulk", data=form).text
    assert "Cancel 2 executions?" in asked
    assert runtime.get_execution("o-1").describe().status == "running"
    done = browser.post("/executions/bulk", data={**form, "confirmed": "2"}).text
    assert "asked of 1 of 2" in done
    assert "f-1" in done
    eventually(lambda: runtime.get_execution("o-1").describe().status == "cancelled")
    assert runtime.get_execution("o-2").describe().status == "running"


def test_the_rows_of_a_part_of_the_time_are_asked_for_by_shares_or_by_times(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    execution = runtime.start_execution(waves, 12, id="w-1")
    for _ in range(3):
        execution.signal("next")
    execution.result(WAIT)
    whole = browser.get("/executions/w-1").text
    assert f"{TIMES}36" in whole
    part = browser.get("/executions/w-1?view=0,0.02").text
    assert f"{TIMES}36" not in part
    assert part.count('class="row "') >= 12
    found = re.search(r'data-address="(from=\d+&amp;to=\d+)"', part)
    assert found is not None
    again = browser.get(f"/executions/w-1?{found[1].replace('&amp;', '&')}").text
    assert again.count('class="row "') == part.count('class="row "')
    wrong = browser.get("/executions/w-1?view=left")
    assert wrong.status_code == 400
    assert "two numbers from 0 to 1" in wrong.text


def test_the_rows_of_a_child_are_given_for_the_picture_of_its_parent(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    runtime.start_execution(mother, id="m-1").result(WAIT)
    page = browser.get("/executions/m-1").text
    address = re.search(r'data-child="([^"]+)"', page)
    assert address is not None
    # Without scripts a link leads to it.
    assert re.search(r">Open m-1[^<]+</a>", page)
    rows = browser.get(address[1]).text
    assert "reckon" in rows
    assert "<html" not in rows
    assert browser.get("/executions/m-1/child?of=nobody").status_code == 404


def test_a_failure_shows_the_lines_of_the_task_and_of_the_workflow_apart(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    failed = runtime.start_execution(failing, id="f-2")
    with pytest.raises(ValueError, match="row 219"):
        failed.result(WAIT)
    page = text_of(browser.get("/executions/f-2").text)
    _, task, rest = re.split(r"In the (?=task)|In the (?=workflow)", page)
    assert "in parse" in task
    assert "in failing" not in task
    assert "in failing" in rest
    assert re.search(r"began \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ on \S+", page)


def test_a_fork_links_what_it_is_a_fork_of(runtime: LocalRuntime, browser: TestClient) -> None:
    execution = runtime.start_execution(fan_out, 1, id="first")
    assert execution.result(WAIT) == 0
    assert execution.fork(at=1, id="second").result(WAIT) == 0
    page = browser.get("/executions/second").text
    assert 'fork of <a class="id" href="/executions/first">first</a>' in page
    assert "fork of" not in browser.get("/executions/first").text

"""The members of a group of a timeline: page by page, all or those in one state."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from starlette.testclient import TestClient

from mini_workflow import LocalRuntime
from mini_workflow.ui.members_page import MEMBERS
from tests.ui.flows import beating, mixed, mother_of_mixed
from tests.waiting import eventually

TASKS, BAD = 2 * MEMBERS + 30, 12


@pytest.fixture
def execution(runtime: LocalRuntime) -> Any:
    execution = runtime.start_execution(mixed, TASKS, BAD, id="m-1")
    eventually(lambda: [one.kind for one in execution.describe().waits] == ["signal"])
    return execution


def links_in(page: str) -> dict[str, str]:
    """The links to other pages of members, by their texts."""
    found = re.findall(r'<a[^>]*data-page[^>]* href="([^"]+)"[^>]*>(.*?)</a>', page)
    return {re.sub(r"<[^>]+>", "", text): unescape(address) for address, text in found}


def rows_in(page: str) -> list[str]:
    return re.findall(r'<div class="row [^"]*" id="((?:[\w.-]+--)?op-\d+)"', page)


def test_all_members_are_read_page_by_page(execution: Any, browser: TestClient) -> None:
    page = browser.get("/executions/m-1").text
    (group,) = re.findall(r'id="(group-\d+)"', page)
    address = next(link for text, link in links_in(page).items() if text.startswith("All"))
    assert f"of={group.removeprefix('group-')}" in address
    seen: list[list[str]] = []
    while address:
        page = browser.get(address).text
        seen.append(rows_in(page))
        address = links_in(page).get("Next", "")
    assert [len(rows) for rows in seen] == [MEMBERS, MEMBERS, 30]
    assert len({row for rows in seen for row in rows}) == TASKS
    before = browser.get(links_in(page)["Before"]).text
    assert rows_in(before) == seen[1]
    assert f"101 to 200 of {TASKS}" in before


def test_failed_members_are_shown_alone(execution: Any, browser: TestClient) -> None:
    links = links_in(browser.get("/executions/m-1").text)
    page = browser.get(links["Failed ones"]).text
    assert len(rows_in(page)) == BAD
    assert page.count("ValueError: row") >= BAD
    assert {f"all {TASKS}", f"failed {BAD}", f"completed {TASKS - BAD}"} <= set(links_in(page))
    rest = browser.get(links_in(page)[f"completed {TASKS - BAD}"]).text
    assert "ValueError" not in rest
    assert f"1 to 100 of {TASKS - BAD}" in rest


def test_a_part_of_the_time_and_a_child_have_members_too(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    outer = runtime.start_execution(mother_of_mixed, 25, 1, id="mother")
    eventually(lambda: len(outer.timeline()) >= 2)
    inner = runtime.get_execution(next(one.id for one in runtime.list_executions(parent="mother")))
    eventually(lambda: [one.kind for one in inner.describe().waits] == ["signal"])
    child = browser.get(f"/executions/mother/child?of={inner.id}").text
    failed = browser.get(links_in(child)["Failed ones"])
    assert failed.status_code == 200
    assert [row.partition("--")[0] for row in rows_in(failed.text)] == [inner.id]
    part = browser.get(f"/executions/{inner.id}?view=0.0,1.0").text
    address = links_in(part)["Failed ones"]
    assert "from=" in address
    assert len(rows_in(browser.get(address).text)) == 1


def test_what_is_no_group_or_no_filter_is_said(execution: Any, browser: TestClient) -> None:
    for address, said in (
        ("of=9999", "has no group"),
        ("of=", "has no group"),
        ("of=1&only=lost", "choose one of"),
        ("of=1&after=-1", "give a whole number"),
    ):
        answer = browser.get(f"/executions/m-1/members?{address}")
        assert answer.status_code == 400, address
        assert said in answer.text
    assert browser.get("/executions/nobody/members?of=1").status_code == 404


def test_members_at_work_have_their_last_heartbeats(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    execution = runtime.start_execution(beating, 21, id="b-21")
    eventually(lambda: sum(one.heartbeat is not None for one in execution.timeline()) == 21)
    page = browser.get("/executions/b-21").text
    address = next(link for text, link in links_in(page).items() if text.startswith("All"))
    assert len(re.findall(r'<line class="beat"', browser.get(address).text)) == 21
    execution.terminate()

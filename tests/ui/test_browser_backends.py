"""The main pages and actions in a browser, on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from mini_workflow import LocalRuntime
from tests.ui.browsing import (
    Opening,
    failed,
    open_chromium,
    opening,
    pause_resume_and_trigger,
    waiting,
)
from tests.ui.flows import paying, scheduled
from tests.ui.test_serving import served
from tests.waiting import WAIT, eventually


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from open_chromium()


# One for all tests of a backend, so each names its executions after itself.
@pytest.fixture(
    scope="module", params=["local", "postgres", pytest.param("aws", marks=pytest.mark.aws)]
)
def runtime(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    if request.param == "local":
        with LocalRuntime(tmp_path_factory.mktemp("pages") / "state.db") as runtime:
            yield runtime
        return
    if request.param == "postgres":
        from mini_workflow import PostgresRuntime

        server = request.getfixturevalue("postgres")
        with PostgresRuntime(server.url, schema=server.schema()) as runtime:
            yield runtime
        return
    from tests.aws.cloud import Deployed, EmulatedCloud

    cloud = EmulatedCloud(request.getfixturevalue("aws"))
    try:
        with Deployed(cloud, cache_size=256) as runtime:
            yield runtime
    finally:
        cloud.close()


@pytest.fixture(scope="module")
def address(runtime: Any) -> Iterator[str]:
    with served(runtime) as address:
        yield address


@pytest.fixture
def opened(chromium: Browser, address: str) -> Iterator[Opening]:
    yield from opening(chromium, address)


def test_an_execution_is_found_signalled_by_a_form_and_watched_to_its_end(
    runtime: Any, opened: Opening
) -> None:
    execution = waiting(runtime, "watched-1")
    watching = opened("/executions/watched-1")
    expect(watching.locator(".live")).to_have_text("live")
    expect(watching.locator(".head .st")).to_have_text("running")
    # What is open stays open when something arrives.
    watching.locator("#e1 > details").evaluate("one => one.open = true")

    page = opened("/executions")
    page.get_by_role("link", name="watched-1", exact=True).click()
    page.locator(".say").get_by_role("link", name="Signal").click()
    expect(page.get_by_role("textbox", name="Name")).to_have_value("approve")
    page.get_by_label("Value").fill('{"by": "ann"}')
    page.get_by_role("button", name="Signal").click()
    for one in (page, watching):
        expect(one.locator(".head .st")).to_have_text("completed")
        expect(one.locator("[data-part=result]")).to_contain_text("ann")
    expect(watching.locator("#e1 > details")).to_have_attribute("open", "")
    assert execution.result(WAIT)["approval"] == {"by": "ann"}


def test_a_list_is_filtered_and_what_is_selected_is_cancelled(
    runtime: Any, opened: Opening
) -> None:
    for name in ("kept-1", "cancelled-1"):
        waiting(runtime, name)
    failed(runtime, "broken-1")
    page = opened("/executions?workflow=shown-failure")
    expect(page.locator("#x-broken-1")).to_be_visible()
    expect(page.locator("#x-kept-1")).to_have_count(0)
    page.get_by_label("Workflow").fill("shown-order")
    page.get_by_label("Tag").fill("customer=kept-1")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("#x-kept-1")).to_be_visible()
    page.get_by_role("link", name="Failed").click()
    expect(page.get_by_text("None matches")).to_be_visible()

    page.get_by_role("link", name="Clear", exact=True).click()
    for name in ("cancelled-1", "broken-1"):
        page.get_by_label(f"Select {name}").check()
    # A button says how many of those take it.
    cancel = page.locator("[data-act=cancel]")
    expect(cancel).to_contain_text("1")
    expect(page.locator("[data-act=resume]")).to_be_disabled()
    page.get_by_label("Select broken-1").uncheck()
    cancel.click()
    page.get_by_label("Why").fill("no longer wanted")
    page.get_by_role("button", name="Cancel 1").click()
    expect(page.get_by_role("heading")).to_contain_text("asked of 1 of 1")
    eventually(lambda: runtime.get_execution("cancelled-1").describe().status == "cancelled")
    assert runtime.get_execution("kept-1").describe().status == "running"


def test_all_that_match_are_counted_confirmed_and_cancelled(runtime: Any, opened: Opening) -> None:
    kept = waiting(runtime, "beside-1")
    every = [
        runtime.start_execution(paying, id=f"every-{number}", tags={"customer": "every"})
        for number in range(3)
    ]
    eventually(lambda: all(one.open_promises() for one in every))
    every[2].terminate("not meant any more")
    page = opened("/executions?tag=customer%3Devery")
    matching = page.get_by_role("group", name="Actions on all that match")
    expect(matching.get_by_role("link", name="Restart 1")).to_be_visible()
    matching.get_by_role("link", name="Cancel 2").click()
    expect(page.get_by_role("main")).to_contain_text("tag customer=every, running or blocked")
    page.get_by_label("Why").fill("the shop is closed")
    page.get_by_role("button", name="Cancel 2").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel: asked of 2 of 2")
    expect(page.get_by_text("All were asked, or left out.")).to_be_visible()
    for one in every[:2]:
        eventually(lambda one=one: one.describe().status == "cancelled")
        assert "the shop is closed" in "".join(entry.note or "" for entry in one.timeline())
    assert kept.describe().status == "running"
    page.get_by_role("link", name="Back to the list").click()
    page.goto(page.url + "?tag=customer%3Devery&status=cancelled")
    expect(page.locator("tbody tr")).to_have_count(2)


def test_a_list_says_how_an_execution_failed(runtime: Any, opened: Opening) -> None:
    failed(runtime, "told-1")
    page = opened("/executions?workflow=shown-failure&status=failed")
    row = page.locator("#x-told-1")
    expect(row).to_contain_text("Failed after")
    expect(row).to_contain_text("ValueError: row 219 is not a price")


def test_a_promise_is_completed_by_the_button_beside_the_sentence(
    runtime: Any, opened: Opening
) -> None:
    execution = runtime.start_execution(paying, id="paid-1")
    eventually(execution.open_promises)
    page = opened("/executions/paid-1")
    page.locator(".say").get_by_role("link", name="Complete a promise").click()
    page.get_by_label("Value").fill("42.5")
    page.get_by_role("button", name="Complete a promise").click()
    assert execution.result(WAIT) == {"paid": 42.5}


def test_a_failed_one_is_retried(runtime: Any, opened: Opening) -> None:
    failed(runtime, "retried-1")
    page = opened("/executions/retried-1")
    page.get_by_role("group", name="Actions").get_by_role("link", name="Retry").click()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".facts").first).to_contain_text("run 2")
    expect(page.locator(".head .st")).to_have_text("failed")


def test_the_overviews_are_read_and_a_schedule_is_paused_resumed_and_triggered(
    runtime: Any, opened: Opening
) -> None:
    runtime.schedules.create("nightly", scheduled, every=3600)
    page = opened("/schedules")
    pause_resume_and_trigger(runtime, page)

    for name in ("Workflows", "Limits", "Doctor", "Workers"):
        page.get_by_role("link", name=name).first.click()
        expect(page.get_by_role("heading", name=name).first).to_be_visible()
    told = "1 alive" if hasattr(runtime, "owners") else "The functions of the engine run"
    expect(page.get_by_role("main")).to_contain_text(told)

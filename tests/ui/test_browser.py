"""The pages in a browser, as a person uses them."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from mini_workflow import LocalRuntime
from mini_workflow.ui import app
from mini_workflow.ui.app import REFUSED
from tests.left_out import left_out
from tests.paths import ROOT
from tests.ui.flows import HOSTILE, failing, fan_out, hostile, order
from tests.waiting import WAIT, eventually

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PICTURES = ROOT / "docs" / "pictures"

expect.set_options(timeout=WAIT * 1000)


# Not of the session: as long as Playwright is open, its loop counts as running in this thread, and
# no test of another module could call asyncio.run().
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        left_out("the pages in a browser", f"none of {', '.join(PROGRAMS)} is on the PATH")
    with sync_playwright() as playwright:
        # As root Chromium does not start in its sandbox; what it opens here is our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def address(runtime: LocalRuntime) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pages = app(runtime, name="orders.db")
        server = uvicorn.Server(
            uvicorn.Config(pages, log_level="warning", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(WAIT)


Opening = Callable[..., Page]


@pytest.fixture
def opened(chromium: Browser, address: str) -> Iterator[Opening]:
    """Opens a page in a window of its own; what the browser complains of fails the test."""
    complaints: list[str] = []

    def complain(message: ConsoleMessage) -> None:
        # That an action was refused is an answer, which the browser counts as an error.
        refused = f"status of {REFUSED}" in message.text
        if message.type in ("error", "warning") and not refused:
            complaints.append(message.text)

    contexts: list[Any] = []

    def open_page(path: str, **options: Any) -> Page:
        context = chromium.new_context(**options)
        context.set_default_timeout(WAIT * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{address}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def waiting(runtime: LocalRuntime, name: str) -> Any:
    execution = runtime.start_execution(order, name, id=name, tags={"customer": name})
    eventually(lambda: not execution.describe().busy and len(execution.history()) >= 3)
    return execution


def failed(runtime: LocalRuntime, name: str) -> None:
    execution = runtime.start_execution(failing, id=name)
    with pytest.raises(ValueError, match="row 219"):
        execution.result(WAIT)


def test_an_execution_is_watched_until_it_ends(runtime: LocalRuntime, opened: Opening) -> None:
    execution = waiting(runtime, "o-1")
    page = opened("/executions/o-1")
    expect(page.locator(".live")).to_have_text("live")
    expect(page.locator(".head .st")).to_have_text("running")
    # What is open stays open when something arrives.
    page.locator("#e1 > details").evaluate("one => one.open = true")
    execution.signal("approve", {"by": "ann"})
    expect(page.locator(".head .st")).to_have_text("completed")
    expect(page.locator("#e1 > details")).to_have_attribute("open", "")
    expect(page.locator("[data-part=result]")).to_contain_text("ann")


def test_a_fan_out_of_ten_thousand_is_opened_scrolled_and_filtered(
    runtime: LocalRuntime, opened: Opening
) -> None:
    assert runtime.start_execution(fan_out, 10_000, id="wide").result(WAIT) == sum(range(10_000))
    page = opened("/executions/wide")
    group = page.locator("details.grp")
    expect(group).to_have_count(1)
    group.locator("summary").click()
    expect(group.locator(".row").first).to_be_visible()
    page.locator(".tl").evaluate("one => one.scrollTo(0, 1e6)")
    page.get_by_role("link", name="Tasks").click()
    expect(page.locator(".evs > li")).to_have_count(200)
    page.get_by_role("searchbox", name="Search the events").fill("#9999 ")
    page.keyboard.press("Enter")
    expect(page.locator(".evs > li")).to_have_count(2)


def test_the_timeline_is_zoomed_by_keys(runtime: LocalRuntime, opened: Opening) -> None:
    waiting(runtime, "o-1")
    page = opened("/executions/o-1")
    inner = page.locator(".tl-in")
    width = inner.evaluate("one => one.scrollWidth")
    page.keyboard.press("+")
    assert inner.evaluate("one => one.scrollWidth") > width
    page.keyboard.press("0")
    assert inner.evaluate("one => one.scrollWidth") == width


def test_what_is_selected_is_cancelled(runtime: LocalRuntime, opened: Opening) -> None:
    waiting(runtime, "o-1")
    waiting(runtime, "o-2")
    failed(runtime, "f-1")
    page = opened("/executions")
    for name in ("o-1", "f-1"):
        page.get_by_label(f"Select {name}").check()
    # A button says how many of those take it.
    cancel = page.locator("[data-act=cancel]")
    expect(cancel).to_contain_text("1")
    expect(page.locator("[data-act=resume]")).to_be_disabled()
    page.get_by_label("Select f-1").uncheck()
    cancel.click()
    page.get_by_label("Why").fill("no longer wanted")
    page.get_by_role("button", name="Cancel 1").click()
    expect(page.get_by_role("heading")).to_contain_text("asked of 1 of 1")
    eventually(lambda: runtime.get_execution("o-1").describe().status == "cancelled")
    assert runtime.get_execution("o-2").describe().status == "running"


def test_a_signal_is_sent_by_a_form(runtime: LocalRuntime, opened: Opening) -> None:
    execution = waiting(runtime, "o-1")
    page = opened("/executions/o-1")
    page.get_by_role("link", name="Signal").click()
    page.get_by_label("Name").fill("approve")
    page.get_by_label("Value").fill('{"by": "ann"}')
    page.get_by_role("button", name="Signal").click()
    assert execution.result(WAIT)["approval"] == {"by": "ann"}


def test_two_pages_act_at_once_and_the_second_is_told(
    runtime: LocalRuntime, opened: Opening
) -> None:
    execution = waiting(runtime, "o-1")
    pages = [opened("/executions/o-1/terminate") for _ in range(2)]
    for number, page in enumerate(pages):
        page.get_by_label("Why").fill(f"by page {number}")
    pages[0].get_by_role("button", name="Terminate").click()
    eventually(lambda: execution.describe().closed_at)
    pages[1].get_by_role("button", name="Terminate").click()
    expect(pages[1].get_by_role("alert")).to_contain_text("Nothing was done")
    assert "by page 0" in str(execution.timeline()[-1].note)


def test_a_list_says_that_it_has_changed_and_moves_nothing(
    runtime: LocalRuntime, opened: Opening
) -> None:
    waiting(runtime, "o-1")
    page = opened("/executions")
    expect(page.locator(".live")).to_have_text("live")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(1)
    waiting(runtime, "o-2")
    fresh = page.get_by_text("This list has changed")
    expect(fresh).to_be_visible()
    expect(rows).to_have_count(1)
    page.keyboard.press("r")
    expect(rows).to_have_count(2)


def test_keys_lead_everywhere(runtime: LocalRuntime, opened: Opening) -> None:
    waiting(runtime, "o-1")
    waiting(runtime, "o-2")
    page = opened("/executions")
    expect(page.locator(".live")).to_have_text("live")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_label("Select o-1")).to_be_checked()
    page.keyboard.press("o")
    expect(page.get_by_role("heading", name="o-1")).to_be_visible()
    expect(page.locator(".live")).to_have_text("live")  # so the script is there, too
    page.keyboard.press("/")
    page.keyboard.type("o-2")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="o-2")).to_be_visible()
    expect(page.locator(".live")).to_have_text("live")

    def gone() -> bool:
        page.keyboard.press("g")
        page.keyboard.press("s")  # within a second, which a busy machine may miss
        return "/schedules" in page.url

    eventually(gone)


def test_text_of_users_is_text(runtime: LocalRuntime, opened: Opening) -> None:
    execution = runtime.start_execution(hostile, HOSTILE, id="h-1")
    with pytest.raises(ValueError, match="script"):
        execution.result(WAIT)
    page = opened("/executions/h-1")
    page.on("dialog", lambda dialog: pytest.fail(f"a script has run: {dialog.message}"))
    expect(page.locator(".say")).to_contain_text(HOSTILE)
    page.goto(page.url.replace("/h-1", ""))
    expect(page.locator("tbody")).to_contain_text(HOSTILE)


@pytest.mark.parametrize("path", ["/executions", "/executions/o-1", "/executions/f-1"])
def test_a_telephone_scrolls_in_one_direction(
    runtime: LocalRuntime, opened: Opening, path: str
) -> None:
    waiting(runtime, "o-1")
    failed(runtime, "f-1")
    page = opened(path, viewport={"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_without_scripts_all_is_read_and_acted_on(runtime: LocalRuntime, opened: Opening) -> None:
    execution = waiting(runtime, "o-1")
    page = opened("/executions", java_script_enabled=False)
    page.get_by_role("link", name="o-1", exact=True).click()
    expect(page.locator("#op-1")).to_contain_text("price")
    page.get_by_role("link", name="Terminate").click()
    page.get_by_role("button", name="Terminate").click()
    eventually(lambda: execution.describe().status == "terminated")


def test_pictures_of_the_pages(runtime: LocalRuntime, opened: Opening, tmp_path: Path) -> None:
    """Taken anew for the documents where UPDATE_DOCS asks for that."""
    folder = PICTURES if os.environ.get("UPDATE_DOCS") else tmp_path
    folder.mkdir(exist_ok=True)
    waiting(runtime, "o-1")
    failed(runtime, "f-1")
    assert runtime.start_execution(fan_out, 500, id="wide").result(WAIT) == sum(range(500))
    for name, path, scheme in (
        ("executions", "/executions", "light"),
        ("execution", "/executions/wide", "light"),
        ("failure", "/executions/f-1", "dark"),
    ):
        page = opened(path, color_scheme=scheme, viewport={"width": 1280, "height": 720})
        taken = folder / f"{name}.png"
        page.screenshot(path=taken)
        assert taken.stat().st_size > 10_000

"""A browser for the tests of a module, and what they look at."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from mini_workflow.ui.answers import REFUSED
from tests.left_out import left_out
from tests.ui.flows import failing, order, scheduled
from tests.waiting import WAIT, eventually

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

expect.set_options(timeout=WAIT * 1000)


# Not of the session: as long as Playwright is open, its loop counts as running in this thread, and
# no test of another module could call asyncio.run().
def open_chromium() -> Iterator[Browser]:
    """Open a browser, for a fixture."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        left_out("the pages in a browser", f"none of {', '.join(PROGRAMS)} is on the PATH")
    with sync_playwright() as playwright:
        # As root Chromium does not start in its sandbox; what it opens here is our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


Opening = Callable[..., Page]


def opening(browser: Browser, address: str) -> Iterator[Opening]:
    """Open pages of a server, each in a window of its own, for a fixture; what the browser complains of fails
    the test. What a page that `may_be_gone` asks for may not be there any more.
    """
    complaints: list[str] = []

    def complain(message: ConsoleMessage, answers: tuple[int, ...]) -> None:
        # That an action was refused is an answer, which the browser counts as an error.
        answered = any(f"status of {status}" in message.text for status in answers)
        if message.type in ("error", "warning") and not answered:
            complaints.append(message.text)

    contexts: list[Any] = []

    def open_page(path: str, *, may_be_gone: bool = False, **options: Any) -> Page:
        answers = (REFUSED, 404) if may_be_gone else (REFUSED,)
        context = browser.new_context(**options)
        context.set_default_timeout(WAIT * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complain(message, answers))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{address}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def waiting(runtime: Any, name: str) -> Any:
    """Start an order of that id, and have it wait for its approval."""
    execution = runtime.start_execution(order, name, id=name, tags={"customer": name})
    eventually(lambda: not execution.describe().busy and len(execution.history()) >= 3)
    return execution


def failed(runtime: Any, name: str) -> None:
    """Have an execution of that id fail."""
    execution = runtime.start_execution(failing, id=name)
    with pytest.raises(ValueError, match="row 219"):
        execution.result(WAIT)


def pause_resume_and_trigger(runtime: Any, page: Page) -> None:
    """Do so with the schedule that is called nightly, on the page of schedules."""
    page.get_by_role("link", name="Pause").click()
    page.get_by_label("Why").fill("the shop moves")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("row", name="nightly")).to_contain_text("the shop moves")
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Trigger").click()
    eventually(lambda: runtime.list_executions(workflow=scheduled, status="completed"))

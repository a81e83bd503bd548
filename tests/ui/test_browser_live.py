"""Live pages in a browser: what they ask for, what they say where nothing comes, and when things were."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from mini_workflow import Context, LocalRuntime, workflow
from mini_workflow.ui import live
from tests.ui.browsing import Opening, open_chromium, opening, waiting
from tests.ui.flows import paying
from tests.ui.test_serving import served
from tests.waiting import WAIT, eventually

GATES = {"load": threading.Event()}


@workflow("shown-from-start-to-end")
async def gated(ctx: Context) -> str:
    await ctx.task(lambda: GATES["load"].wait(WAIT), name="load")
    return str(await ctx.wait_for_signal("approve"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from open_chromium()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What open pages were looked at for, look by look."""
    made: list[str] = []
    state = live.Watch._state

    def counted(watch: live.Watch, name: str) -> Any:
        made.append(name)
        return state(watch, name)

    monkeypatch.setattr(live, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(live.Watch, "_state", counted)
    return made


@pytest.fixture
def opened(runtime: LocalRuntime, chromium: Browser) -> Iterator[Opening]:
    with served(runtime) as address:
        yield from opening(chromium, address)


def asked_again(page: Page) -> int:
    """How often a page has asked for itself since it was loaded."""
    return page.evaluate(
        "performance.getEntriesByType('resource').filter(e => e.initiatorType === 'fetch').length"
    )


@pytest.mark.parametrize(
    "path", ["/executions", "/executions?workflow=shown-order", "/executions/o-1"]
)
def test_a_page_asks_for_itself_only_when_something_has_changed(
    runtime: LocalRuntime, opened: Opening, looks: list[str], path: str
) -> None:
    execution = waiting(runtime, "o-1")
    page = opened(path)
    expect(page.locator(".live")).to_have_text("live")
    eventually(lambda: len(looks) >= 4)
    assert asked_again(page) == 0
    if path.endswith("o-1"):
        execution.signal("noted", 1)
        expect(page.locator(".evs > li").first).to_contain_text("noted")
    else:
        runtime.start_execution(paying, id="p-1")
        expect(page.locator(".counts a").first).to_contain_text(
            "2" if path == "/executions" else "1"
        )
        eventually(lambda: asked_again(page) == 1)


def test_where_no_changes_come_the_page_asks_by_itself_and_says_of_when_it_is(
    runtime: LocalRuntime, opened: Opening
) -> None:
    waiting(runtime, "o-1")
    page = opened("/executions")
    page.clock.install()
    page.route("**/live?*", lambda route: route.fulfill(status=204))
    page.reload()
    mark = page.locator(".live")
    expect(mark).to_have_text("every 10 s")
    runtime.start_execution(paying, id="p-1")
    runtime.start_execution(paying, id="p-2")
    page.clock.fast_forward(10_000)
    expect(page.get_by_text("2 new: show them")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(1)  # nothing has moved
    # The store is away: what is shown stays, with its time.
    page.route("**/executions", lambda route: route.fulfill(status=409))
    page.clock.fast_forward(10_000)
    expect(mark).to_have_text(re.compile(r"^not live: of \d\d:\d\d:\d\d$"))
    expect(page.locator("tbody tr")).to_have_count(1)


def test_an_execution_is_watched_from_its_start_to_its_end(
    runtime: LocalRuntime, opened: Opening
) -> None:
    GATES["load"].clear()
    runtime.start_execution(gated, id="g-1")
    page = opened("/executions/g-1")
    page.evaluate("window.loadedOnce = true")
    say, icon = page.locator(".say"), page.locator("link[rel=icon]")
    expect(say).to_contain_text("Runs task load")
    expect(page.locator("#op-1 .b.work")).to_have_count(1)
    assert (icon.get_attribute("href") or "").endswith("/running.svg")
    GATES["load"].set()
    expect(say).to_contain_text("Waits for signal approve")
    expect(page.locator("#op-1 .b.done")).to_have_count(1)
    expect(page).to_have_title(re.compile("g-1 running: Waits for signal approve"))
    runtime.get_execution("g-1").signal("approve", "yes")
    expect(page.locator("[data-part=result]")).to_contain_text("yes")
    expect(page.locator(".head .st")).to_have_text("completed")
    expect(page).to_have_title(re.compile("g-1 completed"))
    expect(icon).to_have_attribute("href", re.compile(r"/completed\.svg$"))
    assert page.evaluate("window.loadedOnce")


def test_clock_times_are_in_the_viewer_s_zone_as_the_axis_is(
    runtime: LocalRuntime, opened: Opening
) -> None:
    waiting(runtime, "o-1")
    page = opened("/executions/o-1", timezone_id="Asia/Tokyo")
    time = page.locator("#e1 time")
    utc, shown = page.evaluate(
        """() => {
            const at = new Date(document.querySelector("#e1 time").dateTime);
            return ["UTC", "Asia/Tokyo"].map(zone => at.toLocaleTimeString("en-GB", { timeZone: zone }));
        }"""
    )
    expect(time).to_have_text(shown)
    expect(time).to_have_attribute("title", re.compile(f"{shown} · .*{utc} UTC$"))
    started = page.locator(".facts time").first
    expect(started).to_have_text(re.compile("now|ago"))
    page.keyboard.press("z")
    expect(started).to_contain_text(shown)
    page.keyboard.press("z")
    expect(time).to_have_text(utc)

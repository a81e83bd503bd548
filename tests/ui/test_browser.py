"""The pages in a browser, as a person uses them."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import urljoin

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, expect

from mini_workflow import ExecutionNotFound, LocalRuntime, UsageError
from mini_workflow.engine.execution import Execution
from mini_workflow.ui.actions import Asked
from tests.paths import ROOT
from tests.ui.browsing import (
    Opening,
    failed,
    open_chromium,
    opening,
    pause_resume_and_trigger,
    waiting,
)
from tests.ui.flows import (
    HOSTILE,
    fan_out,
    hostile,
    in_a_queue,
    long_task,
    mixed,
    mother,
    scheduled,
    slotted,
    telling,
    waves,
)
from tests.ui.test_serving import served
from tests.waiting import WAIT, eventually

PICTURES = ROOT / "docs" / "pictures"

IN_VIEWPORT = """
one => new Promise(tell => new IntersectionObserver(([seen], observer) => {
    observer.disconnect();
    tell(seen.isIntersecting);
}).observe(one))
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from open_chromium()


@pytest.fixture
def address(runtime: LocalRuntime) -> Iterator[str]:
    with served(runtime, name="orders.db") as address:
        yield address


@pytest.fixture
def opened(chromium: Browser, address: str) -> Iterator[Opening]:
    yield from opening(chromium, address)


def test_a_group_is_turned_over_in_place(runtime: LocalRuntime, opened: Opening) -> None:
    execution = runtime.start_execution(mixed, 130, 2, id="m-1")
    eventually(lambda: [one.kind for one in execution.describe().waits] == ["signal"])
    page = opened("/executions/m-1")
    group = page.locator(".tl-in > details.grp")
    group.locator("> summary").click()
    rows = group.locator("[data-inside] > .row")
    group.get_by_role("link", name="All").click()
    expect(rows).to_have_count(100)
    group.get_by_role("link", name="Next").click()
    expect(rows).to_have_count(30)
    group.get_by_role("link", name="failed 2").click()
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("ValueError: row")
    # What happens meanwhile leaves it so.
    execution.signal("seen")
    expect(page.locator(".head .st")).to_have_text("completed")
    expect(rows).to_have_count(2)
    assert page.url.endswith("/executions/m-1")


def test_a_fan_out_of_ten_thousand_is_opened_scrolled_and_filtered(
    runtime: LocalRuntime, opened: Opening
) -> None:
    assert runtime.start_execution(fan_out, 10_000, id="wide").result(WAIT) == sum(range(10_000))
    page = opened("/executions/wide")
    group = page.locator("details.grp")
    expect(group).to_have_count(1)
    group.locator("summary").click()
    expect(group.locator(".row").first).to_be_visible()
    events = page.locator(".evs > li")
    expect(events.first).to_be_in_viewport()
    page.locator(".evs").hover()

    def turned_to_the_end() -> bool:
        # A browser that is busy drops what comes from a wheel, or turns to an end that is none
        # any more once the page is laid out.
        page.mouse.wheel(0, 100_000)
        return events.last.evaluate(IN_VIEWPORT)

    eventually(turned_to_the_end)
    expect(events.first).not_to_be_in_viewport()
    page.get_by_role("link", name="Older events").click()
    expect(events.first).to_contain_text("19802")
    page.get_by_role("link", name="Tasks").click()
    expect(events).to_have_count(200)
    page.get_by_role("searchbox", name="Search the events").fill("#9999 ")
    page.keyboard.press("Enter")
    expect(page.locator(".evs > li")).to_have_count(2)


def test_what_waits_for_a_slot_is_drawn_as_waiting(runtime: LocalRuntime, opened: Opening) -> None:
    """Tasks, and an execution whose code has not begun; the legend and the sentence say what it is."""
    execution = runtime.start_execution(slotted, id="s-1")
    eventually(lambda: [one.kind for one in execution.describe().waits].count("slot") == 2)
    runtime.start_execution(in_a_queue, id="q-1")
    page = opened("/executions/s-1")
    rows = page.locator(".row")
    expect(rows.locator("line.slot:not(.past)")).to_have_count(2)
    expect(rows.locator("rect.b.work")).to_have_count(1)
    waits = page.locator(".row", has_text="render 2")
    expect(waits.locator("rect")).to_have_count(0)
    expect(waits.locator(".told")).to_have_text("waits for a slot of limit 'ui.slots'")
    expect(page.locator("main")).to_contain_text(
        "waits for slots of limit 'ui.slots' to run 2 tasks: render 1, render 2"
    )
    legend = page.get_by_role("group", name="What the timeline's marks mean")
    expect(legend).to_contain_text("waits for a slot of a limit")
    expect(legend).to_be_visible()
    expect(legend.locator("line.slot")).to_have_count(1)
    page = opened("/executions/q-1", color_scheme="dark", viewport={"width": 400, "height": 800})
    expect(page.locator(".row line.slot")).to_have_count(1)
    expect(page.locator("main")).to_contain_text("Waits for a slot of limit 'ui.slots' to begin")
    runtime.get_execution("s-1").terminate()
    expect(page.locator(".row line.slot.past")).to_have_count(1)
    expect(page.locator("main")).to_contain_text("Waits for signal go")
    expect(page.locator("main")).to_contain_text("3 of 3, newest first")
    check_access(page)


def test_the_timeline_is_zoomed_by_keys(runtime: LocalRuntime, opened: Opening) -> None:
    waiting(runtime, "o-1")
    page = opened("/executions/o-1")
    inner = page.locator(".tl-in")
    width = inner.evaluate("one => one.scrollWidth")
    page.keyboard.press("+")
    assert inner.evaluate("one => one.scrollWidth") > width
    page.keyboard.press("0")
    assert inner.evaluate("one => one.scrollWidth") == width


def test_what_is_zoomed_to_is_folded_anew_and_has_an_address(
    runtime: LocalRuntime, opened: Opening
) -> None:
    """The waves of a fan-out are one row; that of one wave are rows of their own."""
    execution = runtime.start_execution(waves, 12, id="w-1")
    for _ in range(3):
        execution.signal("next")
    assert execution.result(WAIT) == 36
    page = opened("/executions/w-1")
    expect(page.locator("details.grp")).to_have_count(1)
    page.locator(".over").dblclick()
    page.evaluate("zoomTo(0, 0.02)")
    expect(page.locator("details.grp")).to_have_count(0)
    page.wait_for_url("**from=**")
    # The address brings the same part again, and the whole has none.
    page.reload()
    expect(page.locator("details.grp")).to_have_count(0)
    page.keyboard.press("0")
    expect(page.locator("details.grp")).to_have_count(1)
    page.wait_for_url(lambda address: "from=" not in address)


def test_a_child_opens_in_place_in_the_time_of_its_parent(
    runtime: LocalRuntime, opened: Opening
) -> None:
    runtime.start_execution(mother, id="m-1").result(WAIT)
    page = opened("/executions/m-1")
    child = page.locator("details.kid")
    expect(child).to_have_count(1)
    expect(page.get_by_text("reckon")).to_have_count(0)
    child.locator("summary").first.click()
    expect(child.get_by_text("reckon")).to_be_visible()
    # And one of the child's own.
    child.locator("details.kid summary").click()
    expect(child.locator("details.kid").get_by_text("count")).to_be_visible()


def test_what_is_selected_stays_so_when_its_row_changes(
    runtime: LocalRuntime, opened: Opening
) -> None:
    waiting(runtime, "o-1")
    waiting(runtime, "o-2")
    page = opened("/executions")
    expect(page.locator(".live")).to_have_text("live")
    page.get_by_label("Select o-1").check()
    page.get_by_label("Select o-2").check()
    page.locator("h1").click()  # what has the focus is not touched
    runtime.get_execution("o-1").cancel("no longer wanted")
    expect(page.locator("#x-o-1 .st")).to_have_text("cancelled")
    expect(page.get_by_label("Select o-1")).to_be_checked()
    expect(page.locator("[data-act=cancel]")).to_contain_text("1")
    expect(page.locator("[data-act=restart]")).to_contain_text("1")


def test_a_list_is_narrowed_by_its_fields_and_has_an_address(
    runtime: LocalRuntime, opened: Opening
) -> None:
    waiting(runtime, "o-1")
    waiting(runtime, "o-2")
    failed(runtime, "f-1")
    page = opened("/executions")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    page.get_by_label("Id begins with").fill("o-")
    page.get_by_label("Started").select_option("hour")
    page.get_by_role("button", name="Apply").click()
    expect(rows).to_have_count(2)
    page.get_by_label("Tag").fill("customer=o-2")
    page.get_by_role("button", name="Apply").click()
    expect(rows).to_have_count(1)
    page.get_by_role("link", name="Failed").click()
    expect(page.get_by_text("None matches")).to_be_visible()
    page.reload()
    page.get_by_role("link", name="without tag customer=o-2").click()
    page.get_by_role("link", name="without prefix o-").click()
    expect(page.get_by_role("link", name="f-1", exact=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_text("None matches")).to_be_visible()


def test_an_event_and_its_row_are_marked_together_and_a_value_is_copied(
    runtime: LocalRuntime, opened: Opening
) -> None:
    waiting(runtime, "o-1")
    waiting(runtime, "o-1").signal("approve", {"by": "ann"})
    runtime.get_execution("o-1").result(WAIT)
    page = opened("/executions/o-1", permissions=["clipboard-read", "clipboard-write"])
    event = page.locator(".evs > li", has_text="price").filter(has_text="completed")
    event.locator("summary").first.click()
    row = page.locator("#op-1")
    expect(row).to_have_class(re.compile(r"\bat\b"))
    number = event.get_attribute("id")
    assert page.url.endswith(f"#{number}")
    event.get_by_role("button", name="Copy result").click()
    expect(event.get_by_role("button", name="Copy result")).to_have_text("Copied")
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == {"price": 42.5}
    # The address brings the event again, and a row marks the first event of it.
    page.goto("about:blank")
    page.go_back()
    expect(page.locator(f"#{number}")).to_be_in_viewport()
    row.locator(".lab").click()
    expect(page.locator(".evs > li.at")).to_contain_text("price")


class Together:
    """Two requests to act that are both with the server before either of them does anything."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        arrived, make = Barrier(2), Asked.of

        def of(*about: Any) -> Asked:
            arrived.wait(WAIT)
            return make(*about)

        patch.setattr(Asked, "of", of)

    def press(self, *buttons: tuple[Page, str]) -> None:
        """Press a button on each of two pages, whose forms are filled in."""
        for page, name in buttons:
            page.get_by_role("button", name=name, exact=True).click(no_wait_after=True)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Together:
    return Together(monkeypatch)


def told(page: Page) -> str:
    """What a page says once its action was answered: of which status it is, or why nothing was done."""
    said = page.locator(".head .st, [role=alert]").first
    expect(said).to_be_visible()
    return said.inner_text()


def notes(execution: Execution[Any], kind: str) -> list[str]:
    """What is recorded of a kind of event."""
    return [str(one.note) for one in execution.timeline() if one.kind == kind]


def test_two_pages_act_at_once_and_one_is_told(
    runtime: LocalRuntime, opened: Opening, together: Together
) -> None:
    execution = waiting(runtime, "o-1")
    pages = [opened("/executions/o-1/terminate") for _ in range(2)]
    for number, page in enumerate(pages):
        page.get_by_label("Why").fill(f"by page {number}")
    together.press((pages[0], "Terminate"), (pages[1], "Terminate"))
    said = [told(page) for page in pages]
    (done,) = [number for number, one in enumerate(said) if one == "terminated"]
    refusal = pages[1 - done].get_by_role("alert")
    expect(refusal).to_contain_text("Nothing was done")
    expect(refusal).to_contain_text("terminated")
    # What was typed where nothing was done stays.
    expect(pages[1 - done].get_by_label("Why")).to_have_value(f"by page {1 - done}")
    assert notes(execution, "ExecutionTerminated") == [f"by page {done}"]


def test_one_page_terminates_while_another_one_signals(
    runtime: LocalRuntime, opened: Opening, together: Together
) -> None:
    """Either is first: then the signal has it complete, or it finds nothing that takes it."""
    execution = waiting(runtime, "o-1")
    ends, signals = (
        opened(f"/executions/o-1/{what}") for what in ("terminate", "signal?name=approve")
    )
    ends.get_by_label("Why").fill("enough")
    together.press((ends, "Terminate"), (signals, "Signal"))
    pages = {"terminate": told(ends), "signal": told(signals)}
    eventually(lambda: execution.describe().closed_at)
    kinds = [one.kind for one in execution.timeline()]
    if execution.describe().status == "terminated":
        assert pages["terminate"] == "terminated"
        assert notes(execution, "ExecutionTerminated") == ["enough"]
        assert "ExecutionCompleted" not in kinds
        # A signal that came first is recorded, and its page goes on; one that came late is refused.
        assert ("SignalReceived" in kinds) == ("Nothing was done" not in pages["signal"])
    else:
        assert "Nothing was done" in pages["terminate"]
        assert kinds.count("SignalReceived") == 1
        assert kinds[-1] == "ExecutionCompleted"
        assert "Nothing was done" not in pages["signal"]


def test_one_page_deletes_while_another_one_retries(
    runtime: LocalRuntime, opened: Opening, together: Together
) -> None:
    """What is gone is not retried, and what was retried is not deleted: never both, never neither."""
    failed(runtime, "f-1")
    execution = runtime.get_execution("f-1")
    deletes = opened("/executions/f-1/delete")
    retries = opened("/executions/f-1/retry", may_be_gone=True)
    together.press((deletes, "Delete"), (retries, "Retry"))
    said = deletes.get_by_text(re.compile("^(No executions yet|Nothing was done)"))
    expect(said).to_be_visible()
    if said.inner_text().startswith("No executions"):
        with pytest.raises(ExecutionNotFound):
            execution.describe()
        expect(retries.locator("main")).to_contain_text(
            re.compile("no execution|not there", re.IGNORECASE)
        )
    else:
        expect(deletes.get_by_role("alert")).to_contain_text("Nothing was done")
        eventually(lambda: execution.describe().closed_at)
        assert execution.describe().run == 2
        assert notes(execution, "ExecutionReset") != []
        expect(retries.locator(".head .st")).to_be_visible()


def test_a_list_says_that_it_has_changed_and_moves_nothing(
    runtime: LocalRuntime, opened: Opening
) -> None:
    waiting(runtime, "o-1")
    page = opened("/executions")
    expect(page.locator(".live")).to_have_text("live")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(1)
    waiting(runtime, "o-2")
    fresh = page.get_by_text("1 new: show it")
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


def test_an_execution_is_forked_from_an_event_that_is_clicked(
    runtime: LocalRuntime, opened: Opening
) -> None:
    waiting(runtime, "o-1").signal("approve", "first")
    assert runtime.get_execution("o-1").result(WAIT)["approval"] == "first"
    page = opened("/executions/o-1")
    event = page.locator(".evs > li", has_text="price").filter(has_text="completed").first
    event.locator("summary").first.click()
    event.get_by_role("link", name="Fork behind this event").click()
    page.get_by_label("Id of the new one").fill("again-1")
    page.get_by_role("button", name="Fork").click()
    expect(page.get_by_role("heading", name="again-1")).to_be_visible()
    runtime.get_execution("again-1").signal("approve", "second")
    expect(page.locator(".head .st")).to_have_text("completed")


def test_an_update_is_filled_in_by_the_fields_of_its_handler(
    runtime: LocalRuntime, opened: Opening
) -> None:
    waiting(runtime, "o-1")
    page = opened("/executions/o-1/update")
    page.get_by_label("amount").fill("7")
    page.get_by_role("button", name="Update").click()
    expect(page.locator(".json")).to_contain_text("7")


def test_an_execution_is_paused_resumed_restarted_and_deleted(
    runtime: LocalRuntime, opened: Opening
) -> None:
    execution = waiting(runtime, "o-1")
    page = opened("/executions/o-1")
    status = page.locator(".head .st")
    acts = page.get_by_role("group", name="Actions")
    acts.get_by_role("link", name="Pause").click()
    page.get_by_label("Why").fill("the shop moves")
    page.get_by_role("button", name="Pause").click()
    expect(status).to_have_text("paused")
    page.goto(f"{page.url}/resume")
    page.get_by_role("button", name="Resume").click()
    expect(status).to_have_text("running")
    execution.signal("approve")
    expect(status).to_have_text("completed")
    page.reload()
    acts.get_by_role("link", name="Restart").click()
    page.get_by_role("button", name="Restart").click()
    expect(status).to_have_text("running")
    execution.terminate()
    expect(status).to_have_text("terminated")
    page.reload()
    acts.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No executions yet")).to_be_visible()


def test_a_stream_is_watched_as_it_is_written(runtime: LocalRuntime, opened: Opening) -> None:
    execution = runtime.start_execution(telling, id="t-1")
    eventually(lambda: len(execution.stream("words").read()) == 2)
    page = opened("/executions/t-1")
    stream = page.locator("[data-stream]")
    expect(stream.locator("[data-state]")).to_have_text("live")
    expect(stream.locator("pre")).to_have_text(f"once {HOSTILE}")
    execution.signal("more", " upon a time")
    expect(stream.locator("pre")).to_have_text(f"once {HOSTILE} upon a time")
    expect(stream.locator("[data-state]")).to_have_text("at its end")


def test_the_overviews_lead_to_each_other(runtime: LocalRuntime, opened: Opening) -> None:
    failed(runtime, "f-1")
    runtime.schedules.create("nightly", scheduled, every=3600)
    page = opened("/workflows")
    page.get_by_role("row", name="shown-failure").get_by_role("link", name="slowest tasks").click()
    expect(page.get_by_role("row", name="parse")).to_be_visible()

    page.get_by_role("link", name="Schedules").click()
    pause_resume_and_trigger(runtime, page)
    page.get_by_role("link", name="Backfill").click()
    page.get_by_label("From").fill("2026-01-01T00:00:00")
    page.get_by_label("Until").fill("2026-01-01T01:00:00")
    page.get_by_role("button", name="Backfill").click()
    eventually(lambda: len(runtime.list_executions(workflow=scheduled, status="completed")) == 3)

    page.get_by_role("link", name="Workers").click()
    expect(page.get_by_role("row", name="alive")).to_be_visible()
    page.get_by_role("link", name="Doctor").click()
    expect(page.get_by_text("Nothing is wrong.")).to_be_visible()


def check_access(page: Page) -> None:
    """Have Axe look at an open page, in both schemes of colours, as wide as a telephone and as a screen;
    and a telephone scrolls in one direction.
    """
    page.evaluate(AXE_SCRIPT)
    for scheme, width in itertools.product(("light", "dark"), (400, 1440)):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, page.url
        found: Any = page.evaluate("axe.run({resultTypes: ['violations']})")
        serious = [
            (one["id"], [node["html"] for node in one["nodes"]][:3])
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], (page.url, scheme, width)


PAGES = (
    *("/executions", "/executions/f-1", "/executions/o-1", "/executions/o-1/update"),
    *("/workflows", "/workflow?name=shown-failure", "/schedules", "/limits", "/workers", "/doctor"),
    *("/bulk?action=cancel", "/executions?status=failed&prefix=o-"),
)


def test_axe_finds_no_serious_fault_and_a_telephone_scrolls_in_one_direction(
    runtime: LocalRuntime, opened: Opening
) -> None:
    """In both schemes of colours, as wide as a telephone and as a screen. A page is loaded once: that, and
    to read Axe, takes longer than to look."""
    failed(runtime, "f-1")
    waiting(runtime, "o-1")
    runtime.schedules.create("nightly", scheduled, every=3600)
    # The policy of the pages allows no script from elsewhere.
    page = opened(PAGES[0], viewport={"width": 400, "height": 800}, bypass_csp=True)
    for path in PAGES:
        page.goto(urljoin(page.url, path))
        check_access(page)


def test_members_and_the_progress_of_an_action_on_all_have_no_serious_fault(
    runtime: LocalRuntime, opened: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = runtime.start_execution(mixed, 24, 2, id="m-1")
    eventually(lambda: [one.kind for one in execution.describe().waits] == ["signal"])
    page = opened("/executions/m-1/members?of=1", bypass_csp=True)
    expect(page.locator(".tl-in > .row")).to_have_count(24)
    check_access(page)
    page.goto(urljoin(page.url, "/bulk?action=terminate"))
    page.get_by_role("button", name="Terminate 1").click()
    expect(page.get_by_text("All were asked, or left out.")).to_be_visible()
    check_access(page)

    def refuse(*_args: Any, **_options: Any) -> None:
        raise UsageError("it is not to be")

    monkeypatch.setattr(Execution, "retry", refuse)
    page.goto(urljoin(page.url, "/bulk?action=retry"))
    page.get_by_role("button", name="Retry 1").click()
    expect(page.get_by_text("1 was left out")).to_be_visible()
    check_access(page)


def test_without_scripts_all_is_read_and_acted_on(runtime: LocalRuntime, opened: Opening) -> None:
    execution = waiting(runtime, "o-1")
    page = opened("/executions", java_script_enabled=False)
    page.get_by_role("link", name="o-1", exact=True).click()
    expect(page.locator("#op-1")).to_contain_text("price")
    page.get_by_role("link", name="Terminate").click()
    page.get_by_role("button", name="Terminate").click()
    eventually(lambda: execution.describe().status == "terminated")


NAMELESS = """([root, host, process]) => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const one = texts.currentNode;
        one.data = one.data.replaceAll(root, "").replaceAll(host, "shop").replaceAll(process, "41");
    }
}"""
"""Has a picture tell nothing of the machine on which it is taken."""


def test_pictures_of_the_pages(runtime: LocalRuntime, opened: Opening, tmp_path: Path) -> None:
    """Taken anew for the documents where UPDATE_DOCS asks for that."""
    folder = PICTURES if os.environ.get("UPDATE_DOCS") else tmp_path
    folder.mkdir(exist_ok=True)
    waiting(runtime, "o-1")
    failed(runtime, "f-1")
    assert runtime.start_execution(fan_out, 500, id="wide").result(WAIT) == sum(range(500))
    runtime.schedules.create("nightly", scheduled, every=3600)
    runtime.schedules.get("nightly").trigger()
    held = runtime.start_execution(long_task, id="l-1")
    eventually(lambda: held.describe().waits)
    eventually(lambda: runtime.list_executions(workflow=scheduled, status="completed"))
    for name, path, scheme in (
        ("executions", "/executions", "light"),
        ("execution", "/executions/wide", "light"),
        ("failure", "/executions/f-1", "dark"),
        ("workflows", "/workflows", "light"),
        ("schedules", "/schedules", "light"),
        ("workers", "/workers", "dark"),
    ):
        page = opened(path, color_scheme=scheme, viewport={"width": 1280, "height": 720})
        page.evaluate(NAMELESS, [f"{ROOT}/", socket.gethostname(), str(os.getpid())])
        taken = folder / f"{name}.png"
        page.screenshot(path=taken)
        assert taken.stat().st_size > 10_000
    held.terminate()

"""Forms, addresses and what is told, in a browser: as a person meets them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from mini_workflow import Context, InvalidIdentifier, Limit, LocalRuntime, workflow
from tests.ui.browsing import Opening, failed, open_chromium, opening, waiting
from tests.ui.flows import HOSTILE, paying, scheduled
from tests.ui.test_serving import served
from tests.waiting import WAIT, eventually


@workflow("shown-script")
async def scripted(ctx: Context) -> str:
    await ctx.wait_for_signal(HOSTILE)
    return HOSTILE


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from open_chromium()


@pytest.fixture
def opened(runtime: LocalRuntime, chromium: Browser) -> Iterator[Opening]:
    with served(runtime, name="orders.db") as address:
        yield from opening(chromium, address)


def test_an_update_that_is_refused_keeps_what_was_typed(
    runtime: LocalRuntime, opened: Opening
) -> None:
    execution = waiting(runtime, "o-1")
    page = opened("/executions/o-1/update")
    amount, alert = page.get_by_label("amount"), page.get_by_role("alert")
    for typed, said in (("twelve", "amount"), ("-1", "only upwards")):
        amount.fill(typed)
        page.get_by_role("button", name="Update").click()
        expect(alert).to_contain_text("Nothing was done")
        expect(alert).to_contain_text(said)
        expect(amount).to_have_value(typed)
    assert execution.query("state") == {"raised": 0}
    amount.fill("12")
    page.get_by_role("button", name="Update").click()
    expect(page.locator(".json")).to_contain_text("12")


def test_a_limit_and_a_backfill_that_are_refused_keep_what_was_typed(
    runtime: LocalRuntime, opened: Opening
) -> None:
    runtime.limits.create(Limit("shown.typed", concurrency=2))
    page = opened("/limits/shown.typed/change")
    page.get_by_label("Slots given").fill("7")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_role("alert")).to_contain_text("give both, or neither")
    expect(page.get_by_label("Slots given")).to_have_value("7")
    page.get_by_label("within seconds").fill("60")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_role("main")).to_contain_text("2 at a time, 7 within")

    runtime.schedules.create("nightly", scheduled, every=3600)
    page = opened("/schedules/nightly/backfill")
    page.get_by_label("From").fill("2026-01-02T00:00:00")
    page.get_by_label("Until").fill("2026-01-01T00:00:00")
    page.get_by_role("button", name="Backfill").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    expect(page.get_by_label("From")).to_have_value(re.compile("2026-01-02T00:00"))


def test_an_execution_is_asked_its_promise_failed_and_its_history_downloaded(
    runtime: LocalRuntime, opened: Opening
) -> None:
    waiting(runtime, "o-1")
    page = opened("/executions/o-1/query")
    page.get_by_role("button", name="Query").click()
    expect(page.locator(".json")).to_contain_text("raised")
    page.get_by_role("link", name="Back to it").click()
    page.get_by_role("group", name="Actions").get_by_role("link", name="Cancel").click()
    page.get_by_label("Why").fill("ordered twice")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".head .st")).to_have_text("cancelled")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the history").click()
    document = json.loads(Path(download.value.path()).read_text())
    assert "ordered twice" in json.dumps(document)

    execution = runtime.start_execution(paying, id="p-1")
    eventually(execution.open_promises)
    page = opened("/executions/p-1/fail-promise")
    page.get_by_label("Why").fill("the card was refused")
    page.get_by_role("button", name="Fail a promise").click()
    expect(page.locator(".head .st")).to_have_text("failed")
    expect(page.locator(".say")).to_contain_text("the card was refused")
    with pytest.raises(RuntimeError, match="the card was refused"):
        execution.result(WAIT)
    # The list says how it ended, too.
    page.get_by_role("link", name="Executions", exact=True).first.click()
    expect(page.locator("#x-p-1")).to_contain_text("RuntimeError: the card was refused")
    expect(page.locator("#x-o-1")).to_contain_text("Cancelled after")


def test_all_parts_of_an_address_stay_when_one_is_chosen(
    runtime: LocalRuntime, opened: Opening
) -> None:
    failed(runtime, "f-1")
    page = opened("/executions/f-1")
    page.get_by_role("link", name="True scale").click()
    page.get_by_role("link", name="Failures").click()
    page.get_by_role("searchbox", name="Search the events").fill("row 219")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=row**")
    for part in ("scale=true", "e=failures"):
        assert part in page.url
    expect(page.get_by_role("link", name="True scale")).to_have_attribute("aria-current", "true")
    # A part of the time that is zoomed to stays, too.
    page.evaluate("document.querySelector('.tl').dataset.folds = ''; zoomTo(0.2, 0.6)")
    page.wait_for_url(re.compile(r"from=\d"))
    page.get_by_role("link", name="All", exact=True).click()
    page.wait_for_url("**e=all**")
    assert re.search(r"from=\d+&to=\d+", page.url)
    for part in ("scale=true", "q=row"):
        assert part in page.url
    page.go_back()
    expect(page.get_by_role("link", name="Failures")).to_have_attribute("aria-current", "true")


def test_a_filter_that_means_nothing_is_said_before_it_is_asked_for(
    runtime: LocalRuntime, opened: Opening
) -> None:
    waiting(runtime, "o-1")
    page = opened("/executions")
    tag = page.get_by_label("Tag", exact=True)
    tag.fill("o-1")
    page.get_by_role("button", name="Apply").click()
    assert tag.evaluate("one => one.validity.patternMismatch")
    assert page.url.endswith("/executions")
    tag.fill("customer=o-1")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**tag=**")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_keys_are_listed_and_the_list_is_closed(runtime: LocalRuntime, opened: Opening) -> None:
    waiting(runtime, "o-1")
    page = opened("/executions")
    expect(page.locator(".live")).to_have_text("live")
    keys = page.get_by_role("dialog", name="Keys")
    page.keyboard.press("?")
    expect(keys).to_contain_text("the next failure")
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_label("Select o-1")).to_be_checked()
    page.get_by_role("button", name="Keys").click()
    keys.get_by_role("button", name="Close").click()
    expect(keys).to_be_hidden()


def test_what_is_named_like_a_script_is_text_on_every_page(
    runtime: LocalRuntime, opened: Opening
) -> None:
    with pytest.raises(InvalidIdentifier, match="cannot name a workflow"):
        workflow(HOSTILE, scripted.handler)
    execution = runtime.start_execution(scripted, id="s-1", tags={"name": HOSTILE})
    eventually(lambda: execution.describe().waits)
    page = opened("/executions")
    page.on("dialog", lambda dialog: pytest.fail(f"a script has run: {dialog.message}"))
    expect(page.locator("#x-s-1")).to_contain_text(HOSTILE)
    page.locator("#x-s-1").get_by_role("link").click()
    expect(page.locator(".say")).to_contain_text(f"Waits for signal {HOSTILE}")
    page.locator(".say").get_by_role("link", name="Signal").click()
    expect(page.get_by_role("textbox", name="Name")).to_have_value(HOSTILE)
    page.get_by_role("button", name="Signal").click()
    expect(page.locator("[data-part=result]")).to_contain_text(HOSTILE)
    expect(page.locator(".facts .tag")).to_have_text(f"name {HOSTILE}")
    assert page.locator("main script").count() == 0
    # Nor where it stands in an address.
    page.get_by_role("link", name="Executions", exact=True).first.click()
    page.get_by_label("Tag", exact=True).fill(f"name={HOSTILE}")
    page.get_by_label("Workflow", exact=True).fill("nobody")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_label("Tag", exact=True)).to_have_value(f"name={HOSTILE}")
    expect(page.get_by_role("link", name=f"without tag name={HOSTILE}")).to_be_visible()
    page.get_by_role("link", name="without workflow nobody").click()
    expect(page.locator("#x-s-1")).to_be_visible()


def test_without_scripts_every_page_reads_and_says_the_zone_of_its_times(
    runtime: LocalRuntime, opened: Opening
) -> None:
    waiting(runtime, "o-1")
    failed(runtime, "f-1")
    runtime.schedules.create("nightly", scheduled, every=3600)
    runtime.limits.create(Limit("shown.typed", concurrency=2))
    page = opened("/executions", java_script_enabled=False)
    expect(page.get_by_text("times: UTC")).to_be_visible()
    expect(page.get_by_role("button", name="times")).to_have_count(0)
    expect(page.get_by_role("button", name="Keys")).to_have_count(0)
    expect(page.get_by_role("row", name="f-1")).to_contain_text("ValueError: row 219")
    for name, said in (
        ("Workflows", "shown-failure"),
        ("Schedules", "every 1 h"),
        ("Limits", "Nothing holds it, nothing waits."),
        ("Workers", "alive"),
        ("Doctor", "Nothing is wrong."),
    ):
        page.get_by_role("link", name=name).click()
        expect(page.get_by_role("main")).to_contain_text(said)
    page.get_by_role("link", name="Executions").click()
    page.get_by_label("Id begins with").fill("f-")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name="f-1", exact=True).click()
    expect(page.get_by_text("raise ValueError")).to_be_visible()

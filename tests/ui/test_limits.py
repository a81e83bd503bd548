"""The page of limits: who holds slots and who waits, and a change of one."""

from __future__ import annotations

import re
from html import unescape

from starlette.testclient import TestClient

from mini_workflow import Context, Limit, LocalRuntime, workflow
from tests.ui.conftest import Opening
from tests.ui.flows import slotted, token_in
from tests.ui.test_overviews import text_of
from tests.waiting import eventually

NARROW = Limit("shown.narrow", concurrency=2)


@workflow("shown-limited", limit=NARROW)
async def limited(ctx: Context) -> None:
    await ctx.wait_for_signal("go")


def crowd(runtime: LocalRuntime, count: int) -> None:
    """So many executions, of which two have slots."""
    for n in range(count):
        runtime.start_execution(limited, id=f"n-{n}", limit_key=f"c-{n % 2}")
    eventually(lambda: runtime.limits.get(NARROW.name).describe().waiting == count - 2)


def test_holders_and_those_that_wait_are_shown(runtime: LocalRuntime, browser: TestClient) -> None:
    assert "No limits yet" in browser.get("/limits").text
    crowd(runtime, 5)
    page = browser.get("/limits").text
    said = text_of(page)
    assert "All 2 slots are held, and 3 more are waited for." in said
    assert "At once: 2 of 2" in said
    assert page.count('<rect class="u"') == 2
    assert '<a class="id" href="/executions/n-0">n-0</a>' in page
    assert re.search(r"c-0 1 2 c-1 1 1", said)
    assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:|<script>", page)
    assert "Waits for a slot of limit" in text_of(browser.get("/executions").text)


def test_a_limit_is_changed(runtime: LocalRuntime, browser: TestClient) -> None:
    crowd(runtime, 3)
    address = f"/limits/{NARROW.name}/change"
    form = {"form-token": token_in(browser.get(address).text)}
    for wrong, said in (
        ({"concurrency": "many"}, "give a whole number"),
        ({"count": "3"}, "give both, or neither"),
        ({}, "give concurrency=, rate= or both"),
    ):
        refused = browser.post(address, data={**form, **wrong})
        assert (refused.status_code, said in text_of(refused.text)) == (409, True)
    change = {"concurrency": "9", "count": "100", "seconds": "60", "per_key": "yes"}
    assert browser.post(address, data={**form, **change}).status_code == 303
    found = runtime.limits.get(NARROW.name).describe()
    assert (found.concurrency, found.rate is not None, found.per_key) == (9, True, True)
    assert "9 at a time, 100 within 60 s for each key" in text_of(browser.get("/limits").text)
    assert browser.post(address, data=change).status_code == 409
    assert browser.get("/limits/nobody/change").status_code == 404
    assert browser.get("/limits/no%20name/change").status_code == 400


def test_a_page_that_only_reads_changes_nothing(runtime: LocalRuntime, opened: Opening) -> None:
    runtime.limits.create(NARROW)
    pages = opened(read_only=True)
    page = pages.get("/limits").text
    assert "Nothing holds it, nothing waits." in page
    assert "/change" not in page
    assert pages.get(f"/limits/{NARROW.name}/change").status_code == 404
    assert pages.post(f"/limits/{NARROW.name}/change").status_code == 403


def test_tasks_that_wait_for_a_slot_are_not_said_to_run(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    """Also where the code awaits them together with one that does."""
    execution = runtime.start_execution(slotted, id="s-1")
    expected = [("task", "render 0"), ("slot", "render 1"), ("slot", "render 2")]

    def waits() -> list[tuple[str, str]]:
        return [(one.kind, one.name) for one in execution.describe().waits]

    eventually(lambda: waits() == expected)
    said = unescape(text_of(browser.get("/executions/s-1").text))
    assert (
        "waits for slots of limit 'ui.slots' to run 2 tasks: render 1, render 2; the oldest" in said
    )
    for name in ("render 1", "render 2"):
        assert f"runs task {name}" not in said

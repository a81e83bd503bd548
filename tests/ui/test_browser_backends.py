"""The main pages and actions in a browser, on Postgres and on the emulated AWS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.ui.browsing import open_chromium
from tests.ui.flows import order
from tests.ui.test_serving import served
from tests.waiting import WAIT, eventually


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    yield from open_chromium()


@pytest.fixture(params=["postgres", pytest.param("aws", marks=pytest.mark.aws)])
def elsewhere(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A runtime that is not on a file."""
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


def test_an_execution_is_found_signalled_and_watched_to_its_end(
    elsewhere: Any, chromium: Browser
) -> None:
    execution = elsewhere.start_execution(order, "o-1", id="o-1")
    eventually(lambda: not execution.describe().busy and len(execution.history()) >= 3)
    with served(elsewhere) as address:
        context = chromium.new_context()
        context.set_default_timeout(WAIT * 1000)
        page = context.new_page()
        for path in ("workflows", "schedules", "limits", "workers", "doctor"):
            answer = page.goto(f"{address}/{path}")
            assert answer is not None
            assert answer.status == 200, path
        page.goto(f"{address}/workers")
        told = "1 alive" if hasattr(elsewhere, "owners") else "The functions of the engine run"
        expect(page.get_by_role("main")).to_contain_text(told)
        page.goto(f"{address}/executions")
        page.get_by_role("link", name="o-1", exact=True).click()
        page.locator(".say").get_by_role("link", name="Signal").click()
        page.get_by_label("Value").fill('"yes"')
        page.get_by_role("button", name="Signal").click()
        expect(page.locator(".head .st")).to_have_text("completed", timeout=WAIT * 1000)
        expect(page.locator("[data-part=result]")).to_contain_text("yes")
        context.close()
    assert execution.result(WAIT)["approval"] == "yes"

"""Values of a history as JSON files: all of what a page cuts."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mini_workflow import Context, LocalRuntime, workflow
from mini_workflow.ui.values import COPIED
from tests.ui.conftest import Opening
from tests.ui.flows import order
from tests.waiting import WAIT

LONG = "<script>" + "é" * (COPIED + 1)


class Touching:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text

    def __reduce__(self) -> Any:
        return touch, (self.path, self.text)


def touch(path: Path, text: str) -> Touching:
    path.touch()
    return Touching(path, text)


@workflow("shown-touching")
async def touching(ctx: Context, path: Path) -> None:
    await ctx.task(lambda: Touching(path, "x"), name="make")


def downloads_in(page: str) -> dict[str, str]:
    found = re.findall(r'href="([^"]+/value\?[^"]+)" aria-label="Download ([^"]+)"', page)
    return {name: unescape(address) for address, name in found}


@pytest.fixture
def page(runtime: LocalRuntime, browser: TestClient) -> str:
    execution = runtime.start_execution(order, LONG, id="o:1@x")
    execution.signal("approve", list(range(1_000)))
    execution.result(WAIT)
    return browser.get("/executions/o:1@x").text


def test_a_value_that_is_cut_is_downloaded_whole(page: str, browser: TestClient) -> None:
    found = downloads_in(page)
    assert found.keys() >= {"0", "result"}
    answer = browser.get(found["0"])
    assert json.loads(answer.content) == LONG
    result = browser.get(found["result"])
    assert json.loads(result.content) == {"order": LONG, "approval": list(range(1_000))}
    for one, named in ((answer, "o_1_x-1-arguments-0"), (result, r"o_1_x-\d+-result")):
        assert one.headers["content-type"] == "application/json"
        assert one.headers["x-content-type-options"] == "nosniff"
        assert re.fullmatch(
            f'attachment; filename="{named}.json"', one.headers["content-disposition"]
        )


def test_a_value_that_stands_there_whole_is_not_offered(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    execution = runtime.start_execution(order, "short", id="o-2")
    execution.signal("approve", "yes")
    execution.result(WAIT)
    assert downloads_in(browser.get("/executions/o-2").text) == {}


def test_what_is_no_value_is_said(page: str, browser: TestClient) -> None:
    for address in ("event=1&name=nothing", "event=999&name=result", "name=result", "event=1"):
        answer = browser.get(f"/executions/o:1@x/value?{address}")
        assert answer.status_code == 400
        assert "has no value" in answer.text
    item = browser.get("/executions/o:1@x/value?event=1&name=arguments&item=7")
    assert item.status_code == 400
    assert browser.get("/executions/nobody/value?event=1&name=result").status_code == 404


def test_nothing_is_unpickled(runtime: LocalRuntime, browser: TestClient, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    execution = runtime.start_execution(touching, touched, id="t-1")
    execution.result(WAIT)
    touched.unlink(missing_ok=True)  # by the engine, which may
    made = next(one.number for one in execution.timeline() if one.kind == "TaskCompleted")
    answer = browser.get(f"/executions/t-1/value?event={made}&name=result")
    assert answer.status_code == 200
    assert isinstance(json.loads(answer.content), str)
    assert not touched.exists()


def test_a_stranger_downloads_nothing(page: str, opened: Opening) -> None:
    pages = opened(token="secret", read_only=True)
    address = "/executions/o:1@x/value?event=1&name=arguments&item=0"
    assert pages.get(address).status_code == 401
    shown = pages.get(address, headers={"authorization": "Bearer secret"})
    assert json.loads(shown.content) == LONG

"""Who may look, and who may act."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from mini_workflow import LocalRuntime
from mini_workflow.ui import app
from tests.ui.conftest import HOST, Opening
from tests.ui.flows import order, token_in


@pytest.fixture(autouse=True)
def _started(runtime: LocalRuntime) -> None:
    runtime.start_execution(order, "o-1", id="o-1")


def status(runtime: LocalRuntime) -> str:
    return runtime.get_execution("o-1").describe().status


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_a_site_whose_name_is_pointed_here_gets_nothing(browser: TestClient, host: str) -> None:
    answer = browser.get("/executions", headers={"host": host})
    assert answer.status_code == 421
    assert "o-1" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:9", "localhost", "LOCALHOST:80", "[::1]:8233"])
def test_the_names_of_this_machine_are_expected(browser: TestClient, host: str) -> None:
    assert browser.get("/executions", headers={"host": host}).status_code == 200


def test_another_name_is_expected_if_it_was_given(opened: Opening) -> None:
    pages = opened(hosts=["flows.example"])
    assert pages.get("/executions", headers={"host": "flows.example"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:1"}],
)
def test_a_page_from_elsewhere_may_not_act(
    runtime: LocalRuntime, browser: TestClient, headers: dict[str, str]
) -> None:
    form = {"form-token": token_in(browser.get("/executions/o-1/terminate").text)}
    answer = browser.post("/executions/o-1/terminate", data=form, headers=headers)
    assert answer.status_code == 403
    assert status(runtime) == "running"


@pytest.mark.parametrize("token", [None, "", "0" * 64, "é"])
def test_a_form_that_no_page_has_made_does_nothing(
    runtime: LocalRuntime, browser: TestClient, token: str | None
) -> None:
    browser.get("/executions")
    form: dict[str, Any] = {} if token is None else {"form-token": token}
    assert browser.post("/executions/o-1/terminate", data=form).status_code == 409
    assert browser.post("/executions/bulk", data={**form, "ids": "o-1"}).status_code == 409
    assert status(runtime) == "running"


def test_a_form_is_of_the_browser_that_it_was_made_for(
    runtime: LocalRuntime, opened: Opening
) -> None:
    mine = opened()
    theirs = TestClient(mine.app, base_url=HOST)
    form = {"form-token": token_in(theirs.get("/executions/o-1/terminate").text)}
    mine.get("/executions")
    assert mine.post("/executions/o-1/terminate", data=form).status_code == 409
    assert status(runtime) == "running"


def test_read_only_pages_show_no_action_and_refuse_all(
    runtime: LocalRuntime, opened: Opening
) -> None:
    pages = opened(read_only=True)
    for address in ("/executions", "/executions/o-1"):
        page = pages.get(address).text
        assert 'method="post"' not in page
        assert "checkbox" not in page
        assert "/terminate" not in page
        assert "read only" in page
    assert pages.get("/executions/o-1/terminate").status_code == 404
    assert pages.post("/executions/o-1/terminate").status_code == 403
    assert pages.post("/executions/bulk", data={"ids": "o-1"}).status_code == 403
    assert status(runtime) == "running"


def test_a_token_is_shown_once_and_kept_in_a_cookie(opened: Opening) -> None:
    pages = opened(token="let-me-in")
    assert pages.get("/executions").status_code == 401
    assert pages.get("/executions?token=wrong").status_code == 401
    assert pages.get("/static/page.css").status_code == 401
    shown = pages.get("/executions?status=running&token=let-me-in")
    assert shown.status_code == 303
    # The token does not stay in the address, in which others could read it.
    assert shown.headers["location"] == "/executions?status=running"
    cookie = shown.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "let-me-in" not in cookie
    assert pages.get("/executions").status_code == 200


def test_a_program_shows_its_token_in_a_header(opened: Opening) -> None:
    pages = opened(token="let-me-in")
    known = {"authorization": "Bearer let-me-in"}
    assert pages.get("/executions", headers=known).status_code == 200
    assert pages.get("/executions", headers={"authorization": "Bearer no"}).status_code == 401


def test_a_cookie_that_was_made_up_opens_nothing(opened: Opening) -> None:
    pages = opened(token="let-me-in")
    for made_up in ("x", "x.y", "a." + "0" * 64):
        answer = pages.get("/executions", headers={"cookie": f"mini-workflow={made_up}"})
        assert answer.status_code == 401


def test_the_pages_are_mounted_in_another_application(runtime: LocalRuntime) -> None:
    outer = Starlette(routes=[Mount("/flows", app(runtime))])
    with TestClient(outer, base_url=HOST, follow_redirects=False) as browser:
        page = browser.get("/flows/executions")
        assert page.status_code == 200
        assert 'href="/flows/executions/o-1"' in page.text
        assert browser.get("/flows/static/page.css").status_code == 200
        form = {"form-token": token_in(browser.get("/flows/executions/o-1/cancel").text)}
        answer = browser.post("/flows/executions/o-1/cancel", data=form)
        assert answer.headers["location"] == "/flows/executions/o-1"


def test_a_form_that_is_too_large_is_refused(browser: TestClient) -> None:
    browser.get("/executions")
    answer = browser.post("/executions/o-1/signal", data={"value": "x" * 2_000_000})
    assert answer.status_code == 400

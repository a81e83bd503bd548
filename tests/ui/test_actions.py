"""What a person can ask of an execution, by forms, without a browser."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from mini_workflow import ExecutionNotFound, LocalRuntime
from tests.ui.conftest import Opening
from tests.ui.flows import act, failing, order, paying, token_in
from tests.ui.test_bulk_all import confirm, ended
from tests.ui.test_overviews import text_of
from tests.waiting import WAIT, eventually


def waiting(runtime: LocalRuntime, name: str = "o-1") -> Any:
    execution = runtime.start_execution(order, name, id=name)
    eventually(lambda: not execution.describe().busy and len(execution.history()) >= 3)
    return execution


def paid_later(runtime: LocalRuntime) -> Any:
    execution = runtime.start_execution(paying, id="p-1")
    eventually(execution.open_promises)
    return execution


def test_a_promise_is_completed_without_showing_its_token(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    execution = paid_later(runtime)
    (promise,) = execution.open_promises()
    page = browser.get("/executions/p-1").text
    assert f"/p-1/complete-promise?name={promise.number}" in page
    form = browser.get("/executions/p-1/complete-promise").text
    assert f"#{promise.number} payment" in form
    assert promise.token not in page + form
    done = act(browser, "p-1", "complete-promise", promise=str(promise.number), value="42.50")
    assert done.status_code == 303
    assert execution.result(WAIT) == {"paid": 42.5}
    again = act(browser, "p-1", "complete-promise", promise=str(promise.number), value="1")
    assert again.status_code == 409
    assert "is not open any more" in again.text


def test_a_promise_fails_with_the_reason(runtime: LocalRuntime, browser: TestClient) -> None:
    execution = paid_later(runtime)
    number = str(execution.open_promises()[0].number)
    act(browser, "p-1", "fail-promise", promise=number, reason="the bank refused")
    with pytest.raises(RuntimeError, match="the bank refused"):
        execution.result(WAIT)
    assert "complete-promise" not in browser.get("/executions/p-1").text


def test_an_execution_is_forked_behind_an_event(runtime: LocalRuntime, browser: TestClient) -> None:
    execution = waiting(runtime)
    execution.signal("approve", "first")
    execution.result(WAIT)
    page = browser.get("/executions/o-1").text
    events = len(execution.history())
    assert f"/fork?at={events - 1}" in page
    assert f"/fork?at={events}" not in page  # with it the execution ends
    kept = next(e.number for e in execution.timeline() if e.kind == "TaskCompleted")
    assert f'value="{kept}"' in browser.get(f"/executions/o-1/fork?at={kept}").text
    made = act(browser, "o-1", "fork", at=str(kept), id="again-1")
    assert made.headers["location"] == "/executions/again-1"
    runtime.get_execution("again-1").signal("approve", "second")
    assert runtime.get_execution("again-1").result(WAIT)["approval"] == "second"
    for at, said in (("", "is no number"), ("999", "give the number of events to keep")):
        refused = act(browser, "o-1", "fork", at=at)
        assert refused.status_code == 409
        assert said in refused.text


def test_an_execution_is_deleted_once_it_has_closed(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    execution = waiting(runtime)
    assert "/o-1/delete" not in browser.get("/executions/o-1").text
    refused = act(browser, "o-1", "delete")
    assert refused.status_code == 409
    execution.signal("approve")
    execution.result(WAIT)
    gone = act(browser, "o-1", "delete")
    assert gone.headers["location"] == "/executions"
    with pytest.raises(ExecutionNotFound):
        runtime.get_execution("o-1")


def test_why_something_is_deleted_and_by_whom_is_logged(
    runtime: LocalRuntime, opened: Opening, caplog: pytest.LogCaptureFixture
) -> None:
    """One, some that are selected and all that match: no history is left that could say it."""
    pages = opened(user_header="X-User")
    pages.headers["X-User"] = "ann"
    for name in ("f-1", "f-2", "f-3"):
        with pytest.raises(ValueError, match="row 219"):
            runtime.start_execution(failing, id=name).result(WAIT)
    form = text_of(pages.get("/executions/f-1/delete").text)
    assert "Why (logged, since no history is left)" in form
    why = {"reason": "  asked\nfor "}
    with caplog.at_level(logging.INFO, "mini_workflow.engine.executions"):
        assert act(pages, "f-1", "delete", **why).status_code == 303
        token = {"form-token": token_in(pages.get("/executions").text)}
        some = {**token, **why, "action": "delete", "ids": ["f-2"], "confirmed": "1"}
        assert "asked of 1 of 1" in pages.post("/executions/bulk", data=some).text
        counted = pages.get("/bulk?action=delete").text
        ended(pages, confirm(pages, counted, reason="old"))
    told = [(r.execution_id, r.asked_by, r.reason) for r in caplog.records if hasattr(r, "reason")]
    assert told == [
        ("f-1", "ann, on the page", "asked for"),
        ("f-2", "ann, on the page", "asked for"),
        ("f-3", "ann, on the page", "old"),
    ]
    assert "[f-1] was asked to delete by ann, on the page: asked for" in caplog.text


def test_what_has_closed_of_the_selected_is_deleted(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    waiting(runtime)
    for name in ("f-1", "f-2"):
        with pytest.raises(ValueError, match="row 219"):
            runtime.start_execution(failing, id=name).result(WAIT)
    form = {
        "form-token": token_in(browser.get("/executions").text),
        "action": "delete",
        "ids": ["f-1", "f-2", "o-1"],
    }
    assert "cannot be taken back" in browser.post("/executions/bulk", data=form).text
    done = browser.post("/executions/bulk", data={**form, "confirmed": "3"}).text
    assert "asked of 2 of 3" in done
    assert [one.id for one in runtime.list_executions()] == ["o-1"]


def test_a_form_has_the_fields_of_the_handler(runtime: LocalRuntime, browser: TestClient) -> None:
    waiting(runtime)
    form = browser.get("/executions/o-1/update").text
    assert 'value="raise"' in form
    assert 'name="arg-amount"' in form
    assert re.search(r'amount <span class="meta">int', form)
    fields = {"name": "raise", "typed": "1"}
    assert "has answered" in act(browser, "o-1", "update", **fields, **{"arg-amount": "5"}).text
    wrong = act(browser, "o-1", "update", **fields, **{"arg-amount": "five"})
    assert wrong.status_code == 409
    assert "must be a whole number" in wrong.text
    answer = act(browser, "o-1", "query", name="state", typed="1").text
    assert re.search(r"raised</b> <span class=\"v\">5", answer)


def test_a_form_offers_the_signal_that_is_waited_for(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    waiting(runtime)
    assert "/executions/o-1/signal?name=approve" in browser.get("/executions/o-1").text
    form = browser.get("/executions/o-1/signal").text
    assert 'name="name" value="approve"' in form
    assert 'name="value"' in form  # nothing is known of its value


def test_read_only_pages_offer_no_fork(runtime: LocalRuntime, opened: Opening) -> None:
    waiting(runtime)
    pages = opened(read_only=True)
    assert "fork" not in pages.get("/executions/o-1").text
    assert pages.get("/executions/o-1/delete").status_code == 404

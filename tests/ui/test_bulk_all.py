"""Actions on all executions that match a filter: counted, confirmed, and done beside the pages."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from mini_workflow import LocalRuntime, StoreUnavailable, UsageError, ValueTooLarge
from mini_workflow.engine.execution import Execution
from mini_workflow.ui.actions import ACTIONS
from mini_workflow.ui.bulk_run import AT_ONCE, PART, SHOWN, BulkRun, BulkRuns
from tests.ui.conftest import Opening
from tests.ui.flows import failing, paying
from tests.waiting import WAIT, eventually


def statuses(runtime: LocalRuntime) -> dict[str, int]:
    return {
        status: n
        for status in ("running", "cancelled", "terminated", "failed")
        if (n := runtime.count_executions(status=status))
    }


def start(runtime: LocalRuntime, n: int, customer: str) -> None:
    for number in range(n):
        runtime.start_execution(paying, id=f"{customer}-{number}", tags={"customer": customer})


def failed(runtime: LocalRuntime, name: str) -> None:
    with pytest.raises(ValueError, match="row 219"):
        runtime.start_execution(failing, id=name).result(WAIT)


def fields_in(page: str) -> dict[str, str]:
    """The hidden fields of a form, as a browser would send them."""
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page))


def confirm(browser: TestClient, page: str, **fields: str) -> Any:
    return browser.post("/bulk", data={**fields_in(page), **fields})


def ended(browser: TestClient, answer: Any) -> str:
    """What the page says of what was begun, once it has ended."""
    assert answer.status_code == 303, answer.text
    address = answer.headers["location"]
    eventually(lambda: "data-live" not in browser.get(address).text)
    return str(browser.get(address).text)


def test_all_that_match_are_counted_confirmed_and_cancelled(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    start(runtime, 12, "a")
    start(runtime, 2, "b")
    failed(runtime, "f-1")
    page = browser.get("/executions?tag=customer%3Da").text
    assert 'href="/bulk?tag=customer%3Da&amp;action=cancel">Cancel <i>12</i>' in page
    assert "action=retry" not in page  # none takes it

    asked = browser.get("/bulk?tag=customer%3Da&action=cancel").text
    assert "Cancel 12 executions?" in asked
    assert "<b>tag customer=a</b>" in asked
    assert "<b>running or blocked</b>" in asked
    assert "Type 12 to go on" in asked
    assert "Cancel 12 executions?" in confirm(browser, asked, confirmed="11").text
    assert statuses(runtime) == {"running": 14, "failed": 1}

    start(runtime, 1, "a2")  # later ones are not meant
    runtime.start_execution(paying, id="late", tags={"customer": "a"})
    said = ended(browser, confirm(browser, asked, confirmed="12", reason="closed shop"))
    assert "asked of 12 of 12" in said
    eventually(lambda: runtime.count_executions(status="cancelled") == 12)
    assert statuses(runtime) == {"running": 4, "failed": 1, "cancelled": 12}
    assert any("closed shop" in one.note for one in runtime.get_execution("a-3").timeline())


def test_what_has_closed_meanwhile_is_left_out_and_more_is_counted_again(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    for name in ("f-1", "f-2"):
        failed(runtime, name)
    start(runtime, 1, "b")
    asked = browser.get("/bulk?status=failed&action=delete").text
    failed(runtime, "f-3")
    said = ended(browser, confirm(browser, asked))  # f-3 has closed after they were counted
    assert "asked of 2 of 2" in said
    assert [one.id for one in runtime.list_executions(status="failed")] == ["f-3"]

    asked = browser.get("/bulk?action=terminate").text
    fields = {**fields_in(asked), "counted": "0", "confirmed": "0"}
    again = browser.post("/bulk", data=fields)
    assert "There are more now" in again.text
    assert "Terminate… 1 execution?".replace("…", "") in again.text
    assert runtime.count_executions(status="terminated") == 0
    assert "None matches now" in browser.get("/bulk?tag=no%3Done&action=cancel").text
    runtime.get_execution("b-0").terminate()
    gone = confirm(browser, asked)
    assert gone.status_code == 409
    assert "none matches any more" in gone.text


def test_those_that_refuse_are_told_with_the_reason(
    runtime: LocalRuntime, browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(runtime, 3, "a")
    cancel = Execution.cancel

    def refuse(self: Execution[Any], *args: Any, **options: Any) -> None:
        if self.id == "a-1":
            self.terminate("by somebody else")
            raise ValueTooLarge("no room for it")
        cancel(self, *args, **options)

    monkeypatch.setattr(Execution, "cancel", refuse)
    said = ended(browser, confirm(browser, browser.get("/bulk?action=cancel").text))
    assert "asked of 2 of 3" in said
    assert "1 was left out" in said
    assert "no room for it" in said


def test_it_ends_where_the_store_does_not_answer_and_says_what_was_not_done(
    runtime: LocalRuntime, browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(runtime, 3, "a")
    asked: list[str] = []

    def cancel(self: Execution[Any], *_args: Any, **_options: Any) -> None:
        asked.append(self.id)
        if len(asked) == 2:
            raise StoreUnavailable("the disk is away")

    monkeypatch.setattr(Execution, "cancel", cancel)
    said = ended(browser, confirm(browser, browser.get("/bulk?action=cancel").text))
    assert len(asked) == 2
    assert "asked of 1 of 3" in said
    assert "2 executions were not asked" in said
    assert "the disk is away" in said


def test_who_may_not_act_changes_nothing(runtime: LocalRuntime, opened: Opening) -> None:
    start(runtime, 2, "a")
    reading = opened(read_only=True)
    assert "/bulk" not in reading.get("/executions").text
    assert reading.get("/bulk?action=cancel").status_code == 404
    pages = opened()
    form = fields_in(pages.get("/bulk?action=cancel").text)
    assert reading.post("/bulk", data=form).status_code == 403
    forged = pages.post("/bulk", data={**form, "form-token": "0" * 64})
    assert forged.status_code == 409
    elsewhere = pages.post("/bulk", data=form, headers={"origin": "https://evil.example"})
    assert elsewhere.status_code == 403
    stranger = opened(token="secret")
    assert stranger.get("/bulk?action=cancel").status_code == 401
    assert stranger.post("/bulk", data=form).status_code == 401
    assert statuses(runtime) == {"running": 2}


def test_an_address_or_a_form_that_says_nothing_sensible_is_refused(
    runtime: LocalRuntime, browser: TestClient
) -> None:
    start(runtime, 1, "a")
    for query, said in (
        ("action=signal", "choose one of"),
        ("", "choose one of"),
        ("action=cancel&status=failed", "cancel is for executions that are running or blocked"),
        ("action=cancel&tag=x", "give NAME=VALUE"),
    ):
        answer = browser.get(f"/bulk?{query}")
        assert answer.status_code == 400, query
        assert said in answer.text
    form = fields_in(browser.get("/bulk?action=cancel").text)
    for field, value, said in (
        ("counted", "many", "is no number"),
        ("until", "soon", "give a time with its zone"),
        ("until", "2020-01-01T00:00:00", "give a time with its zone"),
    ):
        answer = browser.post("/bulk", data={**form, field: value})
        assert answer.status_code == 400
        assert said in answer.text
    assert statuses(runtime) == {"running": 1}


def test_one_of_an_earlier_process_is_said_to_be_unknown(browser: TestClient) -> None:
    answer = browser.get("/bulk/lost")
    assert answer.status_code == 404
    assert "are as they were: count again" in answer.text
    assert browser.get("/bulk/lost/live").status_code == 404


def test_an_open_page_is_told_of_each_part_and_of_the_end(
    runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Execution, "resume", lambda *_args, **_options: None)
    names = [f"n-{number}" for number in range(2 * PART + 1)]
    one = BulkRun(runtime, ACTIONS["resume"], names, {})
    seen: list[int] = []

    async def watch() -> None:
        changes = one.changes()
        assert await anext(changes) == "retry: 2000\n\n"
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        one.begin()
        lines = [await first]
        seen.append(one.done)
        lines += [line async for line in changes]
        assert lines[0] == "event: changed\ndata: changed\n\n"
        assert lines[-1] == "event: ended\ndata: ended\n\n"

    asyncio.run(asyncio.wait_for(watch(), WAIT))
    assert seen[0] >= PART
    assert (one.done, one.refused, one.has_ended) == (len(names), len(names), True)
    assert len(one.left) == min(SHOWN, len(names))  # there are no such executions


def test_no_more_than_a_few_go_on_at_a_time(runtime: LocalRuntime) -> None:
    class Held(BulkRun):
        def begin(self) -> None:
            """It never ends."""

    runs = BulkRuns()
    for _ in range(AT_ONCE):
        runs.begin(Held(runtime, ACTIONS["resume"], ["x"], {}))
    with pytest.raises(UsageError, match="other bulk actions go on"):
        runs.begin(Held(runtime, ACTIONS["resume"], ["x"], {}))

"""The rules for what a caller is told, which all runtimes share."""

from __future__ import annotations

import pytest

from mini_workflow.core.events import SignalReceived
from mini_workflow.core.payload import Payload
from mini_workflow.engine.replies import existing, start_refusal, still_open
from mini_workflow.engine.requests import Start
from mini_workflow.engine.transport import CheckedStore
from mini_workflow.errors import (
    ExecutionAlreadyExists,
    ExecutionClosed,
    ExecutionNotFound,
    RuntimeClosed,
    StoreUnavailable,
)
from mini_workflow.ports import Head, Page, Query, Stored

ARGUMENTS = Payload(text="[[1],{}]")
OTHERS = Payload(text="[[2],{}]")
RUNNING = Head("one", "pay", "running", 1_000)
CLOSED = Head("one", "pay", "completed", 1_000, closed_at=2_000)
SIGNAL = SignalReceived(1_000, "go", Payload(text="null"), "s1")


def start(workflow: str = "pay", signal: SignalReceived | None = None) -> Start:
    return Start("one", workflow, ARGUMENTS, message=signal)


def refusal(request: Start, head: Head, first: Payload = ARGUMENTS, **options: bool) -> object:
    return start_refusal(request, head, first.fingerprint, **options)


@pytest.mark.parametrize("head", [RUNNING, CLOSED])
def test_the_same_start_again_finds_the_execution(head: Head) -> None:
    assert refusal(start(), head) is None


@pytest.mark.parametrize("head", [RUNNING, CLOSED])
def test_a_start_with_other_arguments_is_refused(head: Head) -> None:
    error = refusal(start(), head, OTHERS)
    assert isinstance(error, ExecutionAlreadyExists)
    assert "other arguments" in str(error)


@pytest.mark.parametrize("signal", [None, SIGNAL])
def test_a_start_of_another_workflow_is_refused(signal: SignalReceived | None) -> None:
    error = refusal(start("refund", signal), RUNNING)
    assert isinstance(error, ExecutionAlreadyExists)
    assert "'pay'" in str(error)
    assert "'refund'" in str(error)


def test_a_signal_that_may_start_asks_for_no_arguments() -> None:
    def unread() -> str:
        raise AssertionError("the first event was read")

    assert start_refusal(start(signal=SIGNAL), RUNNING, unread) is None


def test_a_signal_that_may_start_is_told_of_an_end_before_it() -> None:
    assert isinstance(refusal(start(signal=SIGNAL), CLOSED), ExecutionClosed)
    assert refusal(start(signal=SIGNAL), CLOSED, reached=True) is None


def test_what_is_open_is_there_and_has_not_closed() -> None:
    assert still_open("one", RUNNING) is RUNNING
    with pytest.raises(ExecutionClosed, match="completed"):
        still_open("one", CLOSED)
    with pytest.raises(ExecutionNotFound, match="'one'"):
        still_open("one", None)
    with pytest.raises(ExecutionNotFound, match="'one'"):
        existing("one", None)


class Broken:
    """A store that was closed in the middle of a call."""

    def __init__(self) -> None:
        self.closed = False

    def head(self, execution_id: str) -> Head | None:
        self.closed = True
        raise StoreUnavailable("the file was closed")

    def load(self, execution_id: str) -> Stored | None:
        raise StoreUnavailable("the disk is gone")

    def history(self, execution_id: str, since: int = 0) -> list[str]:
        return []

    def list(self, query: Query) -> Page:
        return Page([])

    def check(self) -> None:
        if self.closed:
            raise RuntimeClosed("closed")


def test_a_reader_whose_store_was_closed_meanwhile_is_told_that() -> None:
    store = Broken()
    checked = CheckedStore(lambda: store, store.check)
    with pytest.raises(StoreUnavailable, match="disk"):
        checked.load("one")
    with pytest.raises(RuntimeClosed):
        checked.head("one")
    with pytest.raises(RuntimeClosed):
        checked.history("one")

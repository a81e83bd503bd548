"""Law 16: execution ids, names and keys from outside are validated (length, characters, no path tricks)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.context import Context
from mini_workflow.errors import ExecutionNotFound, InvalidIdentifier, UsageError
from mini_workflow.testing import WorkflowEnvironment
from mini_workflow.workflow import workflow
from tests.laws.driver import run
from tests.waiting import WAIT

GOOD = ["a", "A-1", "order:2026-01-01", "_x", "user@example.test", "v1.2.3", "0", "x" * 100]
BAD = [
    "",
    " ",
    "a b",
    "x" * 101,
    "../etc/passwd",
    "a/b",
    "a\\b",
    ".hidden",
    "-flag",
    ":x",
    "@x",
    "a\n",
    "\na",
    "a\x00",
    "ä",
    "a\u200b",
    "\ud800",
    "a;DROP TABLE executions",
    "%00",
    "*",
    "a?b",
    "\uff11",
    "٣",
]


@workflow("tests.laws.law_16")
async def law_16(ctx: Context) -> str:
    return ctx.info.execution_id


@pytest.mark.parametrize("name", GOOD)
def test_law_16_good_ids(name: str) -> None:
    with WorkflowEnvironment() as environment:
        assert environment.start_execution(law_16, id=name).result(timeout=WAIT) == name
        assert environment.get_execution(name).describe().status == "completed"


@pytest.mark.parametrize("name", [*BAD, 5, b"x", ["x"], ("x",), 1.5, True])
def test_law_16_bad_ids(name: Any) -> None:
    with WorkflowEnvironment() as environment:
        with pytest.raises(InvalidIdentifier):
            environment.start_execution(law_16, id=name)
        with pytest.raises(InvalidIdentifier):
            environment.get_execution(name)
        assert environment.list_executions() == []


@pytest.mark.parametrize("name", [name for name in BAD if name])
def test_law_16_bad_names_of_workflows(name: str) -> None:
    with pytest.raises(InvalidIdentifier):
        workflow(name, law_16.handler)


def test_law_16_made_up_ids_are_good_and_differ() -> None:
    with WorkflowEnvironment() as environment:
        executions = [environment.start_execution(law_16) for _ in range(20)]
        assert len({execution.id for execution in executions}) == 20
        for execution in executions:
            assert execution.result(timeout=WAIT) == execution.id


@given(st.text(max_size=120))
def test_law_16_whatever_text_is_refused_or_not_found(name: str) -> None:
    error = ExecutionNotFound if _is_good(name) else InvalidIdentifier
    with pytest.raises(error):
        _shared().get_execution(name)


def _is_good(name: str) -> bool:
    safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
    return 1 <= len(name) <= 100 and set(name) <= set(safe + ".:@-") and name[0] in safe


_environments: list[WorkflowEnvironment] = []


def _shared() -> WorkflowEnvironment:
    if not _environments:
        _environments.append(WorkflowEnvironment())
    return _environments[0]


@pytest.fixture(autouse=True, scope="module")
def _close_shared() -> Any:
    yield
    while _environments:
        _environments.pop().close()


@pytest.mark.parametrize(
    "options", [{"status": "open"}, {"limit": 0}, {"limit": -1}, {"status": "running'; --"}]
)
def test_law_16_bad_filters(options: dict[str, Any]) -> None:
    with WorkflowEnvironment() as environment, pytest.raises(UsageError):
        environment.list_executions(**options)


LONG = "x" * 100_000
REFUSED: dict[str, Any] = {
    "progress": lambda ctx: ctx.progress(1, 2, LONG),
    "stream": lambda ctx: ctx.stream(LONG),
    "limit": lambda ctx: ctx.task(len, "", limit=LONG),
    "header": lambda ctx: ctx.child(law_16, id="child", headers={LONG: "1"}),
    "tag": lambda ctx: ctx.set_tags({LONG: "1"}),
    "id": lambda ctx: ctx.child(law_16, id=LONG),
    "workflow": lambda _: workflow(LONG)(law_16.handler),
    "signal": lambda ctx: ctx.on_signal(LONG, print),
}


@pytest.mark.parametrize("name", REFUSED)
def test_law_16_an_error_does_not_repeat_a_name_without_end(name: str) -> None:
    """Law 16: it is logged and stored with the failure of the execution."""

    async def refused(ctx: Context) -> int:
        with pytest.raises(UsageError) as caught:
            REFUSED[name](ctx)
        return len(str(caught.value))

    assert run(refused).result() < 1_000

"""What operators read in the log, on every runtime."""

from __future__ import annotations

import logging
import socket

import pytest

from mini_workflow import Context, ExecutionBlocked, RetryPolicy, workflow
from tests.behaviours.stage import Stage
from tests.waiting import WAIT


def fails(text: str) -> None:
    raise ConnectionError(text)


@workflow("behaviours.log_fails_twice")
async def fails_twice(ctx: Context) -> str:
    policy = RetryPolicy(max_attempts=2, initial=0.05, jitter="none")
    try:
        await ctx.task(fails, "no\x1b[31m answer\nat all", retry=policy)
    except ConnectionError:
        await ctx.wait_for_signal("go on")
    return "done"


@workflow("behaviours.dials")
async def dials(ctx: Context) -> None:
    socket.create_connection(("localhost", 1))


@workflow("behaviours.gives_up")
async def gives_up(ctx: Context) -> None:
    raise ValueError("not today")


def lines_of(caplog: pytest.LogCaptureFixture, name: str) -> list[tuple[int, str]]:
    return [
        (record.levelno, record.getMessage())
        for record in caplog.records
        if record.name == "mini_workflow.engine.executions"
        and getattr(record, "execution_id", "") == name
    ]


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mini_workflow.engine")


def test_failed_attempts_are_told_once(runtime: Stage, caplog: pytest.LogCaptureFixture) -> None:
    execution = runtime.start(fails_twice, id="twice")
    execution.signal("go on")
    assert execution.result(WAIT) == "done"
    runtime.reopen()
    assert runtime.get_execution("twice").result(WAIT) == "done"
    what = r"ConnectionError: no\x1b[31m answer\nat all"
    assert lines_of(caplog, "twice") == [
        (logging.INFO, "[twice] started: workflow 'behaviours.log_fails_twice'"),
        (
            logging.WARNING,
            f"[twice] attempt 1 of task 'fails' (#1) failed: {what}; attempt 2 follows in 0.05 s",
        ),
        (
            logging.WARNING,
            f"[twice] attempt 2 of task 'fails' (#1) failed: {what}; no other follows",
        ),
        (logging.INFO, "[twice] completed"),
    ]


def test_a_block_is_an_error_with_its_reason(
    runtime: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    execution = runtime.start(dials, id="dials")
    with pytest.raises(ExecutionBlocked):
        execution.result(WAIT)
    # Resumed without a fix it is blocked again, for the same reason, and says so again.
    execution.resume()
    with pytest.raises(ExecutionBlocked):
        execution.result(WAIT)
    lines = [line for level, line in lines_of(caplog, "dials") if level == logging.ERROR]
    assert lines
    for line in lines:
        assert line.startswith("[dials] is blocked: ")
        assert line.endswith("fix the cause, then call resume() to continue")
        assert "test_log.py" in line
    # It has not started as long as its first turn is blocked.
    assert not [line for _, line in lines_of(caplog, "dials") if "started" in line]


def test_an_end_says_why(runtime: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="not today"):
        runtime.run(gives_up, id="gives-up")
    assert lines_of(caplog, "gives-up")[1] == (
        logging.INFO,
        "[gives-up] failed: ValueError: not today",
    )


def test_nothing_is_told_below_the_level(runtime: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "mini_workflow.engine")
    with pytest.raises(ValueError, match="not today"):
        runtime.run(gives_up, id="gives-up")
    assert lines_of(caplog, "gives-up") == []

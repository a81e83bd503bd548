"""120: what the code of tasks logs is kept with their execution."""

from __future__ import annotations

import logging

import pytest

from mini_workflow import Context, RetryPolicy, TaskLogs, UsageError, current_task, workflow
from mini_workflow.task_logs import LONGEST
from tests.behaviours.stage import Stage
from tests.waiting import WAIT

log = logging.getLogger("shop.orders")


def load(name: str) -> int:
    log.info("loads %s, attempt %d", name, current_task().attempt)
    logging.getLogger("mini_workflow.tests").error("never kept")
    if current_task().attempt == 1:
        log.warning("is not there yet")
        raise OSError(name)
    return 1


async def count() -> int:
    log.info("counts")
    return 1


@workflow("logs.order")
async def order(ctx: Context, name: str) -> int:
    log.error("of the workflow, which is no task")
    again = RetryPolicy(max_attempts=2, initial=0.001, jitter="none", retry_on=(OSError,))
    loaded = await ctx.task(load, name, retry=again)
    counted = await ctx.task(count)
    return loaded + counted + await ctx.task(lambda: log.info("inside") or 1, inline=True)


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "shop.orders")


def lines(runtime: Stage, execution: str) -> list[str]:
    """What the stream has, without the times."""
    chunks = runtime.get_execution(execution).stream("logs")
    return [chunk.value.partition(" ")[2] for chunk in chunks]


def test_120_what_tasks_log_is_kept(runtime: Stage) -> None:
    """Of all kinds of tasks, each attempt, in the order in which they ran."""
    runtime.reopen(interceptors=[TaskLogs()])
    assert runtime.start(order, "a.csv", id="o-1").result(WAIT) == 3
    kept = lines(runtime, "o-1")
    assert kept == [
        "INFO load shop.orders: loads a.csv, attempt 1\n",
        "WARNING load shop.orders: is not there yet\n",
        "INFO load shop.orders: loads a.csv, attempt 2\n",
        "INFO count shop.orders: counts\n",
        "INFO log.info shop.orders: inside\n",
    ]
    # Nothing is left behind where others log.
    names = {type(handler).__module__ for handler in logging.getLogger().handlers}
    assert "mini_workflow.task_logs" not in names


def test_120_levels_and_loggers_are_chosen(runtime: Stage) -> None:
    """Records of other loggers, and below the level, are left out."""
    runtime.reopen(interceptors=[TaskLogs("WARNING", logger="shop")])
    assert runtime.start(order, "a.csv", id="o-1").result(WAIT) == 3
    assert lines(runtime, "o-1") == ["WARNING load shop.orders: is not there yet\n"]


@workflow("logs.talkative")
async def talkative(ctx: Context) -> str:
    def talk() -> str:
        try:
            raise ValueError("x" * (2 * LONGEST))
        except ValueError:
            log.exception("it went wrong")
        return "done"

    return await ctx.task(talk)


def test_120_a_long_record_is_cut_and_says_so(runtime: Stage) -> None:
    """With its traceback it may not take more than LONGEST characters."""
    runtime.reopen(interceptors=[TaskLogs()])
    assert runtime.start(talkative, id="t-1").result(WAIT) == "done"
    (line,) = lines(runtime, "t-1")
    assert line.startswith("ERROR talk shop.orders: it went wrong\nTraceback")
    assert "characters in all)" in line
    assert len(line) < LONGEST + 200


def test_120_a_level_that_is_none_is_refused() -> None:
    """The error names those that there are."""
    with pytest.raises(UsageError, match=r"level='loud'.*WARNING"):
        TaskLogs("loud")

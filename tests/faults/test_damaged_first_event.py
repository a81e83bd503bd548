"""A first event that cannot be read stops its own execution, also where interceptors hear of commits."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mini_workflow import Context, ExecutionBlocked, Interceptor, LocalRuntime, workflow
from mini_workflow.interceptors import Committed
from tests.waiting import WAIT


def plus_one(number: int) -> int:
    return number + 1


@workflow("damaged_first_event.adds")
async def adds(ctx: Context) -> int:
    return await ctx.task(plus_one, await ctx.wait_for_signal("number"))


class Hears(Interceptor):
    def __init__(self) -> None:
        self.committed_of: list[tuple[str, str]] = []

    def committed(self, committed: Committed) -> None:
        self.committed_of.append((committed.execution_id, committed.status))


def test_the_others_in_the_same_commit_go_on(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LocalRuntime(path) as runtime:
        for name in ("bad", "good"):
            runtime.start_execution(adds, id=name)
    with closing(sqlite3.connect(path)) as raw, raw:
        changed = raw.execute(
            'UPDATE events SET body = \'{"type": "Unheard"}\' WHERE execution = '
            "(SELECT key FROM executions WHERE id = 'bad')"
        )
        assert changed.rowcount == 1
    hears = Hears()
    with LocalRuntime(path, interceptors=[hears]) as runtime:
        bad, good = runtime.get_execution("bad"), runtime.get_execution("good")
        bad.signal("number", 1)
        good.signal("number", 1)
        assert good.result(WAIT) == 2
        with pytest.raises(ExecutionBlocked):
            bad.result(WAIT)
    assert ("good", "completed") in hears.committed_of
    assert ("bad", "blocked") in hears.committed_of
    assert "the engine failed" not in caplog.text

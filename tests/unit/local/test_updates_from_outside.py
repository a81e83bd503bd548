"""Updates that are sent with a start by a client of a file, whoever runs what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_workflow import Context, LocalClient, LocalRuntime, workflow
from mini_workflow.engine.requests import Post
from tests.waiting import WAIT


@workflow("local.counter")
async def counter(ctx: Context) -> int:
    total = 0

    def add(number: int) -> int:
        nonlocal total
        if number < 0:
            raise ArithmeticError(number)
        total += number
        return total

    ctx.on_update("add", add)
    ctx.on_query("total", lambda: total)
    await ctx.wait_for_signal("end")
    return total


def test_what_nobody_runs_yet_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    LocalRuntime(path).close()
    with LocalClient(path) as client:
        for number in (1, 2):
            with pytest.raises(TimeoutError, match="is not accepted"):
                client.update_with_start(
                    counter,
                    id="c",
                    update="add",
                    update_args=[number],
                    update_id=f"u-{number}",
                    update_timeout=0,
                )
        with LocalRuntime(path) as runtime:
            execution = runtime.get_execution("c")
            again = runtime.update_with_start(
                counter, id="c", update="add", update_args=[2], update_id="u-2"
            )
            assert again.result(WAIT) == 3
            assert client.get_execution("c").get_update("u-1").result(WAIT) == 1
            third = client.get_execution("c").start_update("add", 4, timeout=WAIT)
            assert third.result(WAIT) == 7
            failing = client.get_execution("c").start_update("add", -1, timeout=WAIT)
            with pytest.raises(ArithmeticError):
                failing.result(WAIT)
            execution.signal("end")
            assert execution.result(WAIT) == 7
        # Nobody runs it any more, and its answers are there.
        assert client.get_execution("c").get_update("u-2").result(0) == 3


def test_who_waits_in_the_same_process_is_told_at_once(tmp_path: Path) -> None:
    """Whoever waits for an answer to be in the history, or for the end of what is deleted, looks again
    then, and not after some time.
    """
    with LocalRuntime(tmp_path / "state.db") as runtime:
        execution = runtime.start_execution(counter, id="c")
        transport, watchers = runtime._engine_transport, runtime._role.watchers
        with transport.watch("c"):
            assert execution.update("add", 1, timeout=WAIT) == 1
            assert watchers.names() == []  # each is told once
        with transport.watch("c") as wait:
            request = runtime.updates.make("c", "add", (2,), "u")
            runtime._role.put_all([Post("c", request)])
            while execution.query("total") != 3:
                wait(WAIT)
        with transport.watch("c"):
            execution.signal("end")
            execution.result(WAIT)
        with transport.watch("c"):
            execution.delete()
            assert watchers.names() == []

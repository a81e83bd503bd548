"""Updates that are sent with a start by a client of a file, whoever runs what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_workflow import Context, LocalClient, LocalRuntime, workflow
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

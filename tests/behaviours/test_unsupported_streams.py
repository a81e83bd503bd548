"""What stores without streams answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from example.backend import FileBackend
from mini_workflow import Context, StoreRefused, UsageError, current_task, workflow
from mini_workflow.runtimes.embedded import embed
from mini_workflow.stores.system_clock import SystemClock
from tests.waiting import WAIT


@workflow("behaviours.mute")
async def mute(ctx: Context, where: str) -> None:
    if where == "workflow":
        ctx.stream("words").write("lost")
    await ctx.task(lambda: current_task().stream("words").write("lost"))


def test_every_use_of_a_stream_is_refused(tmp_path: Path) -> None:
    backend = FileBackend(
        tmp_path / "state.json", owner="one", address="one", clock=SystemClock(), lease=15_000
    )
    with embed(backend, lease=15) as runtime:
        with pytest.raises(UsageError, match="keeps none"):
            runtime.start_execution(mute, "task").result(WAIT)
        execution = runtime.start_execution(mute, "task", id="again")
        with pytest.raises(UsageError, match="keeps no streams"):
            list(execution.stream("words"))
        with pytest.raises(StoreRefused, match="keeps no streams"):
            runtime.start_execution(mute, "workflow").result(WAIT)

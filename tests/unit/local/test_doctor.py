"""What `doctor` finds, and the remedy that it gives."""

from pathlib import Path

from mini_workflow import Context, LocalRuntime, workflow
from mini_workflow.doctor.executions import examine_executions


@workflow
async def waits_for_ever(ctx: Context) -> None:
    await ctx.promise("never")


def test_a_paused_execution_needs_nothing_but_a_resume(tmp_path: Path) -> None:
    with LocalRuntime(tmp_path / "store.db") as runtime:
        execution = runtime.start_execution(waits_for_ever.bind(), id="w")
        execution.pause("maintenance")
        (found,) = [one for one in examine_executions(runtime, "here") if one.execution_id]
    assert found.execution_id == "w"
    assert "maintenance" in found.what
    assert found.remedy == "an operator has paused it; mini-workflow resume w continues it"

"""`doctor --python`: which open executions have values that another Python cannot read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mini_workflow import Context, ExecutionTerminated, LocalClient, LocalRuntime, workflow
from mini_workflow.cli.app import cli
from mini_workflow.cli.commands.doctor import examine_values
from tests.waiting import WAIT

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@workflow("waitsWithStoredCode")
async def waits(ctx: Context, value: Any) -> None:
    await ctx.wait_for_signal("end")


def local_class_instance() -> Any:
    class Local:
        pass

    return Local()


def test_open_executions_with_code_of_another_python_are_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with LocalRuntime(path) as runtime, LocalClient(path) as client:
        runtime.start_execution(waits, local_class_instance(), id="with-code")
        # What only looks like it is text.
        runtime.start_execution(waits, '{"$":"dill","python":"cpython-3.8"}', id="text")
        assert [f.level for f in examine_values(client, 10, HERE)] == ["ok"]
        problem, ok = examine_values(client, 10, "3.99")
        assert (problem.level, problem.execution_id, ok.level) == ("problem", "with-code", "ok")
        assert f"code of Python {HERE}, which Python 3.99 cannot read" in problem.what
        # What has ended is read by nobody any more.
        execution = runtime.get_execution("with-code")
        execution.terminate("over")
        with pytest.raises(ExecutionTerminated):
            execution.result(timeout=WAIT)
        assert [f.level for f in examine_values(client, 10, "3.99")] == ["ok"]


@pytest.mark.parametrize("version", ["3", "three", "3.13.1"])
def test_what_is_no_minor_version_is_refused(version: str) -> None:
    done = CliRunner().invoke(cli, ["doctor", "--python", version])
    assert done.exit_code == 2
    assert "is not a minor version of Python, such as 3.13" in done.output

"""What one caller gave is not shown to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from mini_workflow import Context, ExecutionAlreadyExists, LocalClient, LocalRuntime, workflow
from mini_workflow.testing import WorkflowEnvironment


@workflow
async def keeps_a_secret(ctx: Context, secret: str) -> None:
    return None


def test_an_id_that_is_taken_shows_nothing_of_its_arguments(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with (
        LocalRuntime(path) as runtime,
        LocalClient(path) as client,
        WorkflowEnvironment() as environment,
    ):
        environment.start_execution(keeps_a_secret, "a-secret", id="x")
        runtime.start_execution(keeps_a_secret, "a-secret", id="x")
        for caller in (runtime, client, environment):
            with pytest.raises(ExecutionAlreadyExists, match="other arguments") as caught:
                caller.start_execution(keeps_a_secret, "a guess", id="x")
            assert "secret" not in str(caught.value)

"""What one process leaves for another one has its effect before the first one answers for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import Context, ExecutionNotFound, LocalRuntime, workflow
from tests.waiting import WAIT


@workflow("faults.waits_for_go")
async def waits_for_go(ctx: Context) -> Any:
    return await ctx.wait_for_signal("go")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[LocalRuntime, LocalRuntime]]:
    """Two runtimes of one file."""
    path = tmp_path / "state.db"
    with LocalRuntime(path) as one, LocalRuntime(path) as other:
        yield one, other


def test_a_signal_that_closes_its_execution_at_once_is_answered(
    two: tuple[LocalRuntime, LocalRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender was told that the execution had closed before."""
    one, other = two
    execution = one.start_execution(waits_for_go, id="e")
    takeover: Any = other._engine._takeover  # type: ignore[union-attr]
    mailbox = takeover._ports.mailbox
    post = mailbox.post

    def post_and_wait(name: str, body: str, key: str) -> None:
        post(name, body, key)
        takeover._notify_peers()
        assert execution.result(WAIT) == 7

    monkeypatch.setattr(mailbox, "post", post_and_wait)
    other.get_execution("e").signal("go", 7)
    monkeypatch.undo()
    assert other.get_execution("e").result(WAIT) == 7


def test_a_signal_to_an_execution_that_is_deleted_meanwhile_is_refused(
    two: tuple[LocalRuntime, LocalRuntime],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was taken for a fault of the engine, and failed everything else of that moment."""
    one, other = two
    execution = one.start_execution(waits_for_go, id="e")
    mailbox: Any = other._engine._takeover._ports.mailbox  # type: ignore[union-attr]
    post = mailbox.post

    def delete_and_post(name: str, body: str, key: str) -> None:
        execution.terminate()
        execution.delete()
        post(name, body, key)

    monkeypatch.setattr(mailbox, "post", delete_and_post)
    with pytest.raises(ExecutionNotFound, match="'e'"):
        other.get_execution("e").signal("go", 7)
    other.close()
    one.close()
    assert "the engine failed" not in caplog.text

"""122: an execution that gets messages faster than it takes them keeps nobody else waiting."""

from __future__ import annotations

from typing import Any

import pytest

from mini_workflow import AWSRuntime, Context, MailboxFull, workflow
from mini_workflow.stores.sqs import backlog
from tests.behaviours.stage import Stage
from tests.waiting import WAIT


@workflow("behaviours.gathers_a_backlog")
async def gathers(ctx: Context) -> list[Any]:
    taken: list[Any] = []
    while (value := await ctx.wait_for_signal("n")) is not None:
        taken.append(value)
    return taken


def say_behind(runtime: Stage, name: str, seconds: int) -> None:
    """As whoever takes a batch says it, where messages of all wait in one queue: nowhere else."""
    if isinstance(runtime.runtime, AWSRuntime):
        parts = runtime.runtime._parts
        parts.bucket.put(backlog._key(name), str(parts.clock.now() + seconds * 1000).encode())


def test_122_who_is_behind_refuses_messages_and_loses_none(
    runtime: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On AWS. On other runtimes nothing is refused: there no execution waits for the messages of another."""
    monkeypatch.setattr(backlog, "BACKLOG_LOOK", 0)
    behind, other = (runtime.start(gathers, id=name) for name in ("behind", "other"))
    say_behind(runtime, "behind", 3_600)
    taken: list[int] = []
    refused: list[int] = []
    for number in range(4):
        try:
            behind.signal("n", number)
            taken.append(number)
        except MailboxFull:
            refused.append(number)
        other.signal("n", number)
    # A process that sends for the first time does not look.
    limited = isinstance(runtime.runtime, AWSRuntime)
    assert refused == ([1, 2, 3] if limited else [])
    if limited:
        with pytest.raises(MailboxFull) as full:
            behind.update("change")
        assert full.value.execution_id == "behind"
    # The other one is not concerned, and what is behind can be ended.
    other.signal("n", None)
    assert other.result(WAIT) == [0, 1, 2, 3]
    say_behind(runtime, "behind", -1)
    behind.signal("n", 4)
    behind.signal("n", None)
    assert behind.result(WAIT) == [*taken, 4]


def test_122_who_is_behind_can_be_ended(runtime: Stage) -> None:
    """What ends an execution is taken although its messages are not."""
    behind = runtime.start(gathers, id="behind")
    say_behind(runtime, "behind", 3_600)
    behind.signal("n", 1)
    behind.terminate("enough")
    assert behind.describe().status == "terminated"

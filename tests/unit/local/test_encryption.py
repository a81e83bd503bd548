"""Values that are encrypted stand nowhere in the file, nor beside it, whoever runs the tasks."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from mini_workflow import Context, LocalRuntime, RetryPolicy, current_task, workflow
from mini_workflow.codecs import CompressionCodec, EncryptionCodec
from tests.waiting import WAIT

SECRET = "a-number-that-nobody-else-may-see"
NEVER = "another-that-stands-there-in-the-clear"


def charge(card: str) -> str:
    task = current_task()
    if task.attempt == 1:
        task.heartbeat(card)
        raise ConnectionError(f"no answer for {card}")
    return f"{card} {task.last_heartbeat}"


@workflow("encryption.order")
async def order(ctx: Context, card: str) -> str:
    charged = await ctx.task(charge, card, retry=RetryPolicy(initial=0.01))
    shouted = await ctx.task(lambda: f"{card.upper()}!", name="shout")
    return f"{charged} {shouted} {await ctx.wait_for_signal('go')}"


def found(folder: Path, secret: str) -> list[str]:
    """The files below a folder in which the text stands: as it is, in capitals, or in base64."""
    plain = (secret.encode(), secret.upper().encode())
    forms = {form for text in plain for form in (text, *_in_base64(text))}
    return [
        path.name
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(form in path.read_bytes() for form in forms)
    ]


def _in_base64(text: bytes) -> list[bytes]:
    return [b64encode(b"-" * shift + text)[4:-4] for shift in range(3)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_has_no_value_in_the_clear(tmp_path: Path, workers: int) -> None:
    codec = [CompressionCodec(minimum=100), EncryptionCodec({"k": b"k" * 32})]
    with LocalRuntime(tmp_path / "workflow.db", workers=workers, codec=codec) as runtime:
        execution = runtime.start_execution(order, SECRET, id="o-1")
        execution.signal("go", SECRET)
        result = execution.result(WAIT)
        assert result == f"{SECRET} {SECRET} {SECRET.upper()}! {SECRET}"
        assert found(tmp_path, SECRET) == []  # the log beside the file, too
    assert found(tmp_path, SECRET) == []


def test_the_search_finds_what_stands_there(tmp_path: Path) -> None:
    with LocalRuntime(tmp_path / "workflow.db") as runtime:
        runtime.start_execution(order, NEVER, id="o-1")
    assert found(tmp_path, NEVER)

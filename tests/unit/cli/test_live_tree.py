"""What `run` shows on a terminal while an execution goes on."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from mini_workflow import Context, RetryPolicy, workflow
from mini_workflow.cli.live_tree import LINES, LiveTree
from mini_workflow.testing import WorkflowEnvironment
from tests.waiting import WAIT


@workflow("treed")
async def treed(ctx: Context, n: int) -> None:
    await ctx.task(lambda: None, name="price\x1b[2J")
    await ctx.map(lambda number: number, range(n), name="load", concurrency=10)

    def charge() -> None:
        raise ValueError("the card was refused")

    await ctx.task(charge, name="charge", retry=RetryPolicy(max_attempts=1))


@workflow("treed-long")
async def treed_long(ctx: Context, n: int) -> None:
    for number in range(n):
        await ctx.task(lambda: None, name=f"step-{number}")


def drawn(tree: LiveTree) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(tree)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_map_is_a_bar_and_a_failure_says_why() -> None:
    with WorkflowEnvironment() as runtime:
        execution = runtime.start_execution(treed, 50)
        with pytest.raises(ValueError, match="refused"):
            execution.result(WAIT)
        tree, said = LiveTree("t-1  treed"), ""
        for entry in execution.timeline():
            tree.take(entry)
            if entry.kind == "TaskCompleted" and not said:
                said = drawn(tree)
        assert "load" not in said
        assert "\N{CHECK MARK} price" in said
        assert "\x1b" not in said
        whole = drawn(tree)
        assert "50 of 50" in whole
        assert "charge" in whole
        assert "ValueError: the card was refused" in whole


def test_a_long_execution_is_a_screen_of_lines() -> None:
    with WorkflowEnvironment() as runtime:
        execution = runtime.start_execution(treed_long, 100)
        execution.result(WAIT)
        tree = LiveTree("t-1  treed-long")
        for entry in execution.timeline():
            tree.take(entry)
        said = drawn(tree)
        assert said.count("step-") == LINES
        assert f"{100 - LINES} more have completed" in said
        assert "step-99" in said


CODE = """
from mini_workflow import Context, workflow

@workflow
async def loading(ctx: Context) -> int:
    return sum(await ctx.map(lambda number: number, range(40), name="load"))
"""


def test_run_draws_on_a_terminal_and_prints_the_result(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(CODE)
    ours, theirs = os.openpty()
    command = subprocess.Popen(
        [sys.executable, "-m", "mini_workflow.cli", "run", "flows:loading"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:
        pass  # the other end is closed: the program has ended
    finally:
        os.close(ours)
    out, _ = command.communicate(timeout=WAIT)
    assert command.returncode == 0
    assert out.strip() == str(sum(range(40)))
    assert "40 of 40" in shown.decode()

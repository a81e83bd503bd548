"""`mini-workflow dev`: the worker, the page and the code that changes, in one command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from mini_workflow.runtimes.local_client import LocalClient
from tests.waiting import WAIT, eventually

FITS = """
from mini_workflow import Context, workflow

@workflow("grown")
async def grown(ctx: Context) -> str:
    await ctx.task(lambda: None, name="first")
    await ctx.wait_for_signal("go")
    return "LATER"
"""
BROKEN = FITS.replace('"first"', '"other"')


class Dev:
    """The command in a folder, and what it says."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mini_workflow.cli", "dev", "flows", "--port", "0", *options],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
        )
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it has said something so many times."""
        eventually(lambda: sum(text in line for line in list(self.said)) >= times)

    def run(self, *command: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "mini_workflow.cli", *command],
            cwd=self.folder,
            check=True,
            capture_output=True,
        )

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(WAIT)
        self._reading.join(WAIT)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    (tmp_path / "flows.py").write_text(FITS)
    made = Dev(tmp_path, "--json")
    try:
        yield made
    finally:
        made.end()


def test_code_that_changes_continues_what_it_had_blocked(dev: Dev) -> None:
    dev.says("serving")
    url = next(json.loads(line)["url"] for line in dev.said if line.startswith("{"))
    dev.run("start", "flows:grown", "--id", "g-1")
    dev.says("[g-1] started")
    with LocalClient(dev.folder / "state.db") as client:
        execution = client.get_execution("g-1")
        eventually(lambda: any(e.kind == "TaskCompleted" for e in execution.timeline()))

        (dev.folder / "flows.py").write_text(BROKEN)
        dev.says("flows.py changed")
        dev.says("serving", times=2)
        execution.signal("go")
        dev.says(f"{url}executions/g-1")  # where it stands, with the log of what went wrong
        assert execution.describe().blocked_kind == "NonDeterminismError"

        # Code that cannot be imported ends nothing: the next change begins anew.
        (dev.folder / "flows.py").write_text("this is no Python")
        dev.says("SyntaxError")
        (dev.folder / "flows.py").write_text(BROKEN + "\n# still\n")
        dev.says("g-1 (grown) is still blocked")
        (dev.folder / "flows.py").write_text(FITS.replace("LATER", "better"))
        dev.says("g-1 (grown) goes on. It was blocked: ")
        eventually(lambda: execution.describe().status == "completed")
        page = httpx2.get(f"{url}executions/g-1", timeout=WAIT)
        assert "better" in page.text


def test_it_says_so_without_a_workflow_and_without_the_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mini_workflow.cli", "dev"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode != 0
    assert "name the modules" in done.stderr

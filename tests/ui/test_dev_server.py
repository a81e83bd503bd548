"""`mini-workflow dev`: the worker, the page and the code that changes, in one command."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from mini_workflow.cli.development import MOST_OPENED, Addresses, has_window
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

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mini_workflow.cli", "dev", "flows", "--port", "0", *options],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", **variables},
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


FAILS = """
from mini_workflow import Context, workflow

@workflow("fails")
async def fails(ctx: Context) -> None:
    raise ValueError("row 219")
"""


def test_what_fails_is_opened_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(FAILS)
    opened, program = tmp_path / "opened.txt", tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    program.chmod(0o755)
    dev = Dev(tmp_path, "--json", "--open", BROWSER=str(program))
    try:
        dev.says("serving")
        url = next(json.loads(line)["url"] for line in dev.said if line.startswith("{"))
        for name in ("f-1", "f-2"):
            dev.run("start", "flows:fails", "--id", name)
            dev.says(f"{url}executions/{name}")
        eventually(lambda: opened.exists() and len(opened.read_text().split()) == 2)
    finally:
        dev.end()
    assert sorted(opened.read_text().split()) == [f"{url}executions/f-{n}" for n in (1, 2)]


def test_each_failure_is_opened_once_and_no_more_than_a_few() -> None:
    opened: list[str] = []
    addresses = Addresses("http://127.0.0.1:1/", opened.append)

    def told(name: str, said: str, level: int) -> str:
        record = logging.LogRecord("x", level, "", 0, f"[{name}] {said}", (), None)
        record.execution_id = name
        assert addresses.filter(record)
        return record.getMessage()

    assert told("o-1", "started", logging.INFO) == "[o-1] started"
    assert told("o-1", "attempt 1 of task 'x' failed", logging.WARNING).endswith("failed")
    assert opened == []
    for _ in range(2):  # the second one is that of a resume which was in vain
        assert told("o-1", "is blocked: x", logging.ERROR).endswith(
            "http://127.0.0.1:1/executions/o-1"
        )
    assert opened == ["http://127.0.0.1:1/executions/o-1"]
    for _ in range(2):  # it was retried, and has failed again
        told("o-1", "failed: y", logging.INFO)
    assert len(opened) == 3
    for number in range(2 * MOST_OPENED):
        said = told(f"o-{number}", "failed: y", logging.INFO)
        assert said.endswith(f"executions/o-{number}")  # the address is told always
    assert len(opened) == MOST_OPENED


def test_without_a_terminal_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert not has_window()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert has_window()


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

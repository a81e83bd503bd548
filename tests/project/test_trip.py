"""How straight the way of one task is through the library, as `tools/trip.py` counts it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "trip.py"

CALLS = 96
"""Calls of functions of the library, of all threads together."""

MODULES = 60
PACKAGES = 31
"""How often one of another module follows, and one of another package. These go down only."""


def test_one_task_takes_no_detours() -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL)], capture_output=True, text=True, check=True, timeout=60
    )
    counted = re.match(r"(\d+) calls in \d+ modules: (\d+) .* module, (\d+)", done.stdout)
    assert counted, done.stdout
    calls, modules, packages = map(int, counted.groups())
    assert (calls <= CALLS, modules <= MODULES, packages <= PACKAGES) == (True,) * 3, done.stdout


CALLS_OF_A_GATHER = 64
"""Calls for each task, of all threads together."""


def test_tasks_of_a_gather_share_what_they_can() -> None:
    """One commit has all that are scheduled. Their outcomes need one more, unless a thread is late."""
    done = subprocess.run(
        [sys.executable, str(TOOL), "--gather"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    counted = re.match(r"([\d.]+) calls for each of \d+ tasks, (\d+) commits", done.stdout)
    assert counted, done.stdout
    assert float(counted[1]) <= CALLS_OF_A_GATHER, done.stdout
    assert 2 <= int(counted[2]) <= 20, done.stdout

"""Typed programs: both type checkers find the errors that are marked in them, and no other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.left_out import left_out
from tests.paths import ROOT

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
Found = dict[tuple[str, int], list[str]]
"""The messages of a checker, by file and line."""


def marked() -> set[tuple[str, int]]:
    """Files and lines of the errors that are to be found."""
    return {
        (program.name, number)
        for program in PROGRAMS
        for number, line in enumerate(program.read_text().splitlines(), 1)
        if "  # type: ignore  # error" in line
    }


def copy_programs(folder: Path) -> None:
    """Put the programs where a checker is to find what the project itself ignores in them."""
    for program in PROGRAMS:
        (folder / program.name).write_text(program.read_text().replace("  # type: ignore", ""))


def run(*command: str | Path) -> str:
    """What a checker prints."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), f"{done.stdout}\n{done.stderr}"
    return done.stdout


def mypy(folder: Path) -> Found:
    copy_programs(folder)
    settings = folder / "mypy.ini"
    settings.write_text("[mypy]\nstrict = True\nfollow_imports = silent\npython_version = 3.11\n")
    printed = run(
        *("mypy", "--config-file", settings, "--cache-dir", folder, "--no-error-summary"),
        *("--hide-error-context", "--no-pretty", folder),
    )
    found: Found = {}
    for line in printed.splitlines():
        match = re.match(r"(.+?):(\d+): error: (.*)", line)
        if match is not None:
            found.setdefault((Path(match[1]).name, int(match[2])), []).append(match[3])
    return found


def pyright(folder: Path) -> Found:
    copy_programs(folder)
    settings = folder / "pyrightconfig.json"
    settings.write_text(
        json.dumps(
            {
                "extraPaths": [str(ROOT)],
                "typeCheckingMode": "strict",
                "pythonVersion": "3.11",
            }
        )
    )
    # The checker looks at what is beside its settings.
    printed = run("pyright", "--outputjson", "--pythonpath", sys.executable, "-p", settings)
    found: Found = {}
    for one in json.loads(printed)["generalDiagnostics"]:
        place = Path(one["file"]).name, one["range"]["start"]["line"] + 1
        found.setdefault(place, []).append(one["message"])
    return found


CHECKERS: dict[str, Callable[[Path], Found]] = {"mypy": mypy, "pyright": pyright}


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_marked_errors_are_found_and_no_others(checker: str, tmp_path: Path) -> None:
    if find_spec(checker) is None:
        left_out("what type checkers say", f"{checker} is not installed")
    found, expected = CHECKERS[checker](tmp_path), marked()
    assert len(expected) > 50
    assert {place: texts for place, texts in found.items() if place not in expected} == {}
    assert sorted(expected - found.keys()) == [], "not found"

"""Typed programs: both type checkers find the errors that are marked in them, and no other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.left_out import left_out
from tests.paths import ROOT

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
Found = dict[tuple[str, int], list[str]]
"""The messages of a checker, by file and line."""


def marked(program: Path) -> set[int]:
    lines = program.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if "  # error" in line}


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
    settings = folder / "mypy.ini"
    settings.write_text("[mypy]\nstrict = True\nfollow_imports = silent\npython_version = 3.11\n")
    printed = run(
        *("mypy", "--config-file", settings, "--cache-dir", folder, "--no-error-summary"),
        *("--hide-error-context", "--no-pretty", *PROGRAMS),
    )
    found: Found = {}
    for line in printed.splitlines():
        match = re.match(r"(.+?):(\d+): error: (.*)", line)
        if match is not None:
            found.setdefault((Path(match[1]).name, int(match[2])), []).append(match[3])
    return found


def pyright(folder: Path) -> Found:
    for program in PROGRAMS:
        shutil.copy(program, folder)
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


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Found]:
    """Runs a checker over all programs, once."""

    @cache
    def check(checker: str) -> Found:
        if find_spec(checker) is None:
            left_out("what type checkers say", f"{checker} is not installed")
        return CHECKERS[checker](tmp_path_factory.mktemp(checker))

    return check


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_the_marked_errors_are_found_and_no_others(
    program: Path, checker: str, check: Callable[[str], Found]
) -> None:
    found = {line: texts for (name, line), texts in check(checker).items() if name == program.name}
    expected = marked(program)
    assert {line: texts for line, texts in found.items() if line not in expected} == {}
    assert sorted(expected - found.keys()) == [], "not found"


def test_the_programs_expect_errors() -> None:
    """Without a mark that is read, the comparison would hold for nothing."""
    assert {program.stem: len(marked(program)) > 10 for program in PROGRAMS} == dict.fromkeys(
        (program.stem for program in PROGRAMS), True
    )

"""The walk-throughs of README.md and docs/debugging.md, each done step by step in an empty folder.

A program whose first line is a comment with a file's name is written to that file. In a console
fence ``$`` begins a command, which has to print the lines behind it, ``...`` standing for anything.
What ends with ``&`` runs on, until ``kill %1``. Behind ``(Pdb)`` stands what is typed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.docs.test_snippets import ROOT, fences, matches
from tests.waiting import WAIT

DOCUMENTS = [ROOT / "README.md", ROOT / "docs" / "debugging.md"]
PROGRAMS = Path(sys.executable).parent


class Shell:
    """Runs commands in a folder, one of them in the background."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.background: subprocess.Popen[str] | None = None
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("MINI_", "PYTEST_"))}
        self.environment = kept | {
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, command: str, typed: str) -> str:
        if command == "kill %1":
            self.kill()
            return ""
        words = shlex.split(command.removesuffix("&"))
        process = subprocess.Popen(
            words,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if command.endswith("&") else subprocess.STDOUT,
            text=True,
        )
        if command.endswith("&"):
            self.background = process
            assert process.stdout is not None
            return process.stdout.readline()
        return process.communicate(typed, timeout=WAIT)[0]

    def kill(self) -> None:
        if self.background is not None:
            self.background.terminate()
            self.background.communicate(timeout=WAIT)
            self.background = None


def commands(body: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """(command, what is typed, what it prints) for each command of a console fence."""
    found: list[tuple[str, list[str], str]] = []
    for line in body:
        if line.startswith("$ "):
            found.append((line[2:], [], ""))
        elif match := re.fullmatch(r"\(Pdb\) (.+)", line):
            found[-1][1].append(match[1])
            command, typed, printed = found[-1]
            found[-1] = command, typed, f"{printed}(Pdb) "  # what is typed is not printed
        else:
            command, typed, printed = found[-1]
            found[-1] = command, typed, f"{printed}{line}\n"
    return [(command, "\n".join(typed) + "\n", printed) for command, typed, printed in found]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_walk_through_works(document: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    done = 0
    try:
        for fence in fences(document.read_text(encoding="utf-8")):
            if fence.info == "python isolated":
                name = fence.body[0].removeprefix("# ")
                assert name.endswith(".py"), fence
                (tmp_path / name).write_text(fence.code + "\n", encoding="utf-8")
            elif fence.info == "console" and fence.body[0].startswith("$ "):
                for command, typed, expected in commands(fence.body):
                    printed = shell.run(command, typed)
                    where = f"{document.name}:{fence.line}: {command}"
                    assert matches(expected, printed), f"{where}\n{expected}\nbut:\n{printed}"
                    done += 1
    finally:
        shell.kill()
    assert done >= 9


def test_a_command_that_prints_something_else_is_noticed(tmp_path: Path) -> None:
    (command,) = commands(("$ echo one", "two"))
    assert not matches(command[2], Shell(tmp_path).run(command[0], command[1]))
    assert commands(("$ x", "a", "(Pdb) n", "b", "(Pdb) q")) == [
        ("x", "n\nq\n", "a\n(Pdb) b\n(Pdb) ")
    ]


@pytest.mark.parametrize("line", ["(Pdb) p total", "> a.py(1)x()"])
def test_what_is_typed_is_told_from_what_is_printed(line: str) -> None:
    ((_, typed, printed),) = commands(("$ x", line))
    assert ("p total" in typed) == line.startswith("(Pdb)")
    assert "p total" not in printed

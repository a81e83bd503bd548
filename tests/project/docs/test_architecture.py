"""docs/architecture.md: every link to a line leads to the definition that it names."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

from tests.paths import ROOT

PAGE = ROOT / "docs" / "architecture.md"
LINK = re.compile(r"\[`(?P<name>[\w.]+)`\]\(\.\./(?P<path>[\w/]+\.py)#L(?P<line>\d+)\)")


def line_of(path: Path, name: str) -> int | None:
    """The line on which a class, function or method is defined, after its overloads."""
    body, line = ast.parse(path.read_text()).body, None
    for part in name.split("."):
        found = [node for node in body if getattr(node, "name", None) == part]
        if not found:
            return None
        node = found[-1]
        assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        body, line = node.body, node.lineno
    return line


def corrected(page: str) -> str:
    """The page with the lines as they are."""

    def correct(link: re.Match[str]) -> str:
        line = line_of(ROOT / link["path"], link["name"])
        assert line is not None, f"{link['path']} defines no {link['name']}"
        return f"[`{link['name']}`](../{link['path']}#L{line})"

    return LINK.sub(correct, page)


def test_links_lead_to_the_definitions_that_they_name() -> None:
    page = PAGE.read_text()
    assert len(LINK.findall(page)) >= 15
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(corrected(page))
    assert PAGE.read_text() == corrected(page), "UPDATE_DOCS=1 corrects the lines"


def test_the_path_of_a_task_is_six_files() -> None:
    path = PAGE.read_text().partition("## The path of one task")[2].partition("After a crash")[0]
    files = {link["path"] for link in LINK.finditer(path)} - {"mini_workflow/context.py"}
    assert files == {
        f"mini_workflow/core/{name}.py"
        for name in ("events", "recorder", "tasks", "run", "decide", "state")
    }


@pytest.mark.parametrize("name", re.findall(r"`((?:\w+/)+[\w.]*)`", PAGE.read_text()))
def test_files_and_folders_that_it_names_exist(name: str) -> None:
    assert (ROOT / name).exists() or (ROOT / "mini_workflow" / name).exists()

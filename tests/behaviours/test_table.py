"""The table of behaviours and the tests agree."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.behaviours.table import DOCUMENT, ROOT, TABLE

HERE = Path(__file__).parent


def numbered() -> dict[str, str]:
    """The tests of this folder that carry a number, and what they say."""
    found: dict[str, str] = {}
    for file in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and re.match(r"test_\d{2,3}_", node.name):
                assert node.name not in found, f"{node.name} twice"
                found[node.name] = ast.get_docstring(node) or ""
    return found


def test_every_behaviour_has_its_tests() -> None:
    assert list(TABLE) == sorted(TABLE)
    assert sorted(TABLE)[:53] == list(range(1, 54))
    for number, names in TABLE.items():
        assert names, number
        assert all(name.startswith(f"test_{number:02}_") for name in names), number


def test_every_test_is_in_the_table_and_says_what_it_is_for() -> None:
    found = numbered()
    assert set().union(*TABLE.values()) == set(found)
    assert [name for name, text in found.items() if not text.endswith(".")] == []


def test_what_is_tested_elsewhere_is_there() -> None:
    for path in re.findall(r"`(tests/[\w/]+\.py)`", DOCUMENT):
        assert (ROOT / path).is_file(), path

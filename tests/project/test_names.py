"""The words of names: each word of a module, class or public function is in docs/glossary.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.paths import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
PACKAGES = ("mini_workflow", "pulumi_component")
CONTRACTS = ROOT / "mini_workflow" / "testing" / "contracts"


def words_of(name: str) -> list[str]:
    """The words of a name in camel case or with underscores, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[A-Z]|[a-z]+", name)]


@cache  # reading all modules takes seconds
def names() -> tuple[tuple[str, str], ...]:
    """(name, place) of each module, class and public function."""
    return tuple(_names())


def _names() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            yield path.stem, place
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    yield node.name, f"{place}:{node.lineno}"
                elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    # The tests of a contract suite are sentences, not names.
                    test = node.name.startswith("test_") and path.is_relative_to(CONTRACTS)
                    if not node.name.startswith("_") and not test:
                        yield node.name, f"{place}:{node.lineno}"


def known() -> set[str]:
    """The words of the glossary: its terms, and the plain words at its end."""
    terms, plain = GLOSSARY.read_text().split("## Plain words")
    first_cells = re.findall(r"^\| ([^|]+) \|", terms, flags=re.MULTILINE)
    return set(re.findall(r"[a-z0-9]+", " ".join([*first_cells, plain]).lower()))


def tables() -> list[list[str]]:
    """The rows of each table of the glossary, its header included."""
    terms = GLOSSARY.read_text().partition("## Plain words")[0]
    return [table.splitlines() for table in re.findall(r"(?:^\|.*\n)+", terms, flags=re.MULTILINE)]


def test_every_term_is_explained_in_a_sentence_and_has_the_words_of_other_engines() -> None:
    assert len(tables()) == 3
    for header, line, *rows in tables():
        assert header.split(" | ")[2:] == ["Temporal", "DBOS", "Restate", "AWS |"]
        assert set(line) == set("| -")
        for row in rows:
            _, term, meaning, *others, _ = row.split("|")
            assert meaning.strip().endswith("."), term
            assert len(others) == 4, term
            assert all(other.strip() for other in others), term


def test_every_word_of_a_name_is_in_the_glossary() -> None:
    words = known()
    unknown = {
        f"{word} ({name}, {place})"
        for name, place in names()
        for word in words_of(name)
        if word not in words
    }
    assert sorted(unknown) == [], (
        "name it in the field's words, or explain the word in the glossary"
    )


def test_the_plain_words_of_the_glossary_are_all_used() -> None:
    used = {word for name, _ in names() for word in words_of(name)}
    plain = GLOSSARY.read_text().rstrip().rpartition("\n\n")[2]
    assert sorted(set(re.findall(r"[a-z0-9]+", plain.lower())) - used) == []


@pytest.mark.parametrize(
    "word",
    ["lookout", "nursery", "courier", "errand", "nudge", "hush", "farewell", "mend"],
)
def test_invented_words_are_gone(word: str) -> None:
    assert word not in known()
    assert [place for name, place in names() if word in words_of(name)] == []

"""docs/laws.md lists the laws, each with the tests that name it."""

import re

from tests.paths import ROOT

ROW = re.compile(r"\| (\d+) \| (.+?) \| (.+) \|")
LINK = re.compile(r"\]\(\.\./([^)]+)\)")

ROWS = {
    int(match[1]): LINK.findall(match[3])
    for line in (ROOT / "docs" / "laws.md").read_text(encoding="utf-8").splitlines()
    if (match := ROW.fullmatch(line))
}


def test_the_laws_are_numbered_without_a_gap() -> None:
    assert list(ROWS) == list(range(1, len(ROWS) + 1))


def test_no_law_is_without_a_test() -> None:
    assert [number for number, tests in ROWS.items() if not tests] == []


def test_every_test_of_a_law_stands_in_its_row() -> None:
    missing = []
    for path in sorted((ROOT / "tests").rglob("test_law_*.py")):
        match = re.match(r"test_law_(\d+)_", path.name)
        name = path.relative_to(ROOT).as_posix()
        if match is not None and name not in ROWS.get(int(match[1]), []):
            missing.append(name)
    assert missing == []

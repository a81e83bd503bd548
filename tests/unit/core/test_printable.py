"""Nothing that comes from elsewhere steers a terminal or forges a line of a log."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mini_workflow.printable import LOGGERS, printable

FORGED = "fine\n2026-01-01 CRITICAL forged \x1b]0;owned\x07\x9b2J\u202e"


@given(st.text())
def test_a_printable_line_is_one_line_without_controls(text: str) -> None:
    safe = printable(text)
    assert len(safe.splitlines()) <= 1
    assert not any(ord(one) < 32 or 0x7F <= ord(one) < 0xA0 for one in safe)
    safe.encode()


@given(st.text())
def test_printable_json_says_the_same(text: str) -> None:
    said = printable(json.dumps(text, ensure_ascii=False), line=False, json=True)
    assert json.loads(said) == text
    assert "\x9b" not in said


def test_what_is_harmless_stays() -> None:
    assert printable("Grüße, 你好 🎉") == "Grüße, 你好 🎉"
    assert printable("a\n\tb", line=False) == "a\n\tb"
    assert printable("\x1b[31mred\x1b[0m", line=False, colours=True) == "\x1b[31mred\x1b[0m"
    assert printable("\x1b[8m", colours=True) == "\\x1b[8m"
    assert printable(FORGED).startswith("fine\\n2026")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(logging.Formatter("%(message)s").format(record))

    handler, logger = Keeper(), logging.getLogger("mini_workflow")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def record(name: str, where: str, *args: object, exc_info: object = None) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, where, 1, "it said %s", args, exc_info)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LOGGERS)
def test_the_library_logs_one_line_and_an_indented_traceback(name: str, lines: list[str]) -> None:
    own = str(Path(sys.modules["mini_workflow"].__file__ or "").parent / "engine" / "turn.py")
    try:
        raise ValueError(FORGED)
    except ValueError:
        info = sys.exc_info()
    logging.getLogger(name).handle(record(name, own, FORGED, exc_info=info))
    first, *others = lines[0].split("\n")
    assert first == f"it said {printable(FORGED)}"
    assert others
    assert all(one.startswith("  ") for one in others)
    assert "\x1b" not in lines[0]


def test_what_a_workflow_logs_itself_is_left_alone(lines: list[str]) -> None:
    name = "mini_workflow.workflow"
    logging.getLogger(name).handle(record(name, __file__, "a\nb"))
    assert lines == ["it said a\nb"]

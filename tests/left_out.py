"""What tests leave out where something is missing, said in one line at the end of `make test`.

    @needs("go", "pulumi")                      # programs
    def test_...

    left_out("the end-to-end tests in a browser", "Chromium does not start")    # anything else

On CI (CI=true) nothing may be left out: such a test fails there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

MARK: Final = "left out: "

_RECORD: Final = Path(__file__).resolve().parent.parent / "build" / "left-out.txt"
"""What all runs of pytest since the last summary have left out. LEFT_OUT=record asks for it."""


def left_out(what: str, why: str) -> NoReturn:
    """End the test, or the fixture: this is not tested here, for this reason."""
    text = f"{MARK}{what} because {why}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{text}; nothing may be left out where CI=true", pytrace=False)
    pytest.skip(text)


def needs(*programs: str) -> pytest.MarkDecorator:
    """A mark: the test is left out where one of these programs is not on the PATH."""
    return pytest.mark.needs(*programs)


def check(item: pytest.Item) -> None:
    """Leave a test out that needs a program which is not here."""
    for mark in item.iter_markers("needs"):
        for program in mark.args:
            if shutil.which(program) is None:
                left_out(str(item.nodeid.partition("::")[0]), f"{program} is not on the PATH")


def found(reports: dict[str, list[Any]]) -> list[str]:
    """What a run has left out, each once."""
    texts = [str(report.longrepr[2]) for report in reports.get("skipped", ())]
    return sorted({text.partition(MARK)[2] for text in texts if MARK in text})


def record(texts: list[str]) -> None:
    """Keep it for the summary."""
    if texts and os.environ.get("LEFT_OUT") == "record":
        _RECORD.parent.mkdir(exist_ok=True)
        with _RECORD.open("a") as file:
            file.writelines(f"{text}\n" for text in texts)


def summary() -> str:
    """One line about all that was recorded, which is forgotten."""
    texts = sorted(set(_RECORD.read_text().splitlines())) if _RECORD.is_file() else []
    _RECORD.unlink(missing_ok=True)
    return f"{MARK}{'; '.join(texts)}" if texts else f"{MARK}nothing"


if __name__ == "__main__":
    print(summary())

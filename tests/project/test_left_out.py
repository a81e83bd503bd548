"""What is left out is said, and is a failure on CI."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import left_out


def test_it_is_a_skip_that_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"left out: the map because it rains") as skip:
        left_out.left_out("the map", "it rains")
    reports: list[Any] = [
        SimpleNamespace(longrepr=("file.py", 1, f"Skipped: {text}"))
        for text in (str(skip.value), str(skip.value), "syntax of Python 3.12")
    ]
    assert left_out.found({"skipped": reports}) == ["the map because it rains"]


def test_it_is_a_failure_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nothing may be left out"):
        left_out.left_out("the map", "it rains")


def test_what_needs_a_program_that_is_missing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    item: Any = SimpleNamespace(nodeid="tests/a.py::test_b")
    item.iter_markers = lambda _: [left_out.needs("sh").mark]
    left_out.check(item)
    item.iter_markers = lambda _: [left_out.needs("sh", "no-such-program").mark]
    with pytest.raises(pytest.skip.Exception, match=r"tests/a\.py because no-such-program is not"):
        left_out.check(item)


def test_all_runs_are_summed_up_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left_out, "_RECORD", tmp_path / "build" / "left-out.txt")
    monkeypatch.delenv("LEFT_OUT", raising=False)
    left_out.record(["not asked for"])
    monkeypatch.setenv("LEFT_OUT", "record")
    left_out.record(["b because c", "a because b"])
    left_out.record(["b because c"])
    assert left_out.summary() == "left out: a because b; b because c"
    assert left_out.summary() == "left out: nothing"

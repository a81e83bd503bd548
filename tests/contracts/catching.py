"""Runs single tests of a contract suite, to see that they catch what is broken."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from _pytest.outcomes import Failed

CAUGHT = (Exception, Failed)


def laws_of(suite: type) -> list[str]:
    """The names of the tests of a suite."""
    return [name for name in dir(suite) if name.startswith("test_")]


def check_caught(case: type, name: str) -> None:
    """Check that a test fails on this case, with each of its parameters."""
    marks = [m for m in getattr(getattr(case, name), "pytestmark", ()) if m.name == "parametrize"]
    for values in product(*(mark.args[1] for mark in marks)):
        arguments: dict[str, Any] = {
            mark.args[0]: value for mark, value in zip(marks, values, strict=True)
        }
        if name == "test_each_operation_takes_the_calls_that_are_stated":
            node = SimpleNamespace(add_report_section=lambda *section: None)
            arguments["request"] = SimpleNamespace(node=node)
        opened = case()
        opened.prepare()
        with pytest.raises(CAUGHT):
            getattr(opened, name)(**arguments)

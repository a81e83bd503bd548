"""Only one process at a time packages, on every operating system that deploys."""

from __future__ import annotations

import ast
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pulumi_component import locks
from tests.paths import ROOT

OF_ONE_SYSTEM = {"fcntl", "msvcrt", "pwd", "grp", "resource", "termios", "winreg"}
"""Modules of the standard library that not every system has."""


def on_windows(monkeypatch: pytest.MonkeyPatch, locking: Any) -> ModuleType:
    """The module as Windows imports it: there is no fcntl, and there is msvcrt."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))  # type: ignore[arg-type]
    spec = importlib.util.spec_from_file_location("locks_of_windows", locks.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_lock_is_waited_for_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[tuple[int, int, int]] = []
    pauses: list[float] = []

    def locking(number: int, how: int, length: int) -> None:
        tries.append((number, how, length))
        if len(tries) < 3:
            raise OSError(13, "Permission denied")

    module = on_windows(monkeypatch, locking)
    monkeypatch.setattr(time, "sleep", pauses.append)
    with (tmp_path / "lock").open("wb") as file:
        file.write(b"x")
        module.take(file)
        # The same byte for everybody.
        assert file.tell() == 0
        assert tries == [(file.fileno(), 2, 1)] * 3
    assert pauses == [module.PAUSE] * 2


def test_what_deploys_and_what_is_deployed_import_nothing_of_one_system() -> None:
    """But for the lock, which asks which system it is on."""
    found: set[str] = set()
    for package in ("pulumi_component", "mini_workflow"):
        for path in (ROOT / package).rglob("*.py"):
            for node in _always(ast.parse(path.read_text(encoding="utf-8"))):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
                found |= {f"{path.name}: {name}" for name in OF_ONE_SYSTEM & set(names)}
    assert found == set()


def _always(module: ast.Module) -> list[ast.stmt]:
    """The statements of a module that run wherever it is imported."""
    return [one for one in module.body if isinstance(one, ast.Import | ast.ImportFrom)]

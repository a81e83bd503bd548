"""Which pyproject.toml the command line heeds: none of another project, and none of another user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mini_workflow.cli import config
from mini_workflow.cli.config import DEFAULT_BACKEND, find_config


def write(folder: Path, name: str = "found.db") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(f'[tool.mini-workflow]\nbackend = "sqlite:{name}"\n')


def found(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return find_config(folder).backend


def test_it_is_found_upwards(tmp_path: Path) -> None:
    write(tmp_path)
    assert found(tmp_path / "a" / "b") == f"sqlite:{tmp_path / 'found.db'}"


@pytest.mark.parametrize("as_file", [False, True])
def test_the_root_of_a_repository_is_a_boundary(tmp_path: Path, as_file: bool) -> None:
    write(tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    if as_file:
        (project / ".git").write_text("gitdir: elsewhere\n")  # as in a worktree
    else:
        (project / ".git").mkdir()
    assert found(project / "deep") == DEFAULT_BACKEND
    write(project, "own.db")
    assert found(project / "deep") == f"sqlite:{project / 'own.db'}"


def test_the_home_folder_is_a_boundary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert found(tmp_path / "home" / "project") == DEFAULT_BACKEND


def test_the_border_of_a_file_system_is_a_boundary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    mounted = tmp_path / "mounted"
    monkeypatch.setattr(config, "_device", lambda place: int(place.is_relative_to(mounted)))
    assert found(mounted / "deep") == DEFAULT_BACKEND


@pytest.mark.parametrize("other", ["pyproject.toml", ""])
def test_nothing_of_another_user_is_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    write(tmp_path)
    theirs = tmp_path / other
    real = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = real(path, follow_symlinks=follow_symlinks)
        if path != theirs:
            return found
        fields = list(found)
        fields[4] = found.st_uid + 1
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "stat", stat)
    answer = find_config(tmp_path)
    assert answer.backend == DEFAULT_BACKEND
    assert answer.origin == "the default"

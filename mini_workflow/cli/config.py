"""Find out where executions are: from options, the environment, and pyproject.toml."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, cast

from mini_workflow.core.records import frozen
from mini_workflow.errors import UsageError

DEFAULT_BACKEND: Final = "sqlite:state.db"

TABLE: Final = "mini-workflow"
"""The table under [tool] in pyproject.toml."""

_KEYS: Final[dict[str, type]] = {
    "backend": str,
    "direct_url": str,
    "stack": str,
    "bucket": str,
    "modules": list,
    "codec": str,
}


@frozen
class Config:
    """The configuration after options, environment variables and pyproject.toml, in this order.

    `origin` says where `backend` was found.
    """

    backend: str
    stack: str | None = None
    bucket: str | None = None
    modules: tuple[str, ...] = ()
    codec: str | None = None
    direct_url: str | None = None
    origin: str = "the default"


def find_config(
    folder: Path,
    *,
    backend: str | None = None,
    backend_origin: str = "--backend",
    direct_url: str | None = None,
    stack: str | None = None,
    bucket: str | None = None,
    modules: tuple[str, ...] = (),
    codec: str | None = None,
) -> Config:
    """Return the configuration: given values first, then those of pyproject.toml at or above a folder.

    `backend_origin` names the source of `backend`, for people. Raises UsageError.
    """
    file, table = _table(folder)
    origin = backend_origin
    if backend is not None:
        if backend != "aws" and (stack or bucket):
            raise UsageError(f"--backend {backend}: --stack and --bucket belong to aws")
    elif stack or bucket:
        backend, origin = "aws", "--stack or --bucket"
    elif file is not None and "backend" in table:
        backend, origin = str(table["backend"]), f"[tool.{TABLE}] in {file}"
        if backend.startswith("sqlite:"):
            backend = f"sqlite:{file.parent / backend.removeprefix('sqlite:')}"
    elif "stack" in table or "bucket" in table:
        backend, origin = "aws", f"[tool.{TABLE}] in {file}"
    else:
        backend, origin = DEFAULT_BACKEND, "the default"
    if direct_url and not backend.startswith("postgres"):
        raise UsageError(f"backend {backend}: --direct-url belongs to postgresql")
    return Config(
        backend=backend,
        direct_url=direct_url or table.get("direct_url"),
        stack=stack or table.get("stack"),
        bucket=bucket or table.get("bucket"),
        modules=modules or tuple(table.get("modules", ())),
        codec=codec or table.get("codec"),
        origin=origin,
    )


def _table(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """Return the nearest pyproject.toml upwards that has the table, up to the boundary of the
    project.

    Files and folders of other users are not read: they would choose the store and the modules of
    this user's commands.
    """
    for place in _places(folder):
        file = place / "pyproject.toml"
        if not file.is_file() or not _is_own(file):
            continue
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get(TABLE)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read {file}: {error}") from error
        if table is not None:
            return file, _checked(file, table)
    return None, {}


def _places(folder: Path) -> Iterator[Path]:
    """Return the folder and those above it, up to the root of a Git repository, the home folder,
    the border of a file system, or a folder of another user, which is left out.
    """
    home = _home()
    for place in (folder, *folder.parents):
        if not _is_own(place) or _device(place) != _device(folder):
            return
        yield place
        if place == home or (place / ".git").exists():
            return


def _home() -> Path | None:
    try:
        return Path.home().resolve()
    except (OSError, RuntimeError):
        return None


def _device(place: Path) -> int | None:
    try:
        return place.stat().st_dev
    except OSError:
        return None


def _is_own(place: Path) -> bool:
    """Return whether this user owns a file or folder; always where the system has no user numbers."""
    me: Callable[[], int] | None = getattr(os, "geteuid", None)
    try:
        return me is None or place.stat().st_uid == me()
    except OSError:
        return False


def _checked(file: Path, table: object) -> dict[str, Any]:
    where = f"[tool.{TABLE}] in {file}"
    if not isinstance(table, dict):
        raise UsageError(f"{where} is not a table")
    fields = cast("dict[str, Any]", table)
    for key, value in fields.items():
        if key not in _KEYS:
            raise UsageError(f"{where}: {key!r} is unknown; there are {', '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]):
            raise UsageError(f"{where}: {key} = {value!r} must be a {_KEYS[key].__name__}")
    return fields

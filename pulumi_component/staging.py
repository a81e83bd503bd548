"""Make the folder with the code of a function, the same bytes every time.

`plan` chooses the files and changes nothing; `stage` makes the folder, unless it exists. The name of a
folder is a hash of its content. So a second call only reads the sources, and functions with the same code
share a folder.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pulumi_component import handlers, imports, locks, wheels
from pulumi_component.errors import BadPackage
from pulumi_component.wheels import Target

CACHE = ".mini-workflow/packages"
"""Where folders are kept, below the root of the program. It can be deleted at any time."""

LARGEST_UNZIPPED = 262_144_000
"""Bytes, of all files of a function. Source: AWS Lambda Developer Guide, "Lambda quotas"."""
LARGEST_REQUEST = 10_485_760
"""Bytes, of an archive that is in the request itself; a larger one comes from a bucket. Lambda takes
50 MB so, but a request of more than 10 MB is slow, and is sent as a whole again when it fails."""

# Counted into the name of each folder: a change of how folders are made must make new ones.
_FORMAT = "2"

_NEVER = {"__pycache__", "node_modules"}
# A function has no use for these parts of the library and of dill.
_NOT_IN_FUNCTIONS = {"mini_workflow": {"cli", "testing"}, "dill": {"tests"}}
_LIBRARY = ("mini_workflow", "dill")

# ZIP archives cannot say anything earlier.
_EPOCH = 315_532_800
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """The contents of a function's folder.

    `files` are (path in the folder, file it is copied from), sorted; `requirements` are resolved
    for `target` and put beside them.
    """

    handler: handlers.Handler
    files: tuple[tuple[str, Path], ...]
    requirements: tuple[str, ...]
    target: Target


def plan(
    handler: str,
    root: Path,
    target: Target,
    include: Sequence[str] = (),
    requirements: Sequence[str] | str = (),
) -> Plan:
    """Decide what the function of a handler needs.

    That is the handler's top-level package or module, what the patterns in `include` match below
    `root`, the library from the environment that deploys, and the requirements. Raises BadPackage.
    """
    _same_python(target)
    found = handlers.find(handler, root)
    files: dict[str, Path] = {}
    for name in _LIBRARY:
        files |= _library(name)
    package = root / found.package
    sources = _below(package) if package.is_dir() else [found.file]
    for path in [*sources, *_included(include, root)]:
        files[path.relative_to(root).as_posix()] = path
    return Plan(
        found, tuple(sorted(files.items())), tuple(wheels.requirements(requirements, root)), target
    )


def stage(planned: Plan, root: Path, say: Callable[[str], None] = lambda _: None) -> Path:
    """Return the folder of a plan, made if it is not there yet; `say` is told what is done, if
    anything.

    Several processes may ask for the same one. Raises BadPackage if a requirement has no wheel, or
    if the function would be larger than Lambda takes.
    """
    contents = {path: source.read_bytes() for path, source in planned.files}
    executable = {path for path, source in planned.files if _executable(source)}
    cache = root / CACHE
    cache.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError), (cache.parent / ".gitignore").open("x") as ignore:
        ignore.write("*\n")
    folder = cache / _digest(planned, contents, executable)
    name = planned.handler.text
    with _alone(cache):
        if folder.is_dir():
            return folder
        work = cache / f"{folder.name}.part"
        shutil.rmtree(work, ignore_errors=True)
        if planned.requirements:
            say(f"{name}: fetching {', '.join(planned.requirements)}")
            shutil.copytree(_wheels(planned, cache), work)
        for path, content in contents.items():
            place = work / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            place.chmod(0o755 if path in executable else 0o644)
        imports.check(planned.handler, work)
        _check_size(planned, work)
        _normalize(work)
        work.rename(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    say(f"{name}: packaged, {size / 1_000_000:.1f} MB in {folder.name}")
    return folder


def _same_python(target: Target) -> None:
    deploying = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if target.python != deploying:
        raise BadPackage(
            f"the function is to run on Python {target.python} and this program on {deploying}. "
            "What tasks capture is bytecode, which belongs to one minor version: deploy with Python "
            f"{target.python}, or leave the option runtime out"
        )


# What goes in


def _below(folder: Path) -> list[Path]:
    """Return the files of a folder, without what is hidden or compiled."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if _wanted(name))
        found += [Path(place, name) for name in names if _wanted(name)]
    return sorted(found)


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name not in _NEVER and not name.endswith((".pyc", ".pyo"))


def _included(patterns: Sequence[str], root: Path) -> Iterator[Path]:
    for pattern in patterns:
        if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
            raise BadPackage(f"include: {pattern!r} leads out of {root}")
        matched = sorted(root.glob(pattern))
        if not matched:
            raise BadPackage(f"include: nothing in {root} matches {pattern!r}")
        for path in matched:
            yield from _below(path) if path.is_dir() else [path]


@functools.cache
def _library(name: str) -> dict[str, Path]:
    """Return the files of a package of the environment that deploys, which is in pure Python. Which they
    are is looked up once: a program has many functions.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise BadPackage(f"{name} is not installed where this program runs")
    top = Path(spec.origin).parent
    left_out = _NOT_IN_FUNCTIONS[name]
    return {
        path.relative_to(top.parent).as_posix(): path
        for path in _below(top)
        if path.relative_to(top).parts[0] not in left_out
    }


def _wheels(planned: Plan, cache: Path) -> Path:
    """Return the folder with the wheels of these requirements, resolved when they were first asked
    for.
    """
    target = planned.target
    asked = [_FORMAT, target.python, target.architecture, *planned.requirements]
    asked.append(importlib.metadata.version("dill"))
    folder = cache / f"wheels-{_hash(part.encode() for part in asked)}"
    if not folder.is_dir():
        work = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(work, ignore_errors=True)
        wheels.install(planned.requirements, target, work)
        work.rename(folder)
    return folder


# Making it


def _digest(planned: Plan, contents: dict[str, bytes], executable: set[str]) -> str:
    target = planned.target
    described = [_FORMAT, target.python, target.architecture, *planned.requirements]
    parts = [part.encode() for part in described]
    for path, content in contents.items():
        parts += [path.encode(), b"x" if path in executable else b"", content]
    return f"{planned.handler.package}-{_hash(parts)}"


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def _normalize(folder: Path) -> None:
    """Make times and modes those of every other machine."""
    for path in [folder, *folder.rglob("*")]:
        executable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if executable else 0o644)
        os.utime(path, (_EPOCH, _EPOCH))


def _check_size(planned: Plan, folder: Path) -> None:
    sizes: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            top = path.relative_to(folder).parts[0]
            sizes[top] = sizes.get(top, 0) + path.stat().st_size
    unzipped = sum(sizes.values())
    if unzipped > LARGEST_UNZIPPED:
        shutil.rmtree(folder)
        largest = sorted(sizes.items(), key=lambda item: -item[1])[:3]
        listed = ", ".join(f"{name} {count / 1e6:.1f} MB" for name, count in largest)
        raise BadPackage(
            f"the handler {planned.handler.text!r}: its function has {unzipped / 1e6:.1f} MB "
            f"unzipped, and Lambda takes {LARGEST_UNZIPPED / 1e6:.1f} MB (the largest parts: "
            f"{listed})"
        )


def archive_of(folder: Path) -> Path:
    """Return the archive of a folder that was staged, beside it. Several processes may ask for the
    same one.
    """
    file = folder.with_name(f"{folder.name}.zip")
    with _alone(folder.parent):
        if not file.is_file():
            archive(folder, file)
    return file


def archive(folder: Path, file: Path) -> None:
    """Archive a folder, as the same bytes every time, with what is executable as such."""
    work = file.with_name(f"{file.name}.part")
    with zipfile.ZipFile(work, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _FIRST_DAY)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (0o755 if _executable(path) else 0o644) << 16
            packed.writestr(entry, path.read_bytes())
    work.replace(file)


def _executable(path: Path) -> bool:
    return os.name != "nt" and bool(path.stat().st_mode & 0o100)


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """One process at a time; what one of them made, the next one finds."""
    with (cache / "lock").open("ab") as lock:
        locks.take(lock)
        yield

"""Wheels of what is installed here, for programs that are packaged without a network."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@contextmanager
def only_from(folder: Path, *names: str) -> Iterator[None]:
    """Have pip find these packages, and what they need, in a folder, and nothing anywhere else."""
    folder.mkdir(parents=True, exist_ok=True)
    for distribution in _with_needs(names):
        _write_wheel(folder, distribution)
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        del os.environ[name]
    found = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    os.environ.update(found)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _with_needs(names: tuple[str, ...]) -> list[metadata.Distribution]:
    found: dict[str, metadata.Distribution] = {}
    open_ones = [Requirement(name) for name in names]
    while open_ones:
        wanted = open_ones.pop()
        name = canonicalize_name(wanted.name)
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        for need in map(Requirement, found[name].requires or ()):
            extras = wanted.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": one}) for one in extras):
                open_ones.append(need)
    return list(found.values())


def _write_wheel(folder: Path, distribution: metadata.Distribution) -> None:
    kept = [
        file
        for file in distribution.files or ()
        if file.suffix != ".pyc" and ".." not in file.parts  # scripts are beside the packages
    ]
    tags = [
        line.removeprefix("Tag: ")
        for line in (distribution.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    ]
    python, abi = {tag.split("-", 2)[0] for tag in tags}, {tag.split("-", 2)[1] for tag in tags}
    platforms = {tag.split("-", 2)[2] for tag in tags}
    tag = "-".join(".".join(sorted(part)) for part in (python, abi, platforms))
    name = distribution.metadata["Name"].replace("-", "_")
    with zipfile.ZipFile(folder / f"{name}-{distribution.version}-{tag}.whl", "w") as wheel:
        for file in kept:
            wheel.write(file.locate(), file.as_posix())

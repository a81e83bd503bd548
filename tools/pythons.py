"""The Pythons of this machine that the project can be tested on: one per minor version.

uv finds them, on the PATH and among the versions that pyenv has installed, and passes over what does
not start, such as a shim of pyenv that leads nowhere.

    python3 -m tools.pythons            # one line each: version and path
    python3 -m tools.pythons 3.12       # only these; it is an error if one is missing
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from tools import env

OLDEST = (3, 11)


class MissingPython(SystemExit):
    """A version was asked for by name and is not on this machine."""


def find() -> dict[str, str]:
    """Minor version, as "3.12" -> path of an interpreter that works, oldest version first."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [*map(str, pyenv.glob("versions/*/bin")), os.environ.get("PATH", os.defpath)]
    listed = env.uv(
        *("python", "list", "--only-installed", "--no-managed-python", "--output-format", "json"),
        path=os.pathsep.join(folders),
    )
    found: dict[tuple[int, int], str] = {}
    for each in json.loads(listed):
        minor = each["version_parts"]["major"], each["version_parts"]["minor"]
        usable = each["implementation"] == "cpython" and each["variant"] == "default"
        if usable and minor >= OLDEST and each["version"].replace(".", "").isdigit():
            found.setdefault(minor, each["path"])
    return {f"{major}.{minor}": found[major, minor] for major, minor in sorted(found)}


def choose(names: Iterable[str]) -> dict[str, str]:
    """The interpreters called `names`, such as "3.12"; all of them if there is no name."""
    found, wanted = find(), list(names)
    missing = [name for name in wanted if name not in found]
    if missing:
        have = ", ".join(found) or "none"
        raise MissingPython(f"no usable Python {', '.join(missing)} here (usable: {have})")
    return {name: found[name] for name in wanted or found}


if __name__ == "__main__":
    for version, path in choose(sys.argv[1:]).items():
        print(version, path)

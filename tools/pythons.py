"""Find the Python interpreters of this machine that the project can be tested on.

One per minor version from 3.11 on, oldest first: the interpreter that runs this module, what is
on the PATH as ``python3.N``, and the versions that pyenv has installed. A candidate counts only
if it starts and can make a virtual environment: shims that resolve to nothing, and system
packages without ensurepip or sqlite3, are passed over.

    python3 tools/pythons.py            # one line each: version and path
    python3 tools/pythons.py 3.12       # only these; it is an error if one is missing
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

OLDEST = (3, 11)

Minor = tuple[int, int]

_PROBE = """
import sys, sysconfig
import ensurepip, sqlite3, ssl, venv
assert sys.implementation.name == "cpython" and sys.version_info.releaselevel == "final"
assert not sysconfig.get_config_var("Py_GIL_DISABLED")
print(*sys.version_info[:2])
"""


class MissingPython(SystemExit):
    """A version was asked for by name and is not on this machine."""


def find() -> dict[Minor, str]:
    """Minor version -> path of an interpreter that works, oldest version first."""
    found: dict[Minor, str] = {}
    for candidate in _candidates():
        minor = _probe(candidate)
        if minor is not None and minor >= OLDEST:
            found.setdefault(minor, candidate)
    return dict(sorted(found.items()))


def choose(names: Iterable[str]) -> dict[Minor, str]:
    """The interpreters called `names` ("3.12" or "python3.12"); all of them if there is no name."""
    found = find()
    wanted = [_minor(name) for name in names]
    missing = [f"{major}.{minor}" for major, minor in wanted if (major, minor) not in found]
    if missing:
        have = ", ".join(f"{major}.{minor}" for major, minor in found) or "none"
        raise MissingPython(f"no usable Python {', '.join(missing)} here (usable: {have})")
    return {minor: path for minor, path in found.items() if not wanted or minor in wanted}


def _minor(name: str) -> Minor:
    match = re.fullmatch(r"(?:python)?(\d+)\.(\d+)(?:\.\d+)?", name)
    if match is None:
        raise MissingPython(f"{name!r} is not a Python version such as 3.12")
    return int(match[1]), int(match[2])


def _candidates() -> Iterator[str]:
    # Not sys.executable: in a virtual environment that would be the environment's own.
    yield getattr(sys, "_base_executable", sys.executable)
    named = re.compile(r"python3\.\d+")
    for folder in os.get_exec_path():
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        yield from (entry.path for entry in entries if named.fullmatch(entry.name))
    for root in _pyenv_roots():
        installed = root.glob("versions/*/bin/python")
        yield from map(str, sorted(installed, key=_patch_level, reverse=True))


def _pyenv_roots() -> Iterator[Path]:
    pyenv = shutil.which("pyenv")
    if pyenv is not None:
        asked = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            yield Path(asked.stdout.strip())


def _patch_level(python: Path) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", python.parent.parent.name)]


def _probe(candidate: str) -> Minor | None:
    try:
        answer = subprocess.run(
            [candidate, "-I", "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        major, minor = map(int, answer.stdout.split())
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return (major, minor) if answer.returncode == 0 else None


if __name__ == "__main__":
    for (major, minor), path in choose(sys.argv[1:]).items():
        print(f"{major}.{minor}", path)

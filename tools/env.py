"""Virtual environments, made in seconds by uv from the pinned lists in requirements/.

    python3 -m tools.env              # .venv, the development environment
    python3 -m tools.env tools        # .venv-tools, with nox and uv, made by pip

Uses the standard library only: the Makefile and the tests call it when nothing is installed yet.
Several of these may run at once. An environment that is up to date stays as it is.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036
    raise SystemExit(
        f"Python 3.11 or later is needed and {sys.executable} is older; "
        "name another one: make PYTHON=python3.12"
    )

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"

MAIN = "dev"

BARE = ("lambda", "emulator")
"""Environments without the project: what runs there must not find it by accident. Tests start
processes in them, on the Python that the tests run on."""

APART = ("frameworks", "oldest-agents")
"""Environments with the project and with packages of which the main one has other versions, or none:
tests/integrations/test_environments.py runs tests in them."""


class EnvironmentFailed(SystemExit):
    """A command failed; the message says which, and why."""


def tools() -> Path:
    """The folder with the programs nox and uv."""
    folder, pins = ROOT / ".venv-tools", (REQUIREMENTS / "tools.txt").read_text()
    with _alone():
        installed = folder / "pins.txt"
        if not installed.is_file() or installed.read_text() != pins:
            _run([sys.executable, "-m", "venv", "--clear", folder])
            pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
            _run([*pip, "install", "--quiet", "--no-deps", "-r", REQUIREMENTS / "tools.txt"])
            installed.write_text(pins)
    return folder / "bin"


def uv(*arguments: str | Path, text: str = "", path: str = "") -> str:
    """What uv prints. `text` is its input, `path` another PATH for it."""
    return _run([tools() / "uv", *arguments], text, path)


def environment(profile: str = MAIN, python: str = sys.executable, label: str = "") -> Path:
    """The interpreter of an environment with requirements/<profile>.txt, made if need be.

    `label` tells environments of one profile apart: a Python version, for example.
    """
    suffix = label or profile
    folder = ROOT / (".venv" if suffix == MAIN else f".venv-{suffix}")
    interpreter = folder / "bin" / "python"
    tools()
    with _alone():
        if _version(interpreter) != _version(python):
            print(f"{folder.name}: creating from {profile}.txt", file=sys.stderr, flush=True)
            uv("venv", "--clear", "--python", python, folder)
        sync = ["pip", "sync", "--python", interpreter, REQUIREMENTS / f"{profile}.txt"]
        if profile in BARE:
            uv(*sync)
        else:
            # What builds the project is pinned as well.
            build = ["--build-constraints", REQUIREMENTS / "dev.txt"]
            uv(*sync, *build, "-", text="--editable .")
    return interpreter


def beside(profile: str) -> Path:
    """The interpreter of a BARE or APART environment, for the version of Python that runs this."""
    return environment(profile, label=f"{profile}-{sys.version_info[0]}.{sys.version_info[1]}")


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of all environments of this checkout; a thread may hold it several times."""
    with _OF_THIS_PROCESS:
        if _HELD:
            yield
            return
        lock = os.open(REQUIREMENTS, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _HELD.append(lock)
            yield
        finally:
            _HELD.clear()
            os.close(lock)


_OF_THIS_PROCESS = threading.RLock()
"""Among its threads: the lock of the file is the same for all of them."""
_HELD: list[int] = []


def _version(python: str | Path) -> str:
    try:
        return _run([python, "-c", "import sys; print(sys.version)"])
    except OSError:
        return ""


def _run(command: list[str | Path], text: str = "", path: str = "") -> str:
    surroundings = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    if path:
        surroundings["PATH"] = path
    done = subprocess.run(
        command, cwd=ROOT, env=surroundings, input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise EnvironmentFailed(f"{done.stdout}{done.stderr}\n{' '.join(map(str, command))} failed")
    return done.stdout


if __name__ == "__main__":
    tools() if sys.argv[1:] == ["tools"] else environment(*sys.argv[1:])

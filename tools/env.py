"""Make the virtual environments of the project, from the pinned lists in requirements/.

    python3 tools/env.py              # .venv, with everything in requirements/dev.txt
    python3 tools/env.py test 3.12    # .venv-3.12, with what tests need
    python3 tools/env.py bench-dbos   # .venv-bench-dbos, with requirements/bench-dbos.txt

An environment that is up to date costs nothing. It is brought up to date when its list, its
Python, or a part of pyproject.toml that an installation depends on has changed. Several of these
may run at once, for different environments or for the same one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

try:
    import tomllib
except ImportError:
    raise SystemExit(
        f"Python 3.11 or later is needed and {sys.executable} is older; "
        "name another one: make PYTHON=python3.12"
    ) from None

ROOT = Path(__file__).resolve().parent.parent

MAIN = "dev"

BARE = ("lambda", "emulator")
"""Environments without the project: what runs there must not find it by accident. Tests start
processes in them, on the Python that the tests run on."""


class EnvironmentFailed(SystemExit):
    """An environment could not be made; the message says which, and why."""


def environment(profile: str = MAIN, python: str = sys.executable, label: str = "") -> Path:
    """The interpreter of an environment with requirements/<profile>.txt, made if need be.

    `label` tells environments of one profile apart: a Python version, for example.
    """
    suffix = label or profile
    folder = ROOT / (".venv" if suffix == MAIN else f".venv-{suffix}")
    folder.mkdir(exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _bring_up_to_date(folder, profile, python)
    finally:
        os.close(lock)
    return folder / "bin" / "python"


def beside(profile: str) -> Path:
    """The interpreter of a BARE environment, for the version of Python that runs this."""
    return environment(profile, label=f"{profile}-{sys.version_info[0]}.{sys.version_info[1]}")


def _bring_up_to_date(folder: Path, profile: str, python: str) -> None:
    stamp = folder / "up-to-date"
    pins = ROOT / "requirements" / f"{profile}.txt"
    wanted = _fingerprint(pins, python)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    started = time.monotonic()
    stamp.unlink(missing_ok=True)
    _say(folder, f"creating from requirements/{pins.name}")
    _run(folder, [python, "-m", "venv", "--clear", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    pip += ["--quiet", "--no-input", "--prefer-binary", "--no-deps", "--no-compile"]
    _run(folder, [*pip, "--requirement", str(pins)])
    if profile not in BARE:
        _run(folder, [*pip, "--no-build-isolation", "--editable", str(ROOT)])
    stamp.write_text(wanted)
    _say(folder, f"ready after {time.monotonic() - started:.0f} s")


def _fingerprint(pins: Path, python: str) -> str:
    """What an environment depends on, in one line. Settings of tools are not part of it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    installed = {
        key: project["project"].get(key)
        for key in ("name", "version", "dependencies", "requires-python", "scripts", "entry-points")
    }
    build = [project["build-system"], project["tool"]["hatch"]]
    version = subprocess.run(
        [python, "-c", "import sys; print(sys.version)"], capture_output=True, text=True, check=True
    ).stdout
    parts = [pins.read_text(), json.dumps([installed, build], sort_keys=True), version, str(ROOT)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest() + "\n"


def _run(folder: Path, command: list[str]) -> None:
    # Captured, so that environments made side by side do not mix their output.
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise EnvironmentFailed(f"{done.stdout}\n{folder.name}: {' '.join(command)} failed")


def _say(folder: Path, text: str) -> None:
    print(f"{folder.name}: {text}", file=sys.stderr, flush=True)


def _main(profile: str = MAIN, version: str = "") -> None:
    python = sys.executable
    if version:
        import pythons

        (python,) = pythons.choose([version]).values()
    environment(profile, python, version)


if __name__ == "__main__":
    _main(*sys.argv[1:])

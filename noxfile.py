"""The test suite on every Python of this machine, and the pins of all environments.

nox and uv are in .venv-tools, which the Makefile makes. `make test` and `make lock` call this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import nox

from tools import env, pythons

ROOT = Path(__file__).resolve().parent

nox.options.default_venv_backend = "none"

PYTHONS = pythons.choose(os.environ.get("PYTHONS", "").split())
MAIN = f"{sys.version_info[0]}.{sys.version_info[1]}"
"""The Python that everything is tested on."""

ONCE = (
    *("tests/aws", "tests/e2e", "tests/project", "tests/pulumi", "tests/ui", "tests/unit/cli"),
    "tests/integrations/test_environments.py",
)
"""What is tested on the main Python only, beside the tests that are marked `aws`: programs, documents,
packaging, pages in a browser, and what takes an account of AWS on loopback. The library itself is tested
on the newest Python as well."""

BETWEEN = ("behaviours", "laws", "unit/codecs", "unit/core")
"""What is tested on the Pythons between these two, without the tests that are marked `local`: what
depends on the interpreter. Differences show on the oldest or on the newest one."""


@nox.session
@nox.parametrize("python", [nox.param(version, id=version) for version in PYTHONS])
def test(session: nox.Session, python: str) -> None:
    """The test suite on one Python; what follows -- goes to pytest."""
    if python == MAIN:
        interpreter = env.environment()
        for profile in (*env.BARE, *env.APART):
            env.beside(profile)
    else:
        interpreter = env.environment("test", PYTHONS[python], python)
    scope: list[str] = []
    if python != MAIN and not session.posargs and len(PYTHONS) > 1:
        scope = [f"--ignore={path}" for path in ONCE] + ["-m", "not aws"]
        if python != list(PYTHONS)[-1]:
            scope = [f"tests/{name}" for name in BETWEEN] + ["-m", "not aws and not local"]
    session.run(
        *(str(interpreter), "-m", "pytest", "--numprocesses=auto", "--maxprocesses=8"),
        *(*scope, *session.posargs),
        env={"LEFT_OUT": "record", "SWEEP": f"3:{_commit() % 3}" if scope else "1:0"},
        external=True,
    )


def _commit() -> int:
    """Return the number of the commit: each of them leaves out another part of the crash sweeps."""
    asked = ["git", "rev-list", "--count", "HEAD"]
    answer = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return int(answer.stdout or "0")


@nox.session
def lock(session: nox.Session) -> None:
    """Pin the newest versions that pyproject.toml allows, for all supported Pythons at once."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first = env.REQUIREMENTS / f"{env.MAIN}.txt"
    # The first list binds the others, so that all environments agree on what they share.
    for profile in (
        env.MAIN,
        "test",
        "bench",
        "bench-aws-durable",
        "bench-dbos",
        "bench-temporal",
        "bench-picture",
        *env.BARE,
        *env.APART,
        "tools",
    ):
        output = env.REQUIREMENTS / f"{profile}.txt"
        command = ["pip", "compile", "--universal", "--python-version", f"3.{pythons.OLDEST[1]}"]
        # Nothing of the machine that made the list may be left in it.
        command += ["--no-config", "--no-header", "--no-annotate"]
        command += [
            "--no-emit-index-url",
            "--no-emit-find-links",
            *(session.posargs or ["--upgrade"]),
        ]
        if profile not in (env.MAIN, "emulator", *env.APART):  # the emulator runs by itself
            command += ["--constraint", str(first)]
        if profile in (*env.BARE, "tools"):
            # By itself: with the project would come what the project depends on.
            text = "\n".join(wanted["optional-dependencies"][profile])
            env.uv(*command, "--output-file", output, "-", text=text)
        else:
            env.uv(*command, "--output-file", output, "--extra", profile, "pyproject.toml")
        session.log(f"{profile}: {len(output.read_text().splitlines())} pins")

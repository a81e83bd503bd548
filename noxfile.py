"""The test suite on every Python of this machine, and the pins of all environments.

nox and uv are in .venv-tools, which the Makefile makes. `make test` and `make lock` call this.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import nox

from tools import env, pythons

ROOT = Path(__file__).resolve().parent

nox.options.default_venv_backend = "none"

PYTHONS = pythons.choose(os.environ.get("PYTHONS", "").split())
MAIN = f"{sys.version_info[0]}.{sys.version_info[1]}"
"""The Python that everything is tested on."""

NEWEST = (
    *("behaviours", "contracts", "integrations/test_golden_agents.py", "laws", "unit/codecs"),
    *("unit/core", "unit/engine", "unit/local", "unit/queued", "unit/runners", "unit/schedules"),
    *("unit/stores", "unit/test_annotations.py", "unit/testing"),
)
"""What is tested on the newest Python, without the behaviours that are marked `aws` or `postgres`: the
library itself, whose loop, codecs, threads, processes and files may differ there. The main Python alone
tests the rest, which are programs, documents, packaging, pages in a browser and what takes a server."""

BETWEEN = (
    *("behaviours", "laws/golden", "laws/test_corpus.py", "laws/test_law_01_replay.py"),
    *(
        "laws/test_law_04_determinism.py",
        "laws/test_law_05_time.py",
        "laws/test_law_07_encoding.py",
    ),
    *("laws/test_law_21_fingerprints.py", "unit/codecs", "unit/core"),
)
"""What is tested on the Pythons between these two, of the behaviours only those on a virtual clock:
what depends on the interpreter. Differences show on the oldest or on the newest one."""


ROOM = 8 << 30
"""The bytes that temporary folders may take in memory: several times what they do."""


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
        scope = [f"tests/{name}" for name in NEWEST] + ["-m", "not aws and not postgres"]
        if python != list(PYTHONS)[-1]:
            scope = [f"tests/{name}" for name in BETWEEN]
            scope += ["-m", "not aws and not local and not postgres"]
    variables = {"LEFT_OUT": "record"} | ({"SWEEP": "less"} if scope else {})
    with _in_memory() as folder:
        session.run(
            *(str(interpreter), "-m", "pytest", "--numprocesses=auto", "--maxprocesses=8"),
            "--dist=worksteal",  # neighbours share what a module or a folder starts, such as a server
            *(*scope, *session.posargs),
            env=variables | ({"PYTEST_DEBUG_TEMPROOT": folder} if folder else {}),
            external=True,
        )


@contextmanager
def _in_memory() -> Iterator[str]:
    """Make a folder in memory for the temporary files of tests, where there is room.

    Thousands of tests open a file of their own, and wait for the disk. What is written to it, and when, is
    counted all the same.
    """
    memory = Path("/dev/shm")
    if "PYTEST_DEBUG_TEMPROOT" in os.environ or not os.access(memory, os.W_OK):
        yield ""
        return
    found = os.statvfs(memory)
    if found.f_bavail * found.f_frsize < ROOM or found.f_flag & os.ST_NOEXEC:
        yield ""
        return
    with TemporaryDirectory(
        dir=memory, prefix="mini-workflow-", ignore_cleanup_errors=True
    ) as folder:
        yield folder


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

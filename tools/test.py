"""Run the test suite on every supported Python of this machine, one version after the other.

    python3 tools/test.py                       # all versions found
    python3 tools/test.py 3.11 3.13 -- -k retry # these versions; the rest goes to pytest

Environments are made side by side, since that is mostly waiting. The suites follow one another,
each on all cores, so that a test that measures time does not compete with another suite. Programs,
documents and packaging are tested on the Python that runs this, if it is among them. Exits with 1
if any version fails, after all of them have run.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import env
import pythons

MAIN = f"{sys.version_info[0]}.{sys.version_info[1]}"

ONCE = (
    "tests/aws",
    "tests/benchmarks",
    "tests/cli",
    "tests/docs",
    "tests/emulator",
    "tests/example",
    "tests/test_project.py",
)
"""What is tested on the main Python only: programs, documents, packaging, and what takes an account
of AWS on loopback, with the tests that are marked `aws`. The library itself is tested on every
version."""

MAIN_ONLY = ("tests/e2e", "tests/e2e_pulumi", "tests/pulumi")
"""What needs packages that only the main environment has."""


def main(arguments: list[str]) -> int:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    interpreters = pythons.choose(arguments[:cut])
    options = arguments[cut + 1 :]
    names = ", ".join(f"{major}.{minor}" for major, minor in interpreters)
    print(f"test: Python {names}", file=sys.stderr, flush=True)

    verdicts: dict[str, tuple[int, float]] = {}
    with ThreadPoolExecutor(max_workers=len(interpreters)) as pool:
        environments: dict[str, Future[Path]] = {
            f"{minor[0]}.{minor[1]}": pool.submit(_environment, minor, path)
            for minor, path in interpreters.items()
        }
        if MAIN in environments:
            beside = [pool.submit(env.beside, profile) for profile in env.BARE]
            for made in beside:
                made.result()
        # All of them first: an installation would slow down the suite that runs beside it.
        ready = {version: made.result() for version, made in environments.items()}
    for version, python in ready.items():
        print(f"\ntest: Python {version}", file=sys.stderr, flush=True)
        started = time.monotonic()
        suite = [python, "-m", "pytest", "--numprocesses=auto", "--maxprocesses=8", *options]
        if version != MAIN:
            suite += [f"--ignore={path}" for path in MAIN_ONLY]
        if len(ready) > 1 and version != MAIN and not options:
            suite += [f"--ignore={path}" for path in ONCE] + ["-m", "not aws"]
        verdicts[version] = (
            subprocess.run(suite, cwd=env.ROOT, check=False).returncode,
            time.monotonic() - started,
        )

    print(file=sys.stderr)
    for version, (code, seconds) in verdicts.items():
        verdict = "passed" if code == 0 else f"FAILED (pytest exit code {code})"
        print(f"test: Python {version} {verdict} in {seconds:.0f} s", file=sys.stderr)
    return int(any(code for code, _ in verdicts.values()))


def _environment(minor: pythons.Minor, interpreter: str) -> Path:
    """The main environment for the Python that runs this, one with the tests' needs for others."""
    if minor == sys.version_info[:2]:
        return env.environment()
    return env.environment("test", interpreter, f"{minor[0]}.{minor[1]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

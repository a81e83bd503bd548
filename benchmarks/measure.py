"""Run the measurements: each in a fresh process, the systems taking turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import syncs
from benchmarks.cases import CASES, Case
from benchmarks.systems import SYSTEMS, System
from benchmarks.systems.script import SERVER
from tools.env import MAIN

ROOT: Final = Path(__file__).resolve().parent.parent

TIMEOUT_SECONDS: Final = 900.0
"""What one measurement may take: far above what any takes on a machine that does nothing else."""

Key = tuple[str, int, str]
"""Measurement, size, system."""


@dataclass(slots=True)
class Measured:
    """All that was measured: a list of runs for every figure, and what went wrong."""

    figures: dict[Key, dict[str, list[float]]] = field(default_factory=dict)
    about: dict[str, dict[str, str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, key: Key, figures: Mapping[str, float]) -> None:
        """Take up the figures of one run."""
        runs = self.figures.setdefault(key, {})
        for name, value in figures.items():
            runs.setdefault(name, []).append(value)

    def runs(self, key: Key, figure: str) -> list[float]:
        """The figures of all runs; empty if there is none."""
        return self.figures.get(key, {}).get(figure, [])

    def median(self, key: Key, figure: str) -> float | None:
        """The median over the runs, or None."""
        runs = self.runs(key, figure)
        return statistics.median(runs) if runs else None


class Failed(Exception):
    """A measurement gave no figures; says which, and the end of its output."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: `sizes` answers which rows a case has."""

    cases: Sequence[Case]
    systems: Sequence[str]
    runs: int
    quick: bool = False

    def sizes(self, case: Case) -> tuple[int, ...]:
        """The sizes of the rows."""
        return case.quick if self.quick else case.sizes

    def measurements(self) -> Iterator[Key]:
        """Every single measurement, in order: the systems take turns within each run."""
        done: set[tuple[int, Key]] = set()
        for case in self.cases:
            for size in self.sizes(case):
                for run in range(1 if case.once else self.runs):
                    for name in self.systems:
                        key = (case.measurement(name), case.size_for(name, size), name)
                        if name in case.systems and (run, key) not in done:
                            done.add((run, key))
                            yield key


def measure(
    plan: Plan, interpreters: Mapping[str, Path], scratch: Path, *, server: str | None = None
) -> Measured:
    """Do all measurements of the plan, reporting progress on standard error.

    `interpreters` maps the profiles of the systems to the interpreters of their environments.
    Files are written under `scratch`, which decides the disk, and removed. `server` is the address of
    the Postgres server to use; by default one is started if a case needs it.
    """
    measured = Measured()
    keys = list(plan.measurements())
    scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch)))
        more: dict[str, str] = {}
        if any(CASES[name].on_server for name, *_ in keys):
            more[SERVER] = server or stack.enter_context(_server(interpreters[MAIN]))
        started = time.monotonic()
        for number, key in enumerate(keys, 1):
            system = SYSTEMS[key[2]]
            try:
                profile = profile_of(CASES[key[0]], system)
                figures, about = _measure(key, system, interpreters[profile], work, more)
            except Failed as failure:
                measured.failures.append(str(failure))
                outcome = "FAILED"
            else:
                measured.add(key, figures)
                measured.about.setdefault(system.name, about)
                outcome = " ".join(f"{name}={value:.6g}" for name, value in figures.items())
            _say(
                f"[{number}/{len(keys)}, {time.monotonic() - started:.0f} s] "
                f"{system.title}: {key[0]} {key[1]:,}: {outcome}"
            )
    for failure in measured.failures:
        _say(f"\n{failure}")
    return measured


@contextmanager
def _server(interpreter: Path) -> Iterator[str]:
    """The address of a Postgres server, which lives as long as the block. Raises Failed if none starts."""
    command = [interpreter, "-m", "benchmarks.server"]
    started = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with started:
        assert started.stdin is not None
        assert started.stdout is not None
        url = started.stdout.readline().strip()
        if not url:
            raise Failed("no Postgres server has started: see the lines above")
        yield url
        started.stdin.close()


def _measure(
    key: Key, system: System, interpreter: Path, work: Path, more: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, str]]:
    measurement, size, _ = key
    shared = work / "shared"
    shared.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        command = [interpreter, "-m", f"benchmarks.systems.{system.script}", measurement]
        command += [str(size), folder, shared, system.variant]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**_environment(work), **syncs.environment(work), **more},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as expired:
            raise Failed(
                f"{system.title}: {measurement} {size:,} took more than {expired.timeout:g} s"
            ) from None
    if done.returncode != 0:
        end = "\n".join(done.stderr.splitlines()[-12:])
        raise Failed(
            f"{system.title}: {measurement} {size:,} ended with status {done.returncode}:\n{end}"
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["figures"], answer["about"]


def _environment(work: Path) -> dict[str, str]:
    """The environment variables of a measurement: none that changes how Python works.

    Compiled modules are kept, as they are in real use, but out of the source tree.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"PYTHONPYCACHEPREFIX": str(work / "compiled")}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def choose(names: Sequence[str]) -> list[Case]:
    """The cases of these names, in their usual order; all if there is none."""
    return [case for case in CASES.values() if not names or case.name in names]


def needed(cases: Sequence[Case], systems: Sequence[str]) -> list[str]:
    """The profiles of the environments that the measurements need."""
    used = {
        profile_of(case, SYSTEMS[name])
        for name in systems
        for case in cases
        if name in case.systems
    }
    served = {MAIN} if used and any(case.on_server for case in cases) else set[str]()
    return sorted(used | served)


def profile_of(case: Case, system: System) -> str:
    """The environment in which a system is measured by a case."""
    return case.profile or system.profile

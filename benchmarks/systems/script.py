"""What the scripts of all systems share: arguments, clocks, and one line of JSON as the answer."""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.syncs import syncs

Figures = dict[str, float]

_KIB: Final = 1024

ON_POSTGRES: Final = "postgres-"
"""What the name of a measurement begins with that is made on a Postgres server."""

SERVER: Final = "BENCHMARK_POSTGRES"
"""The environment variable with the address of the server."""


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement.

    `folder` is empty and for this measurement alone; `shared` is kept for all measurements of one
    run of the benchmarks, for what is costly to prepare and not changed by measuring. `server` is the
    address of a Postgres server, where the measurement is one on that.
    """

    size: int
    folder: Path
    shared: Path
    variant: str = ""
    server: str = ""

    @property
    def name(self) -> str:
        """A name of this measurement alone, for what it makes on the server."""
        return "".join(filter(str.isalnum, f"{self.folder.parent.name}{self.folder.name}")).lower()


Measurement = Callable[[Job], Figures]


class WrongResult(AssertionError):
    """A system did not do what it was measured for."""


def expect(actual: object, expected: object, what: str) -> None:
    """A figure counts only if the work was done: raise WrongResult unless both are equal."""
    if actual != expected:
        raise WrongResult(f"{what}: {actual!r} instead of {expected!r}")


def synced(call: Callable[[], object], pieces: int) -> Figures:
    """How often the call syncs a file for each of so many pieces of work; nothing if that is not
    counted.
    """
    before = syncs()
    call()
    after = syncs()
    return {} if before is None or after is None else {"syncs": (after - before) / pieces}


def seconds(call: Callable[[], object]) -> float:
    """How long the call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def repeated(call: Callable[[], object], *, budget: float = 0.5, most: int = 50) -> float:
    """The median time of a call, made until `budget` seconds are spent or `most` times."""
    taken: list[float] = []
    while not taken or (sum(taken) < budget and len(taken) < most):
        taken.append(seconds(call))
    return statistics.median(taken)


def latencies(call: Callable[[], object], times: int) -> Figures:
    """The 50th and 99th percentile of a call's time, in microseconds."""
    taken = sorted(seconds(call) for _ in range(times))
    return {
        "p50_us": statistics.median(taken) * 1e6,
        "p99_us": taken[max(0, int(len(taken) * 0.99) - 1)] * 1e6,
    }


def resident_kib() -> float:
    """The memory of this process, as the system counts it."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / _KIB
    asked = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True
    )
    return float(asked.stdout)


def opening(code: str, job: Job, times: int = 3) -> Figures:
    """Run `code`, which prints milliseconds and the number of modules, in fresh interpreters, after one
    that compiles what it imports.

    `code` gets a path that does not exist yet as its argument.
    """
    taken: list[float] = []
    modules = 0
    # As it is where a package is installed: compiled. What is measured is not how Python compiles.
    compiled = {**os.environ, "PYTHONPYCACHEPREFIX": str(job.folder / "compiled")}
    compiled.pop("PYTHONDONTWRITEBYTECODE", None)
    for number in range(times + 1):
        path = job.folder / f"opening-{number}.db"
        prepare_journal(path, job.variant)
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env=compiled,
        )
        if not number:
            continue
        milliseconds, modules = json.loads(done.stdout.splitlines()[-1])
        taken.append(milliseconds)
    return {"open_ms": statistics.median(taken), "modules": modules}


def prepare_journal(path: Path, variant: str) -> None:
    """Make an empty file in WAL mode, if that is the variant: the mode is kept in the file."""
    if variant != "wal":
        return
    import sqlite3

    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def helper(measurement: str, job: Job, *, killed: bool = False) -> None:
    """Run another measurement of the same script to its end, in a process of its own.

    `killed` says that it has to end by killing itself.
    """
    script = sys.modules["__main__"].__spec__
    assert script is not None
    command = [sys.executable, "-m", script.name, measurement, str(job.size)]
    command += [str(job.folder), str(job.shared), job.variant]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    expect(done.returncode, -signal.SIGKILL if killed else 0, f"exit status of {measurement}")


def die() -> None:
    """End this process as a power cut of the machine would."""
    os.kill(os.getpid(), signal.SIGKILL)


def _measurement(text: str) -> tuple[str, str]:
    """The measurement, and the server where it is one on Postgres."""
    name = text.removeprefix(ON_POSTGRES)
    return name, os.environ[SERVER] if name != text else ""


def serve(measurements: Mapping[str, Measurement], about: Callable[[], dict[str, str]]) -> None:
    """Do what the command line asks for and print the figures as the last line of the output."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("measurement", type=_measurement, metavar="MEASUREMENT")
    parser.add_argument("size", type=int)
    parser.add_argument("folder", type=Path, help="an empty directory for this measurement")
    parser.add_argument("shared", type=Path, help="a directory that later measurements see again")
    parser.add_argument("variant", nargs="?", default="")
    asked = parser.parse_args()
    name, server = asked.measurement
    job = Job(asked.size, asked.folder, asked.shared, asked.variant, server)
    figures = measurements[name](job)
    answer: dict[str, Any] = {"figures": figures, "about": about()}
    print(json.dumps(answer), flush=True)
    # Threads that a system leaves behind must not hold up the next measurement.
    os._exit(0)

"""The benchmarks' scripts at tiny sizes: they run, check their results and give figures."""

import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.cases import CASES
from benchmarks.measure import Measured, Plan, measure, needed
from benchmarks.systems import LIMIT, OURS
from benchmarks.systems.script import WrongResult, expect, latencies, repeated

SIZES = {
    "replay": 20,
    "memory": 20,
    "suspended": 20,
    "import": 1,
    "list-page": 60,
    "execution-page": 40,
}


def tiny(*names: str) -> list[tuple[str, str]]:
    return [
        (case.name, system)
        for case in CASES.values()
        for system in names
        if system in case.systems and case.measurement(system) == case.name
    ]


@pytest.mark.parametrize(("name", "system"), tiny(OURS, LIMIT))
def test_measurement(
    name: str, system: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    # That one is started is seen once.
    given = CASES[name].on_server and (name, system) != ("postgres-trips", OURS)
    server = request.getfixturevalue("postgres").url if given else None
    measured = run(name, system, SIZES.get(name, 5), tmp_path, server)
    assert measured.failures == []
    for figure in CASES[name].figures:
        value = measured.median((name, SIZES.get(name, 5), system), figure.name)
        if figure.name == "syncs" and value is None and not shutil.which("cc"):
            continue  # not counted on this machine
        assert value is not None
        # What is next to nothing may come out as less than nothing, and some things take no round trip.
        assert (
            value > 0 or name in {"memory", "suspended", "postgres-trips"} or figure.name == "syncs"
        )
    assert not list(tmp_path.iterdir())


def test_a_measurement_that_fails_is_reported(tmp_path: Path) -> None:
    measured = run("sequential", OURS, -1, tmp_path)
    assert not measured.figures
    (failure,) = measured.failures
    assert failure.startswith("mini-workflow: sequential -1 ended with status")


def run(name: str, system: str, size: int, scratch: Path, server: str | None = None) -> Measured:
    class Tiny(Plan):
        def measurements(self):
            yield name, size, system

    profiles = needed([CASES[name]], [system])
    interpreters = dict.fromkeys(profiles, Path(sys.executable))
    return measure(Tiny([], [], 1), interpreters, scratch, server=server)


def test_expect() -> None:
    expect(1, 1, "ones")
    with pytest.raises(WrongResult, match="ones: 1 instead of 2"):
        expect(1, 2, "ones")


def test_repeated_calls_at_least_once_and_at_most_so_often() -> None:
    calls: list[int] = []
    repeated(lambda: calls.append(1), budget=0)
    assert len(calls) == 1
    repeated(lambda: calls.append(1), budget=60, most=3)
    assert len(calls) == 4


def test_latencies_are_percentiles() -> None:
    figures = latencies(lambda: None, 100)
    assert 0 < figures["p50_us"] <= figures["p99_us"]

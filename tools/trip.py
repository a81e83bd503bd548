"""Print the trip of one task through the library: each change of module, from ``ctx.task`` to its result.

Run a workflow of a few sequential tasks on a LocalRuntime, watch the calls of the later ones with a
profile hook on every thread, and count how often the trip changes module and package. The numbers
say how straight the way is: ``python tools/trip.py`` prints them, ``--steps`` each step, and ``--gather``
the calls and commits of many tasks under one gather.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType

import mini_workflow
from mini_workflow import Context, LocalRuntime, workflow

LIBRARY = str(Path(mini_workflow.__file__).parent) + "/"
_SETTLED = 3
_WATCHED = 5
"""How many tasks are not watched, since the first ones still import and fill caches, and how many are. The
trip is the shortest of theirs: on a busy machine one may have met another thread on its way."""


@workflow("trip")
async def trip(ctx: Context, recorder: str, tasks: int) -> int:
    done = 0
    for number in range(tasks):
        if number >= _SETTLED:
            RECORDERS[recorder].begin()
        done += await ctx.task(one)
        RECORDERS[recorder].end()
    return done


def one() -> int:
    return 1


GATHERED = 1_000


@workflow("gathered")
async def gathered(ctx: Context, tasks: int) -> int:
    return sum(await asyncio.gather(*[ctx.task(lambda: number) for number in range(tasks)]))  # noqa: B023


class Recorder:
    """Keeps the code objects of the library that are called while it is recording."""

    def __init__(self) -> None:
        self.trips: list[list[CodeType]] = []
        self._recording = False

    def begin(self) -> None:
        self.trips.append([])
        self._recording = True

    def end(self) -> None:
        self._recording = False

    def hook(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and self._recording and frame.f_code.co_filename.startswith(LIBRARY):
            self.trips[-1].append(frame.f_code)


RECORDERS: dict[str, Recorder] = {}


def module_of(code: CodeType) -> str:
    return code.co_filename.removeprefix(LIBRARY).removesuffix(".py").removesuffix("/__init__")


def package_of(code: CodeType) -> str:
    return module_of(code).partition("/")[0]


@contextmanager
def profiled(recorder: Recorder) -> Generator[LocalRuntime]:
    """Return a runtime, with the recorder told of the calls of all threads."""
    threading.setprofile(recorder.hook)
    sys.setprofile(recorder.hook)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            LocalRuntime(Path(folder) / "trip.db") as runtime,
        ):
            yield runtime
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def record() -> list[CodeType]:
    """Return the calls of one task's trip, in order, those of all threads together."""
    recorder = RECORDERS["main"] = Recorder()
    with profiled(recorder) as runtime:
        tasks = _SETTLED + _WATCHED
        assert runtime.start_execution(trip, "main", tasks).result(timeout=60) == tasks
    return min(recorder.trips, key=len)


def record_gather() -> tuple[list[CodeType], int]:
    """Return the calls of a gather of `GATHERED` tasks, those of all threads together, and its commits."""
    recorder = Recorder()
    with profiled(recorder) as runtime:
        runtime.start_execution(gathered, 10).result(timeout=60)
        before = runtime.metrics().commits
        recorder.begin()
        runtime.start_execution(gathered, GATHERED).result(timeout=60)
        recorder.end()
        commits = runtime.metrics().commits - before
    return recorder.trips[0], commits


def changes(names: list[str]) -> int:
    return sum(1 for before, after in pairwise(names) if before != after)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--steps", action="store_true", help="print each call where the module changes"
    )
    parser.add_argument("--gather", action="store_true", help="count what a gather takes")
    options = parser.parse_args()
    if options.gather:
        calls, commits = record_gather()
        print(f"{len(calls) / GATHERED:.1f} calls for each of {GATHERED} tasks, {commits} commits")
        return
    calls = record()
    if options.steps:
        before = ""
        for code in calls:
            if (module := module_of(code)) != before:
                print(f"  {module}:{code.co_firstlineno} {code.co_qualname}")
            before = module
    modules = [module_of(code) for code in calls]
    print(
        f"{len(calls)} calls in {len(set(modules))} modules: {changes(modules)} changes of module, "
        f"{changes([package_of(code) for code in calls])} of package"
    )


if __name__ == "__main__":
    main()

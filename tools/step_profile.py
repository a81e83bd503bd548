"""Print what one step costs by function: calls, and microseconds of its own, per sequential task.

Run a workflow of sequential tasks on a LocalRuntime whose disk hides nothing (``synchronous=NORMAL``), and
profile the thread on which they run. Calls are exact on a machine however busy, microseconds are
not, and a profiled call takes longer than one that is not: compare them with each other only.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
from pathlib import Path
from typing import Any

from mini_workflow import Context, LocalRuntime, workflow

PROFILE = cProfile.Profile()
SETTLED = 20
"""Tasks before the profile begins: the first ones still import and fill caches."""


@workflow("profiled")
async def profiled(ctx: Context, steps: int, asynchronous: bool) -> int:
    total = 0
    for number in range(steps + SETTLED + 1):
        if number == SETTLED:
            PROFILE.enable()
        if number == SETTLED + steps:
            PROFILE.disable()
        total += await (ctx.task(one_async) if asynchronous else ctx.task(lambda: 1))
    return total


async def one_async() -> int:
    return 1


def measure(steps: int, *, asynchronous: bool) -> Any:
    """The statistics of so many steps."""
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalRuntime(Path(folder) / "profile.db", synchronous="NORMAL") as runtime,
    ):
        runtime.start_execution(profiled, steps, asynchronous).result(timeout=600)
    stats: Any = pstats.Stats(PROFILE)
    return stats


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=500, help="how many tasks (default: 500)")
    parser.add_argument("--top", type=int, default=60, help="how many functions (default: 60)")
    parser.add_argument("--async", dest="asynchronous", action="store_true", help="async tasks")
    options = parser.parse_args()
    stats = measure(options.steps, asynchronous=options.asynchronous)
    rows: list[tuple[float, float, float, str]] = []
    ours = builtin = 0.0
    root = str(Path(__file__).resolve().parents[1])
    for (file, line, name), (_, calls, own, total, _) in stats.stats.items():
        where = f"{file.removeprefix(root).lstrip('/')}:{line} {name}" if line else name
        per_step = calls / options.steps
        if line:
            ours += per_step
        else:
            builtin += per_step
        rows.append((own / options.steps * 1e6, per_step, total / options.steps * 1e6, where))
    print(f"{'us own':>8} {'us total':>9} {'calls':>7}  per step")
    for own, calls, total, where in sorted(rows, reverse=True)[: options.top]:
        print(f"{own:8.2f} {total:9.2f} {calls:7.2f}  {where}")
    print(f"{ours:.0f} calls of Python functions and {builtin:.0f} of others per step")


if __name__ == "__main__":
    main()

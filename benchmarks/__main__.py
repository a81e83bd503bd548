"""The command line: make bench, or python -m benchmarks."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import picture, report
from benchmarks.cases import CASES, Case
from benchmarks.measure import ROOT, Plan, choose, measure, needed
from benchmarks.systems import SYSTEMS
from tools import env

_ABOUT = """\
Measure mini-workflow side by side with its peers and with what the storage allows.

Every system has a virtual environment of its own, which is made from the pinned lists in
requirements/ when it is missing. Every measurement is a fresh process, checks its results and
counts the events or steps in the file; the systems take turns, several times, and medians count.
"""

_MORE = """\
examples, from the root of the checkout:
  make bench                                  everything, about 20 minutes on two cores
  make bench ARGS=--quick                     a look at everything, less than a minute
  make bench ARGS="--case gather --runs 5"    one case
  make bench ARGS="--picture docs/performance.png"
                                              everything, and the picture of docs/performance.md
  make bench ARGS="--case sequential --systems mini-workflow,limit"
                                              without the peers; their bars are left out

The table is printed on standard output: what each system reached, in brackets how many times
better mini-workflow is, and below each line the bars with yes or NO. Progress is on standard
error. The exit status is 1 if a bar does not hold or a measurement fails, otherwise 0. Other
programs that are running change the figures: read ratios, not absolutes.
"""


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    cases = "\n".join(f"  {case.name:<22}{case.about}" for case in CASES.values())
    systems = "\n".join(f"  {name:<22}{system.about}" for name, system in SYSTEMS.items())
    made = argparse.ArgumentParser(
        prog="make bench",
        description=_ABOUT,
        epilog=f"cases:\n{cases}\n\nsystems:\n{systems}\n\n{_MORE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--case",
        action="append",
        default=[],
        choices=CASES,
        metavar="NAME",
        help="measure only this case; may be repeated (all)",
    )
    made.add_argument("--runs", type=_positive, metavar="N", help="runs of each measurement (3)")
    made.add_argument(
        "--systems",
        type=_systems,
        default=list(SYSTEMS),
        metavar="A,B",
        help="measure only these of the systems below (all)",
    )
    made.add_argument("--quick", action="store_true", help="small sizes, one run")
    made.add_argument(
        "--json",
        type=Path,
        default=ROOT / "benchmarks" / "results.json",
        metavar="PATH",
        help="where to write all figures (benchmarks/results.json)",
    )
    made.add_argument(
        "--picture",
        type=Path,
        metavar="PATH",
        help="draw the figures of this run into a PNG file; takes matplotlib, in an environment of its own",
    )
    made.add_argument(
        "--scratch",
        type=Path,
        default=ROOT / "build" / "benchmarks",
        metavar="DIR",
        help="where the files are made, and so on which disk (build/benchmarks)",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; the exit status."""
    asked = parser().parse_args(arguments)
    cases = choose(asked.case)
    systems, interpreters = _environments(cases, asked.systems)
    plan = Plan(cases, systems, asked.runs or (1 if asked.quick else 3), asked.quick)
    measured = measure(plan, interpreters, asked.scratch)
    print(report.table(plan, measured))
    document = report.document(plan, measured)
    asked.json.write_text(json.dumps(document, indent=2) + "\n")
    if asked.picture is not None:
        picture.draw(asked.json, asked.picture)
    return 0 if report.holds(plan, measured) else 1


def _environments(
    cases: Sequence[Case], systems: Sequence[str]
) -> tuple[list[str], dict[str, Path]]:
    """The systems that can be measured here, and the interpreters by the profiles of all."""
    found = list(systems)
    interpreters: dict[str, Path] = {}
    for name in systems:
        for profile in needed(cases, [name]):
            try:
                interpreters[profile] = interpreters.get(profile) or env.environment(profile)
            except env.EnvironmentFailed:
                if not SYSTEMS[name].may_lack:
                    raise
                print(f"{name} is left out: it cannot be installed here", file=sys.stderr)
                found.remove(name)
    return found, interpreters


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return value


def _systems(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(unknown)}; choose from {', '.join(SYSTEMS)}"
        )
    return [name for name in SYSTEMS if name in names]


if __name__ == "__main__":
    sys.exit(main())

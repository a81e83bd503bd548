"""Draw the figures of a run, from its JSON: how many times better ours are, and what grows with size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.systems import LIMIT, OURS, SYSTEMS
from tools import env

PROFILE: Final = "bench-picture"

COMPARED: Final = (
    ("sequential", "us_per_task"),
    ("executions-1", "one_by_one_per_second"),
    ("executions-1", "per_second"),
    ("gather", "total_ms"),
    ("workers-sequential", "us_per_task"),
    ("latency", "p50_us"),
    ("replay", "us_per_event"),
    ("import", "open_ms"),
)
"""Cases and figures of the upper part, in which a bar of 1 is our own figure."""

GROWING: Final = (
    ("sequential", "us_per_task", "a step"),
    ("long", "us_per_task", "a step of a long execution"),
    ("signals", "us_per_signal", "a signal"),
    ("children", "us_per_child", "a child"),
    ("replay", "us_per_event", "an event, replayed"),
)
"""What the lower part shows by size, per piece."""


def draw(results: Path, output: Path) -> None:
    """Draw the figures of a results file, in an environment that has matplotlib."""
    interpreter = env.environment(PROFILE)
    command = [interpreter, "-m", "benchmarks.picture", str(results), str(output)]
    subprocess.run(command, check=True, cwd=Path(__file__).resolve().parent.parent)


def compared(document: dict[str, Any]) -> dict[str, list[tuple[str, float]]]:
    """For each other system the titles of the rows and how many times better ours are; of each case
    the largest size.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {
        (row["case"], row["figure"]): row for row in document["rows"]
    }
    found: dict[str, list[tuple[str, float]]] = {}
    for place in COMPARED:
        if (row := rows.get(place)) is None:
            continue
        for name, figure in row["systems"].items():
            if name != OURS and figure["times"]:
                found.setdefault(name, []).append((row["title"], figure["times"]))
    return found


def growing(document: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Our figures by size, of each line that has two sizes at least."""
    found: dict[str, list[tuple[int, float]]] = {}
    for case, figure, title in GROWING:
        points = [
            (row["size"], row["systems"][OURS]["median"])
            for row in document["rows"]
            if (row["case"], row["figure"]) == (case, figure) and OURS in row["systems"]
        ]
        if len(points) > 1:
            found[title] = points
    return found


def main(results: Path, output: Path) -> None:
    import matplotlib  # pyright: ignore[reportMissingImports]

    matplotlib.use("agg")
    from matplotlib import pyplot  # pyright: ignore[reportMissingImports]

    document = json.loads(results.read_text())
    chart, (upper, lower) = pyplot.subplots(2, 1, figsize=(9, 10), layout="constrained")
    systems = compared(document)
    titles = list(dict.fromkeys(title for rows in systems.values() for title, _ in rows))
    height = 0.8 / max(1, len(systems))
    for number, (name, rows) in enumerate(systems.items()):
        places = [titles.index(title) + number * height for title, _ in rows]
        label = SYSTEMS[name].title + (" (cannot be beaten)" if name == LIMIT else "")
        upper.barh(places, [times for _, times in rows], height, label=label)
    upper.set_yticks([place + 0.4 - height / 2 for place in range(len(titles))], titles)
    upper.invert_yaxis()
    upper.set_xscale("log")
    upper.axvline(1, color="black", linewidth=1)
    upper.set_xlabel("how many times better mini-workflow is; left of the line it is worse")
    upper.legend()
    for title, points in growing(document).items():
        lower.plot([size for size, _ in points], [value for _, value in points], "o-", label=title)
    lower.set_xscale("log")
    lower.set_ylim(bottom=0)
    lower.set_xlabel("size")
    lower.set_ylabel("microseconds for each")
    lower.legend()
    # Nothing of the program that has drawn it is left in the file.
    chart.savefig(output, format="png", dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

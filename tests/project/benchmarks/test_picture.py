"""What the picture of a run shows."""

from typing import Any

from benchmarks.picture import COMPARED, GROWING, compared, growing
from benchmarks.systems import DBOS, LIMIT, OURS


def row(case: str, figure: str, size: int, ours: float, **others: float) -> dict[str, Any]:
    systems = {OURS: {"median": ours, "times": None}}
    systems |= {name: {"median": times * ours, "times": times} for name, times in others.items()}
    return {
        "case": case,
        "figure": figure,
        "title": f"{case} {size}",
        "size": size,
        "systems": systems,
    }


def test_others_are_compared_at_the_largest_size() -> None:
    rows = [
        row("gather", "total_ms", 10, 1.0, dbos=2.0),
        row("gather", "total_ms", 99, 1.0, dbos=3.0),
    ]
    rows.append(row("gather", "another", 99, 1.0, dbos=4.0))
    assert compared({"rows": rows}) == {DBOS: [("gather 99", 3.0)]}
    assert compared({"rows": [row("gather", "total_ms", 10, 1.0)]}) == {}


def test_the_limit_is_a_system_like_others() -> None:
    assert compared({"rows": [row("gather", "total_ms", 9, 1.0, limit=0.5)]}) == {
        LIMIT: [("gather 9", 0.5)]
    }


def test_what_grows_takes_two_sizes() -> None:
    rows = [row("signals", "us_per_signal", 10, 5.0), row("signals", "us_per_signal", 100, 6.0)]
    rows.append(row("children", "us_per_child", 10, 7.0))
    assert growing({"rows": rows}) == {"a signal": [(10, 5.0), (100, 6.0)]}


def test_what_it_shows_is_measured() -> None:
    from benchmarks.cases import CASES

    for case, figure, *_ in (*COMPARED, *GROWING):
        assert figure in [known.name for known in CASES[case].figures]

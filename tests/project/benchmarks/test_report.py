"""The arithmetic of the benchmarks' report, on figures that are made up."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import parser
from benchmarks.bars import AtMost, Bar, Faster, Flat, Within, number
from benchmarks.cases import CASES, Case, Figure
from benchmarks.measure import ROOT, Measured, Plan, choose, needed
from benchmarks.systems import AWS_DURABLE, DBOS, DBOS_WAL, LIMIT, OURS, SYSTEMS


def case(*bars: Bar, **changes: object) -> Case:
    made = Case(
        "made-up",
        "nothing",
        (Figure("us", "{size:,} things: us", bars),),
        sizes=(100, 1_000),
        quick=(10,),
        systems=(OURS, LIMIT, DBOS),
        most={DBOS: 100},
    )
    return replace(made, **changes)


def figures(values: dict[tuple[int, str], list[float]], name: str = "us") -> Measured:
    measured = Measured()
    for (size, system), runs in values.items():
        for run in runs:
            measured.add(("made-up", size, system), {name: run})
    return measured


def planned(*cases: Case, systems: tuple[str, ...] = (OURS, LIMIT, DBOS), runs: int = 3) -> Plan:
    return Plan(cases, systems, runs)


SOME = {
    (100, OURS): [40.0, 10.0, 20.0],
    (1_000, OURS): [30.0],
    (100, LIMIT): [10.0],
    (1_000, LIMIT): [15.0],
    (100, DBOS): [150.0, 160.0, 9_999.0],
}


def row(which: int, *bars: Bar, measured: Measured | None = None, **changes: object) -> report.Row:
    plan = planned(case(*bars, **changes))
    return list(report.rows(plan, measured or figures(SOME)))[which]


def test_the_median_of_the_runs_counts() -> None:
    assert row(0).ours() == 20.0
    assert row(0).median(DBOS) == 160.0


def test_times_is_how_much_better_ours_is() -> None:
    assert row(0).times(DBOS) == 8.0
    assert row(0).times(LIMIT) == 0.5
    rates = (Figure("us", "", more_is_better=True),)
    assert row(0, figures=rates).times(DBOS) == 1 / 8


def test_a_capped_system_is_compared_at_the_size_it_reached() -> None:
    assert row(1).median(DBOS) == 160.0
    assert row(1).times(DBOS) == pytest.approx(160 / 30)


@pytest.mark.parametrize(
    ("which", "bar", "measured", "holds"),
    [
        (0, Faster(DBOS, 8), "8.00x", True),
        (0, Faster(DBOS, 8.1), "8.00x", False),
        (0, Within(LIMIT, 2), "2.00x", True),
        (0, Within(LIMIT, 1.9), "2.00x", False),
        (1, Flat(100, 1.5), "1.50x", True),
        (1, Flat(100, 1.4), "1.50x", False),
        (0, AtMost(20, "us"), "20.0", True),
        (0, AtMost(19, "us"), "20.0", False),
    ],
)
def test_bars(which: int, bar: Bar, measured: str, holds: bool) -> None:
    (verdict,) = row(which, bar).verdicts([OURS, LIMIT, DBOS])
    assert (verdict.measured, verdict.holds) == (measured, holds)


def test_bars_that_say_nothing_about_a_row() -> None:
    systems = [OURS, LIMIT, DBOS]
    assert not row(0, Flat(100, 1.5)).verdicts(systems)
    assert not row(0, AtMost(1, "us", from_size=1_000)).verdicts(systems)
    assert not row(0, Faster(DBOS, 99)).verdicts([OURS])
    assert not row(0, AtMost(1, "us")).verdicts([DBOS])


def test_a_bar_without_a_figure_does_not_hold() -> None:
    for bar in (Faster(DBOS, 1), Within(LIMIT, 1), Flat(100, 1), AtMost(1, "us")):
        (verdict,) = row(1, bar, measured=Measured()).verdicts([OURS, LIMIT, DBOS])
        assert (verdict.measured, verdict.holds) == ("no figure", False)


def test_table() -> None:
    plan = planned(case(Faster(DBOS, 8)))
    lines = report.table(plan, figures(SOME)).splitlines()
    assert lines[0].split() == ["case", "mini-workflow", "limit", "dbos", "holds"]
    assert lines[1].split("  ")[0] == "100 things: us"
    assert lines[1].split()[-5:] == ["20.0~", "10.0", "(0.5x)", "160~", "(8.0x)"]
    assert lines[2].split("  ")[-1].strip() == "yes"
    assert lines[3].split()[-2:] == ["160*~", "(5.3x)"]
    assert lines[4].endswith("NO")
    assert lines[-1] == "1 bars do not hold"


def test_runs_that_differ_too_much_are_marked() -> None:
    assert row(0).disturbed(OURS)
    assert not row(0).disturbed(LIMIT)
    steady = figures({(100, OURS): [10.0, 19.0], (100, DBOS): [-0.2, 0.1]})
    assert not row(0, measured=steady).disturbed(OURS)
    assert not row(0, measured=steady).disturbed(DBOS)


def test_document() -> None:
    plan = planned(case(Faster(DBOS, 8)))
    made = json.loads(json.dumps(report.document(plan, figures(SOME))))
    assert not made["holds"]
    first = made["rows"][0]
    assert first["systems"][OURS]["runs"] == [40.0, 10.0, 20.0]
    assert first["systems"][DBOS] == {
        "median": 160.0,
        "runs": [150.0, 160.0, 9_999.0],
        "size": 100,
        "times": 8.0,
    }
    assert [bar["holds"] for bar in first["bars"]] == [True]


def test_all_hold_only_if_nothing_failed() -> None:
    plan = planned(case(AtMost(99, "us")))
    measured = figures(SOME)
    assert report.holds(plan, measured)
    measured.failures.append("dbos: it broke")
    assert not report.holds(plan, measured)
    assert "1 measurements failed" in report.table(plan, measured)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.00"), (1.234, "1.23"), (12.34, "12.3"), (12_345.6, "12,346")]
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


# The plan


def test_systems_take_turns_within_each_run() -> None:
    plan = planned(case(sizes=(100,)), runs=2)
    assert [key[2] for key in plan.measurements()] == [OURS, LIMIT, DBOS] * 2


def test_what_stands_for_several_rows_is_measured_once_per_run() -> None:
    plan = planned(case(), case(name="with-workers", others="made-up"), runs=1)
    keys = list(plan.measurements())
    assert len(keys) == len(set(keys))
    assert ("made-up", 100, DBOS) in keys
    assert ("with-workers", 1_000, OURS) in keys
    assert ("with-workers", 1_000, LIMIT) not in keys


def test_a_case_may_ask_for_one_run() -> None:
    assert len(list(planned(case(once=True, sizes=(100,))).measurements())) == 3


def test_bars_of_the_real_cases_compare_with_systems_that_are_measured() -> None:
    for each in CASES.values():
        for figure in each.figures:
            for bar in figure.bars:
                assert getattr(bar, "system", OURS) in each.systems
                if isinstance(bar, Flat):
                    assert bar.size in each.sizes
        assert each.others in {"", *CASES}


def test_every_system_has_a_script_and_a_list_of_pins() -> None:
    for system in SYSTEMS.values():
        assert (ROOT / "benchmarks" / "systems" / f"{system.script}.py").is_file()
        assert (ROOT / "requirements" / f"{system.profile}.txt").is_file()


def test_only_the_environments_that_are_needed_are_made() -> None:
    assert needed(choose(["suspended"]), list(SYSTEMS)) == ["bench"]
    assert needed(choose(["gather"]), [OURS, AWS_DURABLE]) == ["bench", "bench-aws-durable"]


# The command line


def test_help_names_all_cases_and_systems() -> None:
    text = parser().format_help()
    for name in [*CASES, *SYSTEMS]:
        assert name in text


def test_options() -> None:
    asked = parser().parse_args(["--case", "gather", "--systems", "dbos-wal,mini-workflow"])
    assert asked.systems == [OURS, DBOS_WAL]
    assert [each.name for each in choose(asked.case)] == ["gather"]
    assert asked.json == Path(ROOT, "benchmarks", "results.json")


@pytest.mark.parametrize("wrong", [["--systems", "nothing"], ["--runs", "0"], ["--case", "no"]])
def test_wrong_options(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(wrong)
    assert "error" in capsys.readouterr().err

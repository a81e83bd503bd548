"""Golden histories: what is stored today must replay, and be written the same way, for ever.

Each file holds the history of one workflow of the corpus, one event per line. A change that
breaks one strands executions that are under way. If it is meant (a new schema version keeps the
old files beside the new ones), write them anew with

    UPDATE_GOLDEN=1 python -m pytest tests/laws/golden

and read the difference. The same files hold for every version of Python.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mini_workflow.codecs import StandardCodec
from mini_workflow.core import events, wire
from mini_workflow.core.decide import advance
from mini_workflow.core.failure import Failure
from mini_workflow.core.history import History
from tests.laws import corpus
from tests.laws.driver import Driver, check_replays, chosen, inline_runner

HERE = Path(__file__).parent
EARLIER = sorted((HERE / "before_fingerprints").glob("*.jsonl"))
BEFORE_MAPS = sorted((HERE / "before_maps").glob("*.jsonl"))
TOLD = sorted((HERE / "with_workers").glob("*.jsonl"))


class Codec(StandardCodec):
    """The standard codec without tracebacks, which hold line numbers and paths."""

    def encode_failure(self, error: BaseException) -> Failure:
        plain: Any = _without_tracebacks(super().encode_failure(error).to_plain())
        return Failure.from_plain(plain)


def _without_tracebacks(tree: Any) -> Any:
    if isinstance(tree, dict):
        hidden = ("traceback", "task_traceback")
        return {k: _without_tracebacks(v) for k, v in tree.items() if k not in hidden}
    if isinstance(tree, list):
        return [_without_tracebacks(v) for v in tree]
    return tree


def recorded(name: str) -> list[str]:
    """The history of a shape as this code writes it, in a world that is always the same."""
    driver = Driver(corpus.SHAPES[name], choices=chosen(11), codec=Codec())
    driver.finish()
    check_replays(driver)
    first = driver.events[0]
    assert isinstance(first, events.ExecutionStarted)
    return [wire.encode(replace(first, python="")), *driver.lines[1:]]


def golden(name: str) -> Path:
    return HERE / f"{name}.jsonl"


@pytest.mark.parametrize("name", corpus.SHAPES)
def test_recording_again_gives_the_identical_file(name: str) -> None:
    lines = recorded(name)
    text = "".join(f"{line}\n" for line in lines)
    if os.environ.get("UPDATE_GOLDEN"):
        golden(name).write_text(text, encoding="utf-8")
    assert text == golden(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", corpus.SHAPES)
def test_every_prefix_of_a_golden_history_replays(name: str) -> None:
    history = History.from_lines(golden(name).read_text(encoding="utf-8").splitlines())
    for prefix in history.prefixes():
        decision = advance(
            corpus.SHAPES[name],
            prefix,
            [],
            Codec(),
            execution_id="execution-1",
            inline=inline_runner(Codec()),
        )
        assert decision.fault is None
        assert decision.events == ()


@pytest.mark.parametrize("file", EARLIER, ids=lambda file: file.stem)
def test_histories_from_before_calls_had_fingerprints_replay(file: Path) -> None:
    assert not any(getattr(event, "call", "") for event in replayed(file))


@pytest.mark.parametrize("file", BEFORE_MAPS, ids=lambda file: file.stem)
def test_histories_from_before_maps_were_recorded_replay(file: Path) -> None:
    tasks = [event for event in replayed(file) if isinstance(event, events.TaskScheduled)]
    assert tasks
    assert not any(task.map or task.part_of for task in tasks)


@pytest.mark.parametrize("file", TOLD, ids=lambda file: file.stem)
def test_histories_that_say_where_attempts_ran_and_who_asked_replay(file: Path) -> None:
    """And are written the same way again."""
    lines = file.read_text(encoding="utf-8").splitlines()
    history = replayed(file)
    assert [wire.encode(event) for event in history] == lines
    assert any(getattr(event, "ran_on", "") or getattr(event, "asked_by", "") for event in history)


@pytest.mark.parametrize("recorded_headers", [None, {"tenant": "t-8", "trace": "1"}])
def test_headers_that_are_recorded_count_whatever_the_code_makes_of_them(
    recorded_headers: dict[str, str] | None,
) -> None:
    """An interceptor of headers may come and go: what it has added stays, and is not compared."""
    lines = golden("has_headers").read_text(encoding="utf-8").splitlines()
    history = [
        replace(event, headers=recorded_headers)
        if isinstance(event, (events.ChildStarted, events.StartSent, events.SignalSent))
        else event
        for event in map(wire.decode, lines)
    ]
    decision = advance(
        corpus.SHAPES["has_headers"],
        History(history),
        [],
        Codec(),
        execution_id="execution-1",
        inline=inline_runner(Codec()),
    )
    assert decision.fault is None
    assert decision.events == ()


def replayed(file: Path) -> History:
    """An earlier history, of which every prefix replays with today's code."""
    history = History.from_lines(file.read_text(encoding="utf-8").splitlines())
    for prefix in history.prefixes():
        decision = advance(
            corpus.SHAPES[file.stem],
            prefix,
            [],
            Codec(),
            execution_id="execution-1",
            inline=inline_runner(Codec()),
        )
        assert decision.fault is None
        assert decision.events == ()
    return history


def test_there_is_no_file_without_its_workflow() -> None:
    assert {file.stem for file in HERE.glob("*.jsonl")} == set(corpus.SHAPES)

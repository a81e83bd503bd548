"""Golden histories of agents: what is stored today replays with later code and later frameworks, and
asks no model and no tool.

If a change is meant, write them anew with

    UPDATE_GOLDEN=1 python -m pytest tests/integrations/test_golden_agents.py

and read the difference. Histories that are there have to replay; new ones go beside them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mini_workflow.testing import WorkflowEnvironment, check_replay
from tests.integrations import agents, openai_programs

HERE = Path(__file__).parent / "golden"

CASES: dict[str, tuple[Any, tuple[Any, ...], str]] = {
    "scouts": (agents.scouts, ("ann",), "Ulm for ann and Bonn for ann"),
    "guesses": (agents.guesses, (), "it is 2"),
    "speaks": (agents.speaks, (), "all is well"),
    "open_scouts": (openai_programs.scouts, ("ann",), "Ulm for ann and Bonn for ann"),
    "open_hands_over": (openai_programs.hands_over, (), ["open spanish", "Buenas."]),
    "open_asks_another": (
        openai_programs.asks_another,
        (),
        "It says: Ulm for bob and Bonn for bob",
    ),
}


@pytest.fixture(autouse=True)
def _counted() -> None:
    agents.CALLS.clear()
    openai_programs.CALLS.clear()


def golden(name: str) -> Path:
    return HERE / f"{name}.json"


@pytest.mark.parametrize("name", CASES)
def test_a_golden_history_of_an_agent_replays_without_a_call(name: str) -> None:
    workflow, args, result = CASES[name]
    if os.environ.get("UPDATE_GOLDEN"):
        with WorkflowEnvironment() as env:
            execution = env.start_execution(workflow, *args, id=name)
            assert execution.result() == result
            plain = _without_places(execution.recording().to_plain())
        golden(name).write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n")
        agents.CALLS.clear()
        openai_programs.CALLS.clear()
    assert check_replay(golden(name)) == 1
    assert agents.CALLS == openai_programs.CALLS == {}


def _without_places(tree: Any) -> Any:
    """Without tracebacks, which hold paths and line numbers."""
    if isinstance(tree, dict):
        return {key: _without_places(value) for key, value in tree.items() if key != "traceback"}
    if isinstance(tree, list):
        return [_without_places(value) for value in tree]
    return tree


def test_another_call_than_the_history_has_is_found(tmp_path: Path) -> None:
    text = golden("open_scouts").read_text()
    changed = tmp_path / "changed.json"
    changed.write_text(text.replace("open scout.tool:weigh", "open scout.tool:measure"))
    with pytest.raises(AssertionError, match="measure"):
        check_replay(changed)


@pytest.mark.parametrize("name", CASES)
def test_a_replay_gives_no_call_other_values(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Messages have the times at which they were made, and ids that are random."""
    workflow, args, _ = CASES[name]
    with WorkflowEnvironment(cache_size=0) as env:
        execution = env.start_execution(workflow, *args, id=name)
        execution.result()
        recorded = tmp_path / "recorded.json"
        recorded.write_text(json.dumps(execution.recording().to_plain()))
    assert check_replay(recorded) == 1
    assert "other values" not in caplog.text


def test_there_is_no_file_without_its_agent() -> None:
    assert {file.stem for file in HERE.glob("*.json")} == set(CASES)

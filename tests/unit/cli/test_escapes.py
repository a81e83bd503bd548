"""What is stored does not steer the terminal of whoever looks at it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from mini_workflow import Context, LocalRuntime, workflow
from mini_workflow.cli.app import cli

TEXT = "fine\n2026-01-01 forged \x1b]0;owned\x07\x1b[2J\x9b2J\u202e"


@workflow
async def escapes(ctx: Context, text: str) -> str:
    return await ctx.task(lambda: text, name="say")


@workflow
async def escapes_and_fails(ctx: Context, text: str) -> None:
    raise ValueError(text)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("escapes") / "state.db"
    with LocalRuntime(path) as runtime:
        runtime.start_execution(escapes, TEXT, id="says").result(timeout=60)
        with pytest.raises(ValueError, match="fine"):
            runtime.start_execution(escapes_and_fails, TEXT, id="fails").result(timeout=60)
    return path


@pytest.mark.parametrize("name", ["says", "fails"])
@pytest.mark.parametrize(
    "words",
    [
        ["get"],
        ["get", "--full"],
        ["get", "--json"],
        ["get", "--lines"],
        ["get", "--trust"],
        ["result"],
        ["result", "--json"],
        ["result", "--trust"],
    ],
    ids="-".join,
)
def test_no_command_prints_a_control_character(path: Path, name: str, words: list[str]) -> None:
    said = CliRunner().invoke(cli, ["--backend", f"sqlite:{path}", *words, name], color=False)
    assert not isinstance(said.exception, Exception), said.exception
    assert said.output
    assert not [one for one in said.output if not (one.isprintable() or one in "\n\t")]


FORGED = "moved\nproblems: 0\nnothing is wrong\tforged"


@workflow
async def forges(ctx: Context) -> str:
    ctx.progress(1, 2, FORGED)
    await ctx.task(lambda: None, name=FORGED)
    return await ctx.wait_for_signal("go")


@pytest.mark.parametrize(
    "words", [["get", "forges"], ["doctor"], ["ls", "--columns", "id,now,progress,reason"]]
)
@pytest.mark.parametrize("ended", [False, True])
def test_no_stored_text_forges_a_line(tmp_path: Path, words: list[str], ended: bool) -> None:
    """Reasons, names of callers, progress and names of tasks are each a part of one line."""
    path = tmp_path / "state.db"
    with LocalRuntime(path) as runtime:
        execution = runtime.start_execution(forges, id="forges")
        execution.pause(FORGED, by=FORGED)
        if ended:
            execution.terminate(FORGED, by=FORGED)
    said = CliRunner().invoke(cli, ["--backend", f"sqlite:{path}", *words], color=False)
    assert not isinstance(said.exception, Exception), said.exception
    wrong = "problems: 1" if words == ["doctor"] and not ended else "nothing is wrong"
    assert [
        line for line in said.output.splitlines() if line.startswith(("problems", "nothing"))
    ] == ([wrong] if words == ["doctor"] else [])


def test_json_says_what_is_stored(path: Path) -> None:
    said = CliRunner().invoke(cli, ["--backend", f"sqlite:{path}", "result", "says", "--json"])
    assert json.loads(said.output)["result"] == TEXT


def test_an_exported_history_is_its_owner_s_alone(path: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        said = CliRunner().invoke(cli, ["--backend", f"sqlite:{path}", "export", str(tmp_path)])
    finally:
        os.umask(before)
    assert said.exit_code == 0, said.output
    assert {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.glob("*.json")} == {0o600}


def test_an_argument_that_is_nested_without_end_is_a_usage_error(path: Path) -> None:
    words = ["--backend", f"sqlite:{path}", "signal", "says", "go", "[" * 200_000]
    said = CliRunner().invoke(cli, words)
    assert said.exit_code == 2, said.output
    assert "nested too deeply" in said.output


def test_a_new_file_is_its_owner_s_alone_and_an_old_one_keeps_its_mode(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    try:
        with LocalRuntime(path):
            for one in path.parent.glob("state.db*"):
                assert stat.S_IMODE(one.stat().st_mode) == 0o640, one
    finally:
        path.chmod(0o600)

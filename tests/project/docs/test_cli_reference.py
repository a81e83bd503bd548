"""docs/cli.md ends with what the command says of itself. To write that part anew:

UPDATE_DOCS=1 python -m pytest tests/project/docs/test_cli_reference.py
"""

from __future__ import annotations

import os

import click
from click.testing import CliRunner

from mini_workflow.cli.app import cli
from mini_workflow.cli.failures import MEANING
from tests.project.docs.test_snippets import ROOT

DOCUMENT = ROOT / "docs" / "cli.md"
MARK = "## Exit statuses\n"


def reference() -> str:
    """Exit statuses, and the help of every command."""
    lines = [MARK, "| status | meaning |", "| --- | --- |"]
    lines += [f"| {status} | {meaning} |" for status, meaning in MEANING.items()]
    lines += ["", "## Commands", "", "```text", help_of(), "```"]
    context = click.Context(cli)
    for name in cli.list_commands(context):
        lines += ["", f"### {name}", "", "```text", help_of(name), "```"]
    return "\n".join(lines) + "\n"


def help_of(*words: str) -> str:
    runner = CliRunner()
    done = runner.invoke(cli, [*words, "--help"], prog_name="mini-workflow", terminal_width=96)
    assert done.exit_code == 0, done.output
    return "\n".join(line.rstrip() for line in done.output.strip().splitlines())


def test_the_reference_is_that_of_the_commands() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, _ = text.partition(MARK)
    if os.environ.get("UPDATE_DOCS"):
        DOCUMENT.write_text(before + reference(), encoding="utf-8")
        text = DOCUMENT.read_text(encoding="utf-8")
    assert text == before + reference()


def test_every_command_answers_with_json() -> None:
    without = {"completion"}
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        options = {option for parameter in command.params for option in parameter.opts}
        assert ("--json" in options) is (name not in without), name

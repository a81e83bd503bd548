"""docs/cli.md ends with what the command says of itself. To write that part anew:

UPDATE_DOCS=1 python -m pytest tests/project/docs/test_cli_reference.py
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from mini_workflow.cli.app import cli
from mini_workflow.cli.failures import MEANING
from mini_workflow.cli.output import Command
from tests.project.docs.test_snippets import ROOT

DOCUMENT = ROOT / "docs" / "cli.md"
MARK = "## Exit statuses\n"


def reference() -> str:
    """Exit statuses, and the help of every command."""
    lines = [MARK, "| status | meaning |", "| --- | --- |"]
    lines += [f"| {status} | {meaning} |" for status, meaning in MEANING.items()]
    lines += ["", "## Commands", "", "```text", help_of(), "```"]
    for words in commands():
        lines += ["", f"### {' '.join(words)}", "", "```text", help_of(*words), "```"]
    return "\n".join(lines) + "\n"


def commands(group: click.Group = cli, *before: str) -> Iterator[tuple[str, ...]]:
    """The words of every command, those of groups included."""
    for name, command in sorted(group.commands.items()):
        yield (*before, name)
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)


def command_of(words: tuple[str, ...]) -> click.Command:
    found: click.Command = cli
    for word in words:
        assert isinstance(found, click.Group)
        found = found.commands[word]
    return found


def single_commands() -> list[tuple[str, ...]]:
    return [words for words in commands() if not isinstance(command_of(words), click.Group)]


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
    without = {("completion",)}
    for words in single_commands():
        options = {option for parameter in command_of(words).params for option in parameter.opts}
        assert ("--json" in options) is (words not in without), words


def test_the_answers_of_every_command_are_documented() -> None:
    before, _, _ = DOCUMENT.read_text(encoding="utf-8").partition(MARK)
    for words in single_commands():
        if words != ("completion",):
            assert f"| `{' '.join(words)}` |" in before, words


@pytest.mark.parametrize("words", single_commands(), ids=" ".join)
def test_the_examples_of_every_command_are_calls_of_it(words: tuple[str, ...]) -> None:
    command = command_of(words)
    assert isinstance(command, Command)
    assert command.examples
    for example in command.examples:
        typed = shlex.split(example.partition(" > ")[0].removeprefix('eval "$(').removesuffix(')"'))
        assert typed.pop(0) == "mini-workflow"
        at = typed.index(words[0])
        assert tuple(typed[at : at + len(words)]) == words
        cli.make_context("mini-workflow", [*typed[:at], "a command"])
        command.make_context(words[-1], typed[at + len(words) :])

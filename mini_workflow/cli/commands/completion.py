"""The command `completion`: print the script that makes a shell complete commands, options and ids."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from mini_workflow.cli.output import say_text
from mini_workflow.cli.session import command
from mini_workflow.errors import UsageError

SHELLS: Final = ("bash", "zsh", "fish")


@command("completion", 'eval "$(mini-workflow completion bash)"')
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.pass_context
def completion(ctx: click.Context, shell: str | None) -> None:
    """Print the script that makes a shell complete commands, options and ids.

    For bash: add the line of the example to ~/.bashrc; likewise for zsh. For fish: mini-workflow
    completion fish > ~/.config/fish/completions/mini-workflow.fish
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    made = get_completion_class(name)
    if made is None or name not in SHELLS:
        raise UsageError(f"{name!r} is no shell that is known here: give {', '.join(SHELLS)}")
    root = ctx.find_root().command
    say_text(made(root, {}, "mini-workflow", "_MINI_WORKFLOW_COMPLETE").source())


COMMANDS: Final = (completion,)

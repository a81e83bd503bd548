"""Completion by the shell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from mini_workflow.cli.backends import open_backend
from mini_workflow.cli.config import find_config
from mini_workflow.errors import UsageError

SHELLS: Final = ("bash", "zsh", "fish")


def complete_id(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The ids of the newest executions that begin so; none where the store cannot be read."""
    options = ctx.find_root().params
    try:
        config = find_config(
            Path.cwd(),
            backend=options.get("backend") or os.environ.get("MINI_WORKFLOW_BACKEND"),
            stack=options.get("stack"),
            bucket=options.get("bucket"),
        )
        with open_backend(config).reader() as client:
            found = client.list_executions(limit=200)
    except Exception:
        return []
    return [
        CompletionItem(one.id, help=one.status) for one in found if one.id.startswith(incomplete)
    ]


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def completion(shell: str | None) -> None:
    """Print the script that makes a shell complete commands, options and ids.

    For bash: add  eval "$(mini-workflow completion bash)"  to ~/.bashrc; likewise for zsh. For
    fish: mini-workflow completion fish > ~/.config/fish/completions/mini-workflow.fish
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    made = get_completion_class(name)
    if made is None or name not in SHELLS:
        raise UsageError(f"which shell? give one of {', '.join(SHELLS)}")
    from mini_workflow.cli.app import cli

    click.echo(made(cli, {}, "mini-workflow", "_MINI_WORKFLOW_COMPLETE").source())


COMMANDS: Final = (completion,)

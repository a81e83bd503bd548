"""The command line, `mini-workflow`: needs the extra `cli` (click and rich)."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line with the arguments of this process, and exit."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        print(
            f"mini-workflow: the command line needs the package {error.name}: "
            'pip install "mini-workflow[cli]"',
            file=sys.stderr,
        )
        sys.exit(6)
    from mini_workflow.cli.app import cli

    cli(prog_name="mini-workflow")

"""The command line, `mini-workflow`: needs the extra `cli` (click and rich)."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]


def main() -> None:
    """Run the command line with the arguments of this process, and exit."""
    for name in ("click", "rich"):
        if find_spec(name) is None:
            print(
                f"mini-workflow: the command line needs the package {name}: "
                'pip install "mini-workflow[cli]"',
                file=sys.stderr,
            )
            sys.exit(6)
    from mini_workflow.cli.app import cli

    cli(prog_name="mini-workflow")

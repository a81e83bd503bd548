"""The command line, `mini-workflow`: needs the extra `cli` (click and rich)."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

__all__ = ["main"]


def main() -> None:
    """Run the command line with the arguments of this process, and exit."""
    for name in ("click", "rich"):
        if find_spec(name) is None:
            print(
                f"mini-workflow: the command line needs the package {name}: run "
                'pip install "mini-workflow[cli]"',
                file=sys.stderr,
            )
            sys.exit(6)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the parent process has closed it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
    try:
        from mini_workflow.cli.app import cli

        cli(prog_name="mini-workflow")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)

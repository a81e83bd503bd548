"""A process that runs the agent, until its input ends or it is killed.

python -m example.agents.engine DATABASE DAYS

It runs so many days later.
"""

from __future__ import annotations

import sys

from example.agents.janitor import make_room
from example.agents.later import later
from mini_workflow import LocalRuntime


def main(database: str, days: str) -> None:
    with later(int(days)), LocalRuntime(database):
        print(f"serves {make_room.name}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])

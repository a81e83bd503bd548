"""Owner: a process that holds executions of a store, as people see it."""

from __future__ import annotations

from typing import Final

from mini_workflow.core.records import frozen

MOST_HELD: Final = 1_000
"""The highest number of executions that is counted for an owner. Our own bound: it may hold more."""


@frozen
class Owner:
    """A process that runs executions.

    `name` names it, `host` its machine, and `pid` is its process id there. Its lease ends at `until`
    (milliseconds since the epoch). `held` counts the executions with tasks in flight that it holds;
    `MOST_HELD` stands for that many or more. `alive` is False once the process is known to be gone.
    """

    name: str
    host: str
    pid: int
    until: int
    held: int
    alive: bool

"""Owner: a process that holds executions of a store, as people see it."""

from __future__ import annotations

from typing import Final

from mini_workflow.core.records import frozen

MOST_HELD: Final = 1_000
"""Executions that are counted for an owner. Our own bound: any number may be at work."""


@frozen
class Owner:
    """A process that runs executions: its name, the machine, its number there, until when its lease holds
    in milliseconds since the epoch, how many executions with tasks in flight it holds (`MOST_HELD` stands for
    that many or more), and whether it is alive as far as is known.
    """

    name: str
    host: str
    pid: int
    until: int
    held: int
    alive: bool

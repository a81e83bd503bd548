"""Own slot: the slot of a limit that an execution needs before its code begins, and keeps until it ends.

It is asked for under a name of its own, which the runs that follow keep: so it goes on with them, and the
limit need not be told. A run that somebody has asked for anew has another name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mini_workflow.core import events
from mini_workflow.core.slots import Slots
from mini_workflow.core.timing import BEGIN, moment_text

if TYPE_CHECKING:
    from mini_workflow.core.state import ExecutionState

OWN: Final = 0
"""The number of the operation that waits for it. Operations of code are numbered from 1."""


class OwnSlot:
    """The slot of an execution. Part of the state of its run."""

    __slots__ = ("_waits", "limit", "run", "slots")

    def __init__(self, limit: dict[str, Any]) -> None:
        self.slots = Slots()
        self.limit = {name: value for name, value in limit.items() if name != "held"}
        self.run: str = limit.get("held", "")
        """The generation of the run that has got it; empty if that is the one that runs now."""
        self._waits: bool | None = None

    @property
    def waits(self) -> bool:
        """Whether it is waited for."""
        return self._waits is True

    def begin(self) -> bool:
        """Return whether the code may begin now; else it is asked for."""
        if self.run:
            self.slots.keep(self.limit)
            self._waits = False
        elif self._waits is None:
            self.slots.ask(OWN, self.limit)
            self._waits = True
        return not self._waits

    def granted(self, event: events.SlotsGranted) -> bool:
        """Return whether it is there, and was not before."""
        if not (self.slots.take(event) and self._waits):
            return False
        self._waits = False
        return True

    def begin_anew(self) -> None:
        """Have it under another name, for a run that goes on from the events of another one: what that has
        held is given back, and code that has begun cannot wait.
        """
        self.slots.begin_anew()
        self.run = ""
        if self._waits:
            self.slots.ask(OWN, self.limit)
        elif self._waits is not None:
            self.slots.hold(self.limit)

    def handed_on(self, generation: str) -> dict[str, Any]:
        """Return what the first event of the next run says of it, which goes on with it."""
        return {**self.limit, "held": self.run or generation}


def start_of_code(state: ExecutionState) -> str:
    """Return when the code of an execution begins that has not begun, as a clause."""
    if (begins := state.timers.get(BEGIN)) is not None:
        return f"begins at {moment_text(begins)}"
    name = "" if state.own_slot is None else state.own_slot.limit["name"]
    return f"waits for a slot of limit {name!r}"

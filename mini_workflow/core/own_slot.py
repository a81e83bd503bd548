"""Own slot: the slot of a limit that an execution needs before its code begins, and keeps until it ends.

It is asked for under a name of its own, which the runs that follow keep: so it goes on with them, and the
limit need not be told. A run that somebody has asked for anew has another name.
"""

from __future__ import annotations

from typing import Any, Final

from mini_workflow.core.slots import Slots

OWN: Final = 0
"""The number of the operation that waits for it. Operations of code are numbered from 1."""


class OwnSlot(Slots):
    """The slot of an execution. Part of the state of its run."""

    __slots__ = ("_waits", "limit", "run")

    def __init__(self, limit: dict[str, Any]) -> None:
        super().__init__()
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
            self.hold(self.limit)
            for line in self.lines.values():
                line.granted = 1  # the limit has said so to the run before, and knows of it
            self.changed.clear()
            self._waits = False
        elif self._waits is None:
            self.ask(OWN, self.limit)
            self._waits = True
        return not self._waits

    def got(self) -> None:
        """Note that it is there."""
        self._waits = False

    def begin_anew(self) -> None:
        """Have it under another name, for a run that goes on from the events of another one: what that has
        held is given back, and code that has begun cannot wait.
        """
        super().begin_anew()
        self.run = ""
        if self._waits:
            self.ask(OWN, self.limit)
        elif self._waits is not None:
            self.hold(self.limit)

    def handed_on(self, generation: str) -> dict[str, Any]:
        """Return what the first event of the next run says of it, which goes on with it."""
        return {**self.limit, "held": self.run or generation}

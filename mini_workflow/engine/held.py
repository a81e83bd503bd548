"""HeldMessages: signals and asks for executions that are behind stay with the execution that sends them.

They are effects of its commit that are not done yet: nothing is lost, and the execution goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from zlib import crc32

from mini_workflow.core.wire import kind_of
from mini_workflow.errors import MailboxFull
from mini_workflow.ports import Clock, QueuedMessage
from mini_workflow.ports.queue import Dispatch, Wakeup

BOUNDED: Final = ("SignalReceived", "Asked")
"""The kinds of messages that are held: no history of the one that gets them bounds how many there are."""

HELD_FOR: Final = 30
"""Seconds until they are tried again, at least; at most twice as many, by the id of who sends them, so that
not all come at a time. Every turn tries, too. Our own bound."""

HELD_MOST: Final = 10_000
"""Messages that an execution may hold when a turn of it begins: they are in each of its writes. Our own
bound."""

_REMEMBERED: Final = 1_000
"""Executions of which a process remembers when they will be woken. Our own bound."""


class HeldMessages:
    """Tells what has to wait. `behind` says of an execution whether it gets messages faster than it takes
    them. Threads may use it, each for executions of its own.
    """

    def __init__(self, behind: Callable[[str], bool], dispatch: Dispatch, clock: Clock) -> None:
        self._behind = behind
        self._dispatch = dispatch
        self._clock = clock
        self._woken_at: dict[str, int] = {}

    def divide(
        self, messages: Sequence[QueuedMessage], held: Sequence[QueuedMessage]
    ) -> tuple[list[QueuedMessage], list[QueuedMessage]]:
        """Return the messages that may be sent, and those that have to wait, in order. What follows one
        that waits, or is `held` already, to the same execution, waits too. Raises StoreUnavailable.
        """
        waiting = {message.execution_id for message in held}
        sent: list[QueuedMessage] = []
        kept: list[QueuedMessage] = []
        for message in messages:
            name = message.execution_id
            if name not in waiting and kind_of(message.body) in BOUNDED and self._behind(name):
                waiting.add(name)
            (kept if name in waiting else sent).append(message)
        return sent, kept

    def wake(self, name: str, woken: Sequence[int]) -> None:
        """Have an execution that holds messages woken to try again; `woken` are the alarms that just went
        off. Raises StoreUnavailable.
        """
        now, at = self._clock.now(), self._woken_at.get(name, 0)
        if at > now and at not in woken:
            return
        at = now + 1000 * (HELD_FOR + crc32(name.encode()) % (HELD_FOR + 1))
        self._dispatch.set(name, Wakeup(at), now)
        if len(self._woken_at) >= _REMEMBERED:
            self._woken_at.clear()
        self._woken_at[name] = at


def too_many(name: str, held: Sequence[QueuedMessage]) -> MailboxFull | None:
    """Return why an execution that holds so many messages has to be blocked, if it has to."""
    if len(held) <= HELD_MOST:
        return None
    behind = sorted({message.execution_id for message in held})
    shown = ", ".join(map(repr, behind[:3])) + (", ..." if len(behind) > 3 else "")
    return MailboxFull(
        f"execution {name!r} has {len(held):,} messages for executions that are behind ({shown}), and may "
        f"have {HELD_MOST:,}. They are kept. Resume it once those have caught up, and send less: lists in "
        "fewer signals, or to several executions",
        execution_id=behind[0],
    )

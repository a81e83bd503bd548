"""OpenAsk: what is known of something that was asked of another execution and is not answered yet.

The id of an ask says who waits for the answer, and which operation it is of, so that nothing else has to
be kept where it is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mini_workflow.core import events

if TYPE_CHECKING:
    from mini_workflow.core.state import ExecutionState


class OpenAsk:
    """An ask as it was `sent`. `again` is the number of the run in which it was asked anew, or 0."""

    __slots__ = ("again", "sent")

    def __init__(self, sent: events.AskSent) -> None:
        self.sent = sent
        self.again = 0


def part_of(state: ExecutionState, seq: int) -> str:
    """Return what stands behind the id of the execution in the id of one of its open asks."""
    again = state.asks[seq].again
    return f"{state.seed}/{seq}/{again}" if again else f"{state.seed}/{seq}"


def read_ask(ask_id: str) -> tuple[str, int]:
    """Return who waits for the answer, and the number of the operation. Raises ValueError if that is no
    id of an ask.
    """
    asker, _, number, *_ = (*ask_id.split("/"), "", "")
    return asker, int(number)


def is_open(state: ExecutionState, message: events.AskAnswered | events.AskFailed) -> bool:
    """Return whether the answer is to something that is open, as it was asked last."""
    seq = message.seq
    return seq in state.asks and message.id.partition("/")[2] == part_of(state, seq)


# What becomes of the state


def take_sent(state: ExecutionState, event: events.AskSent) -> None:
    """Wait for an answer."""
    state.check_open(event)
    state.asks[event.seq] = OpenAsk(event)


def take_answer(state: ExecutionState, event: events.AskAnswered | events.AskFailed) -> None:
    """Wait for it no longer."""
    del state.asks[event.seq]


def take_asker(state: ExecutionState, event: events.ResultAsked) -> None:
    """Have somebody wait for the result."""
    state.askers[event.id] = "result"


def ask_again(state: ExecutionState, event: events.ExecutionReset) -> None:
    """Have what is open answered as it is asked now. Who has asked another execution waits for that one."""
    for number, run in (event.asks or {}).items():
        if (ask := state.asks.get(int(number))) is not None and run:
            ask.again = run
    if event.how == "fork":
        state.askers.clear()

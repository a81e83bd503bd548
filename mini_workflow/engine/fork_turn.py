"""The turn that creates an execution with events of another one."""

from __future__ import annotations

from mini_workflow.engine.requests import Beginning, Start
from mini_workflow.engine.turn_data import Delivery, Turn


def fork_turn(request: Start, fork: Beginning) -> Turn:
    """Return the turn. None of the execution's code runs in it: it goes on in a turn of its own."""
    delivery = Delivery(request.execution_id)
    turn = Turn(delivery, fork.to_commit(), fork.head, None, continues=True)
    turn.start = request
    return turn

"""Usage: the tokens that a run has spent on models, as the results of its tasks tell."""

from __future__ import annotations

from typing import Any, cast

from mini_workflow.core.events import Event, TaskCompleted
from mini_workflow.core.payload import text_at_hand


class Usage:
    """The sum over a run. Results are read as they are stored: nothing is unpickled, and what is encrypted
    is not counted.
    """

    def __init__(self) -> None:
        self.requests = 0
        """How many results told of their tokens."""
        self.input = 0
        self.output = 0

    def take(self, event: Event) -> None:
        """Take in the next event: the response of a model is a dict whose `usage` has both numbers."""
        if type(event) is not TaskCompleted:
            return
        text = text_at_hand(event.result)
        if text is not None and '"input_tokens"' not in text:
            return  # of most results nothing is parsed
        try:
            usage = _in(event.result.tree, "usage")
        except (ValueError, RecursionError):
            return  # damaged
        spent, made = _in(usage, "input_tokens"), _in(usage, "output_tokens")
        if type(spent) is int and type(made) is int:
            self.requests += 1
            self.input += spent
            self.output += made


def _in(tree: Any, name: str) -> Any:
    return cast("dict[str, Any]", tree).get(name) if type(tree) is dict else None

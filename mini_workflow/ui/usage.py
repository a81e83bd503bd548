"""Sum the tokens that a run has spent on models, from the results of its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, repeat
from operator import contains
from typing import Any, cast

from mini_workflow.core import wire
from mini_workflow.core.events import TaskCompleted


class Usage:
    """The sum over a run. Results are read as they are stored: nothing is unpickled, and what is encrypted
    is not counted.
    """

    def __init__(self) -> None:
        self.requests = 0
        """How many results told of their tokens."""
        self.input = 0
        self.output = 0

    def take(self, lines: Sequence[str]) -> None:
        """Take in the next lines of a history: the response of a model is a dict whose `usage` has both
        numbers.
        """
        # Of most results nothing is parsed.
        for line in compress(lines, map(contains, lines, repeat('"input_tokens"'))):
            event = wire.decode_shown(line)
            if type(event) is TaskCompleted:
                self._add(event)

    def _add(self, event: TaskCompleted) -> None:
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

"""Draw random numbers that are the same in a replay. Queries, validators and predicates may draw none."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any


class WorkflowRandom(random.Random):
    """A generator of random numbers that calls `check` before each draw. A copy, in a task, does not."""

    def __init__(self, seed: str, check: Callable[[str], None]) -> None:
        self._check: Callable[[str], None] | None = check
        super().__init__(seed)

    def random(self) -> float:
        self._may_draw()
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        self._may_draw()
        return super().getrandbits(k)

    def setstate(self, state: Any) -> None:
        self._may_draw()
        super().setstate(state)

    def _may_draw(self) -> None:
        if self._check is not None:
            self._check("drawing from ctx.random")

    def __reduce__(self) -> Any:
        return _copy, (self.getstate(),)


def _copy(state: Any) -> random.Random:
    copy = random.Random()
    copy.setstate(state)
    return copy

"""Note the effects of tasks in a ledger, which no crash undoes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import ClassVar, Self

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.core.records import frozen
from mini_workflow.task import current_task


@frozen
class Effect:
    """The effect of one attempt of a task. `key` is its idempotency key."""

    execution_id: str
    seq: int
    attempt: int
    key: str
    name: str


class Ledger:
    """A collection of effects. Tasks of this process note them by `Ledger.note` while it is open."""

    _open: ClassVar[list[Ledger]] = []

    def __init__(self) -> None:
        self.effects: list[Effect] = []

    def __enter__(self) -> Self:
        Ledger._open.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        Ledger._open.remove(self)

    @staticmethod
    def note() -> None:
        """Note the running attempt in the ledger opened last. Called by the code of a task."""
        task = current_task()
        effect = Effect(
            execution_id=task.execution_id,
            seq=task.request.seq,
            attempt=task.attempt,
            key=task.idempotency_key,
            name=task.name,
        )
        if Ledger._open:
            Ledger._open[-1].effects.append(effect)

    def of(self, execution_id: str) -> list[Effect]:
        """Return the effects of one execution, in order."""
        return [effect for effect in self.effects if effect.execution_id == execution_id]

    def names(self, execution_id: str) -> Counter[str]:
        """Return how often each task of an execution was attempted, by name."""
        return Counter(effect.name for effect in self.of(execution_id))

    def faults(self, execution_id: str, history: Iterable[Event]) -> list[str]:
        """Return the contradictions between the effects and a history; empty if there are none.

        Each attempt has one effect at most, was dispatched according to the history, and is not behind
        the one whose result is recorded. No task has two results.
        """
        dispatched: set[tuple[int, int]] = set()
        results: dict[int, int] = {}
        found: list[str] = []
        for event in history:
            if isinstance(event, events.TaskScheduled):
                dispatched.add((event.seq, 1))
            elif isinstance(event, events.TaskRetryStarted):
                dispatched.add((event.seq, event.attempt))
            elif isinstance(event, (events.TaskCompleted, events.TaskFailed)):
                if event.seq in results:
                    found.append(f"task {event.seq} has two results")
                results[event.seq] = event.attempt
                if (event.seq, event.attempt) not in dispatched:
                    found.append(f"task {event.seq}: attempt {event.attempt} was never begun")
        done: Counter[tuple[int, int]] = Counter()
        for effect in self.of(execution_id):
            attempt = (effect.seq, effect.attempt)
            done[attempt] += 1
            if done[attempt] > 1:
                found.append(f"twice: {effect}")
            if attempt not in dispatched:
                found.append(f"not in the history: {effect}")
            if effect.attempt > results.get(effect.seq, effect.attempt):
                found.append(f"after the result was there: {effect}")
            if effect.key != f"{execution_id}:{effect.seq}":
                found.append(f"under a wrong key: {effect}")
        return found

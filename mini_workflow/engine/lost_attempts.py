"""Lost attempts: what to say of attempts in flight that nobody here is running and nobody reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import Message
from mini_workflow.core.state import ExecutionState
from mini_workflow.engine.turn_data import ABOUT_ATTEMPTS
from mini_workflow.errors import WorkerLost


class LostAttempts:
    """Finds them. `dispatched` tells whether this engine has dispatched an attempt and not heard of it.

    While `draining`, attempts that were handed back are not begun again.
    """

    def __init__(self, codec: Codec, dispatched: Callable[[tuple[str, int, int]], bool]) -> None:
        self._codec = codec
        self._dispatched = dispatched
        self.draining = False

    def of(
        self,
        execution_id: str,
        state: ExecutionState,
        parked: Sequence[Message],
        arriving: Sequence[Message],
        now: int,
    ) -> list[Message]:
        """Return the messages about an execution whose state is that, behind which others are `parked`, or
        arrive.
        """
        told: dict[tuple[int, int], type[Message]] = {
            (message.seq, message.attempt): type(message)
            for message in (*parked, *arriving)
            if isinstance(message, ABOUT_ATTEMPTS)
        }
        lost: list[Message] = []
        marker = next((m for m in parked if isinstance(m, events.ExecutionReset)), None)
        for seq, task in state.tasks.items():
            key = (seq, task.attempt)
            if marker is not None:
                # All are made again but for those that are being made.
                if seq not in (marker.running or ()):
                    continue
                key = (seq, (marker.attempts or {})[str(seq)])
            elif task.retry_at is not None:
                continue
            if self._dispatched((execution_id, *key)):
                continue
            what = told.get(key)
            if seq in state.released or what is events.TaskReleased:
                if not self.draining:
                    lost.append(events.TaskRetryStarted(now, *key))
            elif what is None:
                error = WorkerLost(
                    f"attempt {key[1]} of task {task.name!r} was in flight when its engine stopped"
                )
                lost.append(events.TaskFailed(now, *key, self._codec.encode_failure(error)))
        return lost

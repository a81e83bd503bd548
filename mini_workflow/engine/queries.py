"""Questions: queries put to executions, which change nothing."""

from __future__ import annotations

from mini_workflow.core.payload import Payload
from mini_workflow.core.run import Run
from mini_workflow.engine.cache import Cache
from mini_workflow.engine.replies import existing
from mini_workflow.engine.requests import Ask
from mini_workflow.engine.turn import Turns
from mini_workflow.engine.watchdog import Watchdog
from mini_workflow.errors import TurnTimeout
from mini_workflow.loop.loop import Halt


class Queries:
    """Answers questions, of executions in whatever condition and wherever they run."""

    def __init__(self, turns: Turns, cache: Cache, watchdog: Watchdog) -> None:
        self._turns = turns
        self._cache = cache
        self._watchdog = watchdog

    def answer(self, request: Ask) -> None:
        """Answer a question, or say why it cannot be answered."""
        name = request.execution_id
        try:
            run = existing(name, self._turns.look(name))
            try:
                request.reply.give(self._ask(run, request))
            finally:
                if run.loop.touched:
                    self._cache.drop(name)  # it may have changed what a replay would not
                self._turns.let_go(run)
        except (Exception, KeyboardInterrupt) as error:
            request.reply.fail(error)

    def _ask(self, run: Run, request: Ask) -> Payload:
        watchdog = self._watchdog
        try:
            watchdog.begin(run)
            try:
                return run.messages.answer(request.name, request.arguments)
            finally:
                watchdog.end()
        except Halt:
            watchdog.end()
            fault, run.loop.fault = run.loop.fault, None
            raise fault or TurnTimeout(f"query {request.name!r} took too long") from None

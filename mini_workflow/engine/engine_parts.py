"""The parts of an engine that only executions need: made when the first one wants attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Final

from mini_workflow.core.codec import Codec
from mini_workflow.core.report_limits import ReportLimits
from mini_workflow.engine.cache import Cache
from mini_workflow.engine.dispatch import Dispatcher
from mini_workflow.engine.executor import Execute
from mini_workflow.engine.takeover import Ports
from mini_workflow.engine.watchdog import Watchdog

if TYPE_CHECKING:
    from mini_workflow.core.run import Definition
    from mini_workflow.engine.children import Children
    from mini_workflow.engine.queries import Queries
    from mini_workflow.engine.turn import Turns

LIMITS: Final = ReportLimits(margin=30_000)
"""The limits of attempts that a runner in this process has. It enforces their timeouts itself, and is asked
before one counts as lost, so that the margin only has to be longer than what it takes to end an attempt
(`TaskRunner`). Our own bound."""


def import_turns() -> None:
    """Import the modules of the first turn, so that the thread that leads the engine then need not."""
    import_module("mini_workflow.engine.turn")
    import_module("mini_workflow.context")


class EngineParts:
    """Makes each part when it is first asked for: to import them takes longer than to open a store."""

    def __init__(
        self,
        ports: Ports,
        codec: Codec,
        definitions: Callable[[str], Definition],
        entropy: Callable[[], int],
        dispatcher: Dispatcher,
        cache: Cache,
        watchdog: Watchdog,
        *,
        history_limit: int,
        execute: Execute,
    ) -> None:
        self._ports, self._codec, self._entropy = ports, codec, entropy
        self._definitions, self._execute = definitions, execute
        self._dispatcher, self._cache, self._watchdog = dispatcher, cache, watchdog
        self._history_limit = history_limit

    @cached_property
    def turns(self) -> Turns:
        """The part that makes the turns of executions."""
        from mini_workflow.engine.turn import Turns

        dispatcher = self._dispatcher
        return Turns(
            store=self._ports.store,
            cache=self._cache,
            codec=self._codec,
            definitions=self._definitions,
            watchdog=self._watchdog,
            dispatched=dispatcher.has,
            draining=lambda: dispatcher.draining,
            entropy=self._entropy,
            history_limit=self._history_limit,
            execute=self._execute,
            note=self._ports.leases.note_turn,
            limits=LIMITS,
            in_hand=dispatcher.in_hand,
        )

    @cached_property
    def children(self) -> Children:
        """The part that starts children."""
        from mini_workflow.engine.children import Children

        return Children(self._ports.store, self._codec, self.turns, self._entropy)

    @cached_property
    def queries(self) -> Queries:
        """The part that answers queries."""
        from mini_workflow.engine.queries import Queries

        return Queries(self.turns, self._cache, self._watchdog)

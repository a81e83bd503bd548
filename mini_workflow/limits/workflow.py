"""Define the built-in workflow of a limit. Its execution receives how many slots others want and hold, and
grants the free ones: so every store has limits, and none has code for them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mini_workflow.context import Context
from mini_workflow.core.granting import Granting
from mini_workflow.core.limit import LIMIT, Plan
from mini_workflow.core.slots import SLOTS_SIGNAL, send_slots
from mini_workflow.workflow import Workflow

SHORTEST_RUN: Final = 400
"""Events after which the run continues as new at the earliest. The whole state is written then. So the run
also waits until it has as many events as the state has entries: all states together then take no more room
than the events. Our own bound."""

SHOWN: Final = 20
"""How many keys and holders a description names."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def limit(ctx: Context, name: str, state: dict[str, Any] | None = None) -> None:
    """Grant slots, for ever."""
    await LimitRun(ctx, name, state).keep()


class LimitRun:
    """One run of a limit's execution."""

    def __init__(self, ctx: Context, name: str, state: dict[str, Any] | None) -> None:
        self._ctx = ctx
        self._name = name
        self._granting = Granting() if state is None else Granting.from_plain(state)
        self._changed = False
        self._timer: Any = None
        self._due: int | None = None
        """The time (milliseconds since the epoch) at which the open timer ends."""

    async def keep(self) -> None:
        """Receive what others want and hold, and grant slots, until the run continues as new."""
        ctx = self._ctx
        ctx.on_signal(SLOTS_SIGNAL, self._receive)
        ctx.on_query("describe", lambda: self._granting.described(SHOWN))
        ctx.on_update("declare", self._declare)
        ctx.on_update("change", self._change)
        while True:
            self._changed = False
            granting = self._granting
            recorder = ctx._run.recorder  # pyright: ignore[reportPrivateUsage]
            for run, granted in granting.grant(self._now()).items():
                send_slots(recorder, granting.execution_of(run), self._name, run, granted)
            if ctx.info.history_length >= max(SHORTEST_RUN, len(granting)):
                ctx.continue_as_new(self._name, granting.to_plain(self._now()))
            self._set_timer()
            await ctx.wait_for(self.the_limit_can_grant_slots)

    # The name of a condition is shown: "Waits until the limit can grant slots".
    def the_limit_can_grant_slots(self) -> bool:
        """Return whether a message has come, or the time at which a slot is free."""
        return self._changed or (self._timer is not None and self._timer.done())

    def _set_timer(self) -> None:
        due = self._granting.due()
        if self._timer is not None and (due != self._due or self._timer.done()):
            self._timer.cancel()
            self._timer = self._due = None
        if due is not None and self._timer is None:
            # A duration, not a time: it keeps its length if the clock is set.
            left = max(0, due - self._now())
            self._timer, self._due = self._ctx.sleep(timedelta(milliseconds=left)), due

    def _receive(self, message: dict[str, Any]) -> None:
        self._granting.take_report(message)
        self._changed = True

    def _declare(self, plan: Plan) -> None:
        self._granting.declare(plan)
        self._changed = True

    def _change(self, changes: Plan) -> Plan:
        """Change the plan, and return it; a limit that is None in `changes` is removed."""
        plan = {**self._granting.plan, **changes}
        plan = {name: value for name, value in plan.items() if value is not None}
        self._granting.change(plan)
        self._changed = True
        return plan

    def _now(self) -> int:
        return (self._ctx.now() - _EPOCH) // timedelta(milliseconds=1)


WORKFLOW: Final = Workflow(LIMIT, limit)

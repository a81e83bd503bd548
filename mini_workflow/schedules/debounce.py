"""Define the built-in workflow of debounced starts. Its execution waits until the calls have ceased, and
makes the start of the last call. So debouncing works on every store, and answered calls survive a crash.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mini_workflow.context import Context
from mini_workflow.core.start_options import BoundWorkflow
from mini_workflow.workflow import Workflow

DEBOUNCE: Final = "mini_workflow.debounce"
"""The name of the workflow."""

LONGEST_RUN: Final = 400
"""Events after which the run continues as new. Our own bound."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Asked = dict[str, Any]
"""The last call: `args`, `kwargs`, `tags` and `headers` of the start, its `id`, and two times in milliseconds
since the epoch: that of the first call (`since`), and that of the start (`until`)."""


async def debounce(ctx: Context, workflow: str, asked: Asked | None = None) -> str:
    """Start one execution of the workflow when calls have ceased, and return its id."""
    return await DebounceRun(ctx, workflow, asked).keep()


class DebounceRun:
    """One run of a debounced start."""

    def __init__(self, ctx: Context, workflow: str, asked: Asked | None) -> None:
        self._ctx = ctx
        self._workflow = workflow
        self._asked: Asked | None = asked
        self._called = False

    async def keep(self) -> str:
        """Take calls until they have ceased, start the execution, and return its id."""
        ctx = self._ctx
        ctx.on_update("call", self._call)
        await ctx.wait_for(self.a_call_is_received)
        while True:
            if ctx.info.history_length >= LONGEST_RUN:
                ctx.continue_as_new(self._workflow, self._asked)
            self._called = False
            # A duration, not a time of the clock, so that a change of the clock does not change it.
            timer = ctx.sleep(timedelta(milliseconds=self._left()))

            def calls_ended(timer: Any = timer) -> bool:
                return bool(timer.done() or self._called)

            await ctx.wait_for(calls_ended)
            if timer.done():
                break
            timer.cancel()
        assert self._asked is not None
        asked: Asked = self._asked
        wanted: Any = BoundWorkflow[Any](
            self._workflow,  # type: ignore[arg-type]
            tuple(asked["args"]),
            asked["kwargs"],
        )
        ctx.start(wanted, id=asked["id"], tags=asked["tags"], headers=asked.get("headers"))
        return str(asked["id"])

    # The names of conditions are shown: "Waits until a call is received".
    def a_call_is_received(self) -> bool:
        """Return whether there was a call."""
        return self._asked is not None

    def _call(
        self,
        args: list[Any],
        kwargs: dict[str, Any],
        tags: dict[str, str] | None,
        delay: int,
        max_wait: int | None,
        execution_id: str,
        headers: dict[str, str] | None = None,
    ) -> str:
        """Take a call, and return the id that the execution will have. `delay` and `max_wait` are
        milliseconds.
        """
        now, before = self._now(), self._asked
        since = now if before is None else before["since"]
        name = execution_id if before is None else before["id"]
        until = now + delay if max_wait is None else min(now + delay, since + max_wait)
        asked: Asked = {"args": args, "kwargs": kwargs, "tags": tags, "id": name}
        self._asked = {**asked, "headers": headers, "since": since, "until": until}
        self._called = True
        return str(name)

    def _left(self) -> int:
        assert self._asked is not None
        until: int = self._asked["until"]
        return until - self._now()

    def _now(self) -> int:
        return (self._ctx.now() - _EPOCH) // timedelta(milliseconds=1)


WORKFLOW: Final = Workflow(DEBOUNCE, debounce)

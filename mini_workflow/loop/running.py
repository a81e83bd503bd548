"""Find the event loop that runs here, and halt workflow code, without importing asyncio."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio


class Halt(BaseException):
    """Raised in workflow code that must not go on; the reason is the loop's `fault`."""


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs on the calling thread, if there is one."""
    find: Any = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    return None if find is None else find()


HOLDS: Final[ContextVar[bool]] = ContextVar("mini_workflow_holds_hooks", default=False)
"""Whether the hooks are held in this context: see `hold_hooks`."""

Hooks = tuple[Any, Any]
"""The hooks of asynchronous generators of a thread."""


def hold_hooks() -> Hooks:
    """Return the hooks of the calling thread, and have the loops of workflows that run in this context leave
    theirs in place until `release_hooks`: each sets its own, and setting them takes two audit events.
    """
    HOLDS.set(True)
    return sys.get_asyncgen_hooks()


def release_hooks(hooks: Hooks) -> None:
    """Set the hooks of the calling thread to those that `hold_hooks` has returned."""
    HOLDS.set(False)
    sys.set_asyncgen_hooks(*hooks)

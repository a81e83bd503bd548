"""Find the event loop that runs here, and halt workflow code, without importing asyncio."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class Halt(BaseException):
    """Raised in workflow code that must not go on; the reason is the loop's `fault`."""


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs on the calling thread, if there is one."""
    find: Any = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    return None if find is None else find()

"""Find the event loop that runs here, and halt workflow code, without importing asyncio."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import asyncio


class Halt(BaseException):
    """Stops workflow code that must not run on; the reason is the loop's `fault`."""


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs on the calling thread, if there is one."""
    find: Any = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    return None if find is None else cast("asyncio.AbstractEventLoop | None", find())

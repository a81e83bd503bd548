"""Name the worker that runs an attempt, as histories record it."""

from __future__ import annotations

import os
import socket
from typing import Final

from mini_workflow.settings import FUNCTION_NAME, FUNCTION_VERSION

LONGEST: Final = 128
"""Characters that are kept of the name of a machine or a function. Our own bound."""


def worker_name(pid: int | None = None) -> str:
    """Return ``host:pid`` of this process, or of the process `pid` of this machine. On Lambda, return the
    name of the function, and its version unless that is ``$LATEST``.
    """
    function = os.environ.get(FUNCTION_NAME, "")
    if not function:
        return f"{socket.gethostname()[:LONGEST]}:{os.getpid() if pid is None else pid}"
    version = os.environ.get(FUNCTION_VERSION, "$LATEST")
    return function[:LONGEST] if version == "$LATEST" else f"{function[:LONGEST]}:{version}"

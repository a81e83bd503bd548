"""A pdb for replays: it stops in the user's code only, and leaves the workflow's loop alone."""

from __future__ import annotations

import os
import pdb
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from mini_workflow.core.loop import WorkflowLoop, running_loop

SKIPPED: Final = ("mini_workflow", "mini_workflow.*", "asyncio", "asyncio.*", "contextlib", "bdb")
"""Modules in which it does not stop, so that `step` goes from one line of the user's to the next."""


class Debugger(pdb.Pdb):
    """Stops where it is told to. `left` says that the user has quit."""

    def __init__(self) -> None:
        super().__init__(skip=SKIPPED, nosigint=True)
        self.left = False

    def interaction(self, *args: Any, **kwargs: Any) -> None:
        """Talk to the user, outside the workflow: the prompt may do what a workflow must not."""
        loop = running_loop()
        if isinstance(loop, WorkflowLoop):
            with loop.outside():
                super().interaction(*args, **kwargs)
        else:
            super().interaction(*args, **kwargs)

    def set_quit(self) -> None:
        """Quit; the code that is being debugged is made to end."""
        self.left = True
        super().set_quit()

    def stop_soon(self, frame: FrameType | None = None) -> None:
        """Stop at the next line of the user's, in `frame` or wherever that is."""
        self.set_trace(frame or sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        if frame is not None:
            self.set_next(frame)

    @contextmanager
    def installed(self) -> Generator[None]:
        """Have breakpoint() stop here, unless PYTHONBREAKPOINT chooses another debugger."""
        if os.environ.get("PYTHONBREAKPOINT"):
            yield
            return
        before = sys.breakpointhook

        def hook(*args: Any, **kwargs: Any) -> None:
            self.stop_soon(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]

        sys.breakpointhook = hook
        try:
            yield
        finally:
            sys.breakpointhook = before
            sys.settrace(None)

"""Debug replays with a pdb that stops in the user's code only, never in the workflow's loop."""

from __future__ import annotations

import os
import pdb
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from mini_workflow.loop.loop import WorkflowLoop, running_loop
from mini_workflow.loop.source_line import is_user_code

_DRAIN: Final = WorkflowLoop.drain.__code__


class Debugger(pdb.Pdb):
    """Stops in the user's code, so that `step` goes from one line of it to the next.

    `left` says that the user has quit.
    """

    def __init__(self) -> None:
        super().__init__(nosigint=True)
        self.left = False

    def stop_here(self, frame: FrameType) -> bool:
        """Return whether to stop: not in the library, not outside of a workflow, not in a dropped run."""
        loop = running_loop()
        if not isinstance(loop, WorkflowLoop) or loop.dead:
            return False
        filename = frame.f_code.co_filename
        # Generated code, such as that of dataclasses, has no lines to show.
        return filename != "<string>" and is_user_code(filename) and super().stop_here(frame)

    def user_exception(self, frame: FrameType, exc_info: Any) -> None:
        """Stop at exceptions, except for the one by which Python drops a coroutine."""
        if exc_info[0] is not GeneratorExit:
            super().user_exception(frame, exc_info)

    def get_stack(self, f: Any, t: Any) -> Any:
        """Return the frames of the workflow, without those that lead to it."""
        stack, at = super().get_stack(f, t)
        frames = [frame for frame, _ in stack]
        drains = [n for n, frame in enumerate(frames) if frame.f_code is _DRAIN]
        begin = drains[-1] if drains else 0
        while begin < at and not is_user_code(frames[begin].f_code.co_filename):
            begin += 1
        return stack[begin:], at - begin

    def interaction(self, *args: Any, **kwargs: Any) -> None:
        """Ask the user outside the workflow, so that the prompt may do what a workflow must not."""
        loop = running_loop()
        if isinstance(loop, WorkflowLoop):
            with loop.outside():
                super().interaction(*args, **kwargs)
        else:
            super().interaction(*args, **kwargs)

    def set_quit(self) -> None:
        """Quit, and end the code that is being debugged."""
        self.left = True
        super().set_quit()

    def stop_soon(self) -> None:
        """Stop at the next line of the user's code."""
        self.set_trace(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]

    def stop_at(self, frame: FrameType) -> None:
        """Ask the user now, at a frame of their code, and go on as they choose."""
        self.set_trace(frame)
        # Do not stop in functions that the user calls at the prompt.
        sys.settrace(None)
        self.interaction(frame, None)
        if not self.left:
            sys.settrace(self.trace_dispatch)

    @contextmanager
    def installed(self) -> Generator[None]:
        """Have breakpoint() stop here, unless PYTHONBREAKPOINT chooses another debugger."""
        if os.environ.get("PYTHONBREAKPOINT"):
            yield
            return
        before = sys.breakpointhook

        def hook(*args: Any, **kwargs: Any) -> None:
            self.stop_at(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]

        sys.breakpointhook = hook
        try:
            yield
        finally:
            sys.breakpointhook = before
            sys.settrace(None)

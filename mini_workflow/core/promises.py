"""Promise: a one-shot value from outside. Child: the future of a child execution."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Protocol

from mini_workflow.errors import PromiseNotOpen
from mini_workflow.loop.loop import WorkflowLoop
from mini_workflow.loop.ordered import WorkflowFuture

_SEPARATOR = "~"
"""Not a character of an execution id, and safe in a URL."""


def make_token(execution_id: str, seq: int, secret: str) -> str:
    """The token of a promise: all that is needed to complete it."""
    return f"{execution_id}{_SEPARATOR}{seq}{_SEPARATOR}{secret}"


def read_token(token: str) -> tuple[str, int, str]:
    """The execution id, number and secret of a token. Raises PromiseNotOpen if it is none."""
    parts = token.split(_SEPARATOR)
    if len(parts) == 3 and parts[0] and parts[1].isdecimal() and parts[2]:
        return parts[0], int(parts[1]), parts[2]
    raise PromiseNotOpen(f"{token!r} is not the token of a promise; use the promise's .token as is")


class Promise(WorkflowFuture):
    """Awaitable in the workflow; completed or failed once from outside by its `token`.

    Giving up an await of it, as ``asyncio.timeout`` does, does not give the promise up: it may be
    awaited again. Nor does cancelling the future itself, as `asyncio.gather` does, and
    `asyncio.wait_for` before Python 3.12.
    """

    __mini_workflow_refused__ = "a promise"
    __mini_workflow_instead__ = "pass its .token, with which it is completed"

    def __init__(self, token: str, name: str, *, loop: WorkflowLoop) -> None:
        super().__init__(loop=loop)
        self.token = token
        self.name = name
        self._numbering = loop
        self._rest: WorkflowFuture | None = None

    @property
    def unsettled(self) -> WorkflowFuture | None:
        """The future that the value is for; None once it is there."""
        future = self._rest if self.cancelled() else self
        return None if future is None or future.done() else future

    def cancel(self, msg: Any = None) -> bool:
        """Give up waiting, in good order; whoever awaits the promise later waits anew."""
        given_up = super().cancel(msg)
        if given_up:
            self._rest = WorkflowFuture(loop=self._numbering)
        return given_up

    def __await__(self) -> Generator[Any, None, Any]:
        future = self._rest if self.cancelled() else self
        if future is None or (future is self and self.done()):
            return super().__await__()
        return asyncio.shield(future).__await__()

    __iter__ = __await__


class Children(Protocol):
    """What the future of a child asks of its run."""

    def cancel_child(self, seq: int, reason: str) -> None:
        """Ask the child to cancel itself."""
        ...

    def send_signal(self, target: str, name: str, value: Any) -> None:
        """Send a signal to another execution."""
        ...


class Child(WorkflowFuture):
    """The result of a child execution, whose id is `id`. Cancelling it cancels the child."""

    __mini_workflow_refused__ = "the future of a child"
    __mini_workflow_instead__ = "pass its .id, or await it in the workflow and pass its result"

    def __init__(
        self,
        seq: int,
        name: str,
        id: str,  # noqa: A002
        *,
        loop: WorkflowLoop,
        operations: Children,
    ) -> None:
        super().__init__(loop=loop)
        self.seq = seq
        self.name = name
        self.id = id
        self._operations = operations

    def signal(self, name: str, value: Any = None) -> None:
        """Send the child a signal. It arrives after the commit of this turn."""
        self._operations.send_signal(self.id, name, value)

    def cancel(self, msg: Any = None) -> bool:
        """Ask the child to cancel itself, and wait for it no longer."""
        if self.done():
            return False
        self._operations.cancel_child(self.seq, msg if isinstance(msg, str) else "")
        return super().cancel(msg)

"""OtherExecution: another execution, as a workflow sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from mini_workflow.core.asks import AskFuture

if TYPE_CHECKING:
    from mini_workflow.core.children import Children


class OtherExecution:
    """Another execution, as seen from a workflow. What is sent leaves after the commit.

    What is asked is answered once: `result`, `update`, `query` and a confirmed `signal` return futures,
    which raise ExecutionNotFound if there is no execution of that id. An execution that is blocked or
    paused answers once it goes on; limit the wait by ``asyncio.timeout``. Cancelling a future gives up
    waiting, and nothing else.
    """

    __slots__ = ("_children", "id")

    __mini_workflow_refused__ = "a handle to another execution"
    __mini_workflow_instead__ = "pass its .id"

    def __init__(self, id: str, children: Children) -> None:  # noqa: A002
        self.id = id
        self._children = children

    def result(self) -> AskFuture:
        """Return a future of its result, also if it has closed before, and over `continue_as_new`.

        It raises what ``runtime.get_execution(id).result()`` does: the workflow's own exception, or
        ExecutionFailed where that cannot be rebuilt, ExecutionCancelled, ExecutionTerminated.
        Raises UsageError at once for the execution itself.
        """
        return self._children.asks.result(self.id)

    def update(self, name: str, /, *args: Any, **kwargs: Any) -> AskFuture:
        """Have its workflow handle a request, once, and return a future of the answer.

        It raises what the validator or the handler raises, UnknownHandler, or ExecutionClosed.
        """
        return self._children.asks.call("update", name, self.id, args, kwargs)

    def query(self, name: str, /, *args: Any, **kwargs: Any) -> AskFuture:
        """Query its workflow, also one that has closed, and return a future of the answer.

        It raises what the handler raises, UnknownHandler, or what keeps the code from being run.
        """
        return self._children.asks.call("query", name, self.id, args, kwargs)

    @overload
    def signal(self, name: str, value: Any = None, *, confirm: Literal[False] = False) -> None: ...
    @overload
    def signal(self, name: str, value: Any = None, *, confirm: Literal[True]) -> AskFuture: ...
    def signal(self, name: str, value: Any = None, *, confirm: bool = False) -> AskFuture | None:
        """Send a signal; it arrives once, after this turn's commit. One for nobody is only logged.

        With `confirm` a future is returned, which is done when the other execution has the signal. It
        raises ExecutionNotFound, or ExecutionClosed.
        """
        if confirm:
            return self._children.asks.signal(name, self.id, value)
        self._children.send_signal(self.id, name, value)
        return None

    def cancel(self, reason: str = "") -> None:
        """Ask it to cancel itself."""
        self._children.send_cancel(self.id, reason)

    def terminate(self, reason: str = "") -> None:
        """End it at once, without running any of its code; it takes place after this turn's commit."""
        self._children.send_cancel(self.id, reason, terminates=True)

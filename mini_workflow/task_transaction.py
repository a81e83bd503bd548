"""Run the work of a task exactly once, in a database transaction that also records its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from mini_workflow.core.codec import Codec
from mini_workflow.core.payload import Payload
from mini_workflow.errors import UsageError
from mini_workflow.ports import TaskRequest
from mini_workflow.ports.transactions import TaskTransactions

P = ParamSpec("P")
R = TypeVar("R")


class TaskTransaction:
    """Calls a function in a transaction; ``current_task().transaction(connection)`` returns it."""

    def __init__(
        self,
        store: TaskTransactions,
        connection: Any,
        request: TaskRequest,
        codec: Codec,
    ) -> None:
        """Prepare a transaction for an attempt of a task."""
        self._store: Final = store
        self._connection: Final = connection
        self._request: Final = request
        self._codec: Final = codec

    def __call__(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in the transaction, record its result there, and commit; or return the result
        that an earlier attempt has recorded, without calling the function.

        An exception of the function rolls the transaction back. A task has one result: a second call in the
        same task returns the recorded result of the first.

        Raises:
            UsageError: the connection cannot be used, and the message says why; nothing was done.
            ValueNotSerializable, ValueTooLarge: the result cannot be encoded; the transaction is rolled
                back.
        """
        request, codec = self._request, self._codec
        with self._store.open(self._connection, request.execution_id, request.seq) as opened:
            text = opened.recorded
            if text is None:
                from inspect import isawaitable

                value: Any = function(*args, **kwargs)
                if isawaitable(value):
                    close: Any = getattr(value, "close", None)
                    if close is not None:
                        close()
                    raise UsageError(
                        f"task {request.name!r}: a transaction runs plain functions only; give one that "
                        "returns no coroutine"
                    )
                text = codec.encode(value, f"result of task {request.name!r}").text
                opened.record(text)
        result: R = codec.decode(Payload(text=text))
        return result

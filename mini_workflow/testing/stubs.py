"""Stubs: functions that run in place of tasks, by the names of the tasks."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, cast

from mini_workflow.core.codec import CapturedCall, Codec
from mini_workflow.ports import TaskRequest


class Stubs:
    """The stubs of one environment. May be changed while tasks run, on any thread."""

    def __init__(self) -> None:
        self._stubs: list[tuple[str, Callable[..., Any]]] = []

    def add(self, name: str, function: Callable[..., Any]) -> None:
        """Call a function in place of tasks whose name matches; the stub added last wins."""
        self._stubs = [(name, function), *self._stubs]

    def remove(self, name: str) -> None:
        """Let the tasks themselves run again."""
        self._stubs = [stub for stub in self._stubs if stub[0] != name]

    def find(self, name: str) -> Callable[..., Any] | None:
        """Return the function that runs in place of a task with a name, or None."""
        for pattern, function in self._stubs:
            if fnmatchcase(name, pattern):
                return function
        return None

    def codec(self, request: TaskRequest, codec: Codec) -> Codec:
        """Return a codec that restores the call of an attempt, or that of its stub."""
        function = self.find(request.name)
        return codec if function is None else cast(Codec, _Stubbing(codec, function))


class _Stubbing:
    """A codec that restores another function, with the arguments of the captured call."""

    __slots__ = ("_codec", "_function")

    def __init__(self, codec: Codec, function: Callable[..., Any]) -> None:
        self._codec = codec
        self._function = function

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def for_execution(self, execution_id: str) -> _Stubbing:
        """See `Codec.for_execution`."""
        return _Stubbing(self._codec.for_execution(execution_id), self._function)

    def restore(
        self, payload: CapturedCall
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """See `Codec.restore`."""
        _, args, kwargs = self._codec.restore(payload)
        return self._function, args, kwargs

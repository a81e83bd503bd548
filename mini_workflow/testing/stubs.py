"""Stubs: functions that stand in for tasks, by the tasks' names."""

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
        """Have `function` called instead of tasks whose name matches; the last one added wins."""
        self._stubs = [(name, function), *self._stubs]

    def remove(self, name: str) -> None:
        """Let the tasks themselves run again."""
        self._stubs = [stub for stub in self._stubs if stub[0] != name]

    def find(self, name: str) -> Callable[..., Any] | None:
        """Return the function that stands in for a task of that name, or None."""
        for pattern, function in self._stubs:
            if fnmatchcase(name, pattern):
                return function
        return None

    def codec(self, request: TaskRequest, codec: Codec) -> Codec:
        """Return the codec to run an attempt with: the task's own call, or the stub's."""
        function = self.find(request.name)
        return codec if function is None else cast(Codec, _Stubbing(codec, function))


class _Stubbing:
    """Restores another function with the arguments of the captured call; else it is the codec."""

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

"""Turn starts that come in bursts into one, by an execution of a built-in workflow."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVarTuple, Unpack, overload

from mini_workflow.context import Context
from mini_workflow.core.headers import check_headers
from mini_workflow.core.start_options import BoundWorkflow, unbind
from mini_workflow.core.tags import check_tags
from mini_workflow.core.validation import EXECUTION_ID, check_name
from mini_workflow.durations import MAXIMUM_DURATION, milliseconds, seconds
from mini_workflow.engine.starts import name_of
from mini_workflow.errors import ExecutionClosed, UsageError
from mini_workflow.schedules.debounce import DEBOUNCE
from mini_workflow.workflow import REGISTRY

if TYPE_CHECKING:
    from mini_workflow.engine.client import Client

Ts = TypeVarTuple("Ts")

TRIES: Final = 20
"""How often a call is made that each time arrives just when its execution is started, and is not taken. Our
own bound: each try begins anew, so that two are rare."""


class DebounceOptions(TypedDict, total=False):
    """The options of ``runtime.debounce`` that may be left out."""

    max_wait: float | timedelta | None
    tags: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    call_timeout: float | timedelta | None


class Debounce:
    """``runtime.debounce``: see `__call__`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @overload
    def __call__(
        self,
        workflow: Callable[[Context, *Ts], Coroutine[Any, Any, Any]],
        /,
        *args: *Ts,
        key: str,
        delay: float | timedelta,
        **options: Unpack[DebounceOptions],
    ) -> str: ...
    @overload
    def __call__(
        self,
        workflow: BoundWorkflow[Any],
        /,
        *,
        key: str,
        delay: float | timedelta,
        **options: Unpack[DebounceOptions],
    ) -> str: ...
    @overload
    def __call__(
        self, workflow: str, /, *args: Any, key: str, delay: float | timedelta, **options: Any
    ) -> str: ...
    def __call__(
        self,
        workflow: Any,
        /,
        *args: Any,
        key: str,
        delay: float | timedelta,
        max_wait: float | timedelta | None = None,
        tags: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        call_timeout: float | timedelta | None = None,
        **kwargs: Any,
    ) -> str:
        """Start an execution once no call with this key has come for a while, with the arguments of the
        last one. When this returns, the call survives a crash. A call that comes after the start
        begins to wait for another one, whether the execution is still running or not.

        Args:
            workflow: the workflow, ``workflow.bind(...)`` with its arguments, or its name.
            *args: its arguments.
            **kwargs: its arguments by name; beside options, bind them.
            key: a text of 1 to 200 characters: calls with the same key become one start. Each workflow
                has keys of its own.
            delay: seconds (or a timedelta) from the last call to the start.
            max_wait: seconds (or a timedelta) from the first call to the start at most, however
                many others come.
            tags: the tags of the execution; those of the last call count.
            headers: the headers of the execution; those of the last call count.
            call_timeout: seconds (or a timedelta) to wait until a process that runs executions has taken
                the call; it stays sent.

        Returns:
            The id that the execution will have. Until it is started there is none of that id.

        Raises:
            UnknownWorkflow, InvalidArguments, UsageError, ValueNotSerializable: the call is wrong;
                nothing was changed.
            ExecutionBlocked: an operator has paused the execution that waits.
            TimeoutError: the call was not taken within `call_timeout`.
        """
        options = {"max_wait": max_wait, "tags": tags, "call_timeout": call_timeout}
        options["headers"] = headers
        given = {"key", "delay", *(name for name, value in options.items() if value is not None)}
        workflow, args, kwargs = unbind(workflow, args, kwargs, given)
        name = name_of(workflow)
        REGISTRY.get(name).check_arguments(args, kwargs)
        check_name("debounce key", key)
        call = (
            list(args),
            kwargs,
            None if tags is None else check_tags(tags),
            _duration("delay", delay),
            None if max_wait is None else _duration("max_wait", max_wait),
            f"{name[:60]}-{secrets.token_hex(8)}",
            *((checked,) if (checked := check_headers(headers)) else ()),
        )
        limit = None if call_timeout is None else seconds(call_timeout)
        ends = None if limit is None else time.monotonic() + limit
        send, tries = self._client.update_with_start, 0
        while True:
            left = None if ends is None else max(0.0, ends - time.monotonic())
            try:
                handle = send(
                    DEBOUNCE,
                    name,
                    id=debounce_id(name, key),
                    update="call",
                    update_args=call,
                    update_timeout=left,
                    if_closed="restart",
                )
                return str(handle.result(left))
            except ExecutionClosed:
                # The execution was started at this moment, and did not take the call: the next run will.
                tries += 1
                if tries == TRIES:
                    raise

    def __repr__(self) -> str:
        return "<debounce>"


def debounce_id(workflow: str, key: str) -> str:
    """Return the id of the execution that waits for the end of calls with a key."""
    name = f"debounce:{workflow}:{key}"
    if EXECUTION_ID.fullmatch(name):
        return name
    return f"debounce:{sha256(f'{workflow}:{key}'.encode()).hexdigest()[:40]}"


def _duration(name: str, given: float | timedelta) -> int:
    wait = milliseconds(seconds(given))
    if not 0 <= wait <= MAXIMUM_DURATION:
        raise UsageError(
            f"debounce: {name}={given!r}: give 0 seconds or more, up to a hundred years"
        )
    return wait

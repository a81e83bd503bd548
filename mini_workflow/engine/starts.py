"""Start many executions at once, for a client."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, TypeVarTuple, Unpack, cast, overload

from mini_workflow.core.limit import Limit, queue_of
from mini_workflow.core.start_options import BatchOptions, BoundWorkflow, no_workflow
from mini_workflow.core.timing import UNTIMED, Timing
from mini_workflow.core.validation import shown
from mini_workflow.engine.execution import Execution
from mini_workflow.engine.transport import Transport
from mini_workflow.errors import UsageError
from mini_workflow.workflow import Workflow

if TYPE_CHECKING:
    from mini_workflow.context import Context
    from mini_workflow.engine.client import Client

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class StartExecutions:
    """``runtime.start_executions``: see `__call__`."""

    def __init__(self, client: Client, transport: Transport) -> None:
        self._client = client
        self._transport = transport

    @overload
    def __call__(
        self,
        workflow: Callable[[Context, *Ts], Coroutine[Any, Any, R]],
        calls: Iterable[tuple[*Ts]],
        **options: Unpack[BatchOptions],
    ) -> list[Execution[R]]: ...
    @overload
    def __call__(
        self,
        workflow: Workflow[P, R],
        calls: Iterable[BoundWorkflow[R]],
        **options: Unpack[BatchOptions],
    ) -> list[Execution[R]]: ...
    @overload
    def __call__(
        self,
        workflow: str,
        calls: Iterable[tuple[Any, ...]],
        **options: Unpack[BatchOptions],
    ) -> list[Execution[Any]]: ...
    def __call__(
        self,
        workflow: Any,
        calls: Iterable[Any],
        *,
        ids: Iterable[str] | None = None,
        tags: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        queue: str | Limit | None = None,
        limit_key: str | None = None,
        priority: int | None = None,
    ) -> list[Execution[Any]]:
        """Start many executions of a workflow, in as few commits as possible.

        Args:
            workflow: the workflow, or its name.
            calls: the positional arguments of each execution, as tuples; or ``workflow.bind(...)`` of each.
            ids: the ids of the executions, as many as there are calls; by default they are made up.
            tags: the tags of each execution.
            headers: the headers of each execution.
            queue: a limit of which each execution needs a slot before its code begins, as for
                `start_execution`; so are `limit_key` and `priority`.
            limit_key: the key of all of them at the limit.
            priority: -100 to 100.

        Returns:
            Their handles, in the order of the calls. When this returns, all survive a crash.

        Raises:
            UsageError: there are not as many ids as calls.
            Exception: the errors of `start_execution`. Wrong calls are found before any execution is
                started. If another start fails, all others are made all the same.
        """
        client = self._client
        client.check_caller()
        name = name_of(workflow)
        arguments = list(calls)
        names = None if ids is None else list(ids)
        if names is not None and len(names) != len(arguments):
            raise UsageError(
                f"start_executions: {len(arguments)} calls, but {len(names)} ids; give one id for each"
            )
        limit = queue_of("start_executions", name, queue, limit_key, priority)
        requests = [
            client.start_request(
                *(name, *arguments_of(name, call)),
                None if names is None else names[index],
                timing=UNTIMED if limit is None else Timing(limit=limit),
                tags=tags,
                headers=headers,
            )
            for index, call in enumerate(arguments)
        ]
        self._transport.start(requests)
        return [client.started(request) for request in requests]

    def __repr__(self) -> str:
        return "<start_executions>"


def arguments_of(name: str, call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional arguments and those by name of one of many calls of the workflow `name`. Raises
    UsageError if the call is one of another workflow, or none.
    """
    if type(call) is tuple:
        return cast("tuple[Any, ...]", call), {}
    if not isinstance(call, BoundWorkflow):
        if isinstance(call, str | bytes | Mapping) or not isinstance(call, Iterable):
            wrong = shown(cast("object", call))
            raise UsageError(
                f"start_executions: {wrong} is not the arguments of a call; give a tuple of them for each, "
                f"as in [(1,), (2,)], or {name}.bind(...)"
            )
        return tuple(cast("Iterable[Any]", call)), {}
    bound = cast("BoundWorkflow[Any]", call)
    if bound.workflow.name != name:
        raise UsageError(
            f"start_executions starts workflow {name!r}, but one call is {call!r}; start that by a call "
            "of its own"
        )
    return bound.args, bound.kwargs


def name_of(workflow: object) -> str:
    """Return the name of `workflow`, which is a workflow or the name of one. Raises UsageError."""
    if isinstance(workflow, Workflow):
        return workflow.name
    if isinstance(workflow, str):
        return workflow
    raise no_workflow(workflow)

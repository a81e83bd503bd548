"""Declare workflows by @workflow, and keep them by name in the registry of this process."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from copy import deepcopy
from datetime import timedelta
from functools import cache
from importlib import import_module
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    ParamSpec,
    TypedDict,
    TypeVar,
    cast,
    overload,
)

from mini_workflow.core.limit import Limit, declare_for, wish_of
from mini_workflow.core.start_options import BoundWorkflow
from mini_workflow.core.validation import shown
from mini_workflow.errors import (
    DuplicateWorkflow,
    InvalidArguments,
    InvalidIdentifier,
    UnknownWorkflow,
    UsageError,
)
from mini_workflow.loop.running import running_loop

if TYPE_CHECKING:
    from mini_workflow.context import Context
    from mini_workflow.core.run import Run

P = ParamSpec("P")
R = TypeVar("R")

Handler = Callable[Concatenate["Context", P], Coroutine[Any, Any, R]]

ChangedValues = Literal["warn", "block"]

NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}")
"""Names that a workflow may have. 100 characters is the limit of execution ids too."""


class ScheduleOptions(TypedDict, total=False):
    """The schedule that a workflow declares. `Schedules.create` describes the options."""

    args: Sequence[Any]
    cron: str
    every: float | timedelta
    timezone: str
    overlap: str
    catch_up: float | timedelta | Literal["latest"]
    jitter: float | timedelta
    tags: Mapping[str, str]
    headers: Mapping[str, str]


SCHEDULE_OPTIONS: Final = frozenset(ScheduleOptions.__annotations__)

LIBRARY: Final = {
    "mini_workflow.debounce": "mini_workflow.schedules.debounce",
    "mini_workflow.limit": "mini_workflow.limits.workflow",
    "mini_workflow.schedule": "mini_workflow.schedules.workflow",
}
"""The modules of the library's own workflows by name. Each has a WORKFLOW, and is imported when that is
to run."""
BUILTIN: Final = "mini_workflow."
"""The beginning of the names of the library's own workflows."""


def current_workflow() -> Context:
    """Return the context of the workflow whose code is running: in a function that a workflow calls, in a
    handler, or in a library that has no context argument.

    Raises UsageError outside of workflow code, for example in a task.
    """
    from mini_workflow.loop.loop import WorkflowLoop

    loop = running_loop()
    if not isinstance(loop, WorkflowLoop) or loop.workflow is None:
        raise UsageError(
            "current_workflow() was called outside a workflow: call it in code that a workflow awaits or "
            "calls. In a task call current_task(), and pass other data to it as arguments"
        )
    return cast("Context", loop.workflow)


class Workflow(Generic[P, R]):
    """A workflow function with its name.

    A call of it calls the function itself, for example in a test of its logic. Only a runtime starts
    executions.
    """

    def __init__(
        self,
        name: str,
        handler: Handler[P, R],
        changed_values: ChangedValues = "warn",
        schedule: ScheduleOptions | None = None,
    ) -> None:
        self.name = name
        self.schedule = schedule
        self.changed_values: ChangedValues = changed_values
        self.handler = handler
        self.__wrapped__ = handler
        self.__doc__ = handler.__doc__
        from inspect import Parameter, signature

        found = signature(handler)
        parameters = list(found.parameters.values())
        by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        if not parameters or parameters[0].kind not in (*by_position, Parameter.VAR_POSITIONAL):
            raise UsageError(
                f"workflow {name!r} takes no context: declare it as async def {name}(ctx, ...)"
            )
        if parameters[0].name in ("self", "cls"):
            raise UsageError(
                f"workflow {name!r} is a method: an object does not survive a restart; make it a "
                f"function, async def {name}(ctx, ...), and pass the data that it needs"
            )
        first = 0 if parameters[0].kind is Parameter.VAR_POSITIONAL else 1
        own = parameters[first:]
        self._parameters = found.replace(parameters=own)
        plain = all(parameter.kind in by_position for parameter in own)
        least = sum(parameter.default is parameter.empty for parameter in own)
        self._counts = range(least, len(own) + 1) if plain else range(0)
        """The numbers of positional arguments that fit without any by name; empty if a check by the
        signature is needed."""
        self._defaults = {
            one.name: deepcopy(one.default) for one in own if type(one.default).__hash__ is None
        }
        """The defaults that can change. Each run gets its own, since a replay does not find one again that
        another run has changed."""

    def __call__(
        self, ctx: Context, /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        """Return the function's own coroutine."""
        return self.handler(ctx, *args, **kwargs)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> BoundWorkflow[R]:
        """Return the workflow with its arguments, to be started with options of the engine.

        ``runtime.start_execution(order.bind("o-1", id=3), id="order-1")``: bound arguments are the
        function's, also those that are named like an option, and type checkers compare them with its
        parameters. Raises InvalidArguments if the function cannot be called with them.
        """
        self.check_arguments(args, kwargs)
        return BoundWorkflow[R](cast("Any", self), args, kwargs)

    def __repr__(self) -> str:
        return f"<workflow {self.name!r}>"

    @property
    def place(self) -> str:
        """The place of the function's definition, as ``file:line in function``."""
        return _place(self.handler)

    def begin(self, run: Run, args: list[Any], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of a new run. Raises InvalidArguments."""
        handler: Callable[..., Coroutine[Any, Any, Any]] = self.handler
        run.loop.workflow = context = _context_class()(run)
        try:
            if self._defaults:
                bound = self._parameters.bind(*args, **kwargs)
                own = deepcopy(self._defaults)
                bound.arguments = {**own, **bound.arguments}
                bound.apply_defaults()
                args, kwargs = list(bound.args), bound.kwargs
            return handler(context, *args, **kwargs)
        except TypeError:
            self.check_arguments(tuple(args), kwargs)
            raise

    def check_options(self, options: set[str], args: tuple[Any, ...]) -> None:
        """Raise UsageError if a parameter that `args` does not give by position has the name of one of the
        engine's `options` that were given.
        """
        for option in options & self._parameters.parameters.keys():
            parameter = self._parameters.parameters[option]
            place = list(self._parameters.parameters).index(option)
            if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or place >= len(args):
                raise UsageError(
                    f"{option}= is an option of the engine, and workflow {self.name!r} has a parameter "
                    "of that name: bind the workflow's own arguments, as in "
                    f"{_name_of(self.handler)}.bind({option}=...), and give options behind it; it takes "
                    f"{self._parameters}"
                )

    def ordered(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the same arguments, by position as far as they can be given so."""
        if not kwargs and len(args) in self._counts:
            return args, kwargs
        bound = self._parameters.bind(*args, **kwargs)
        return bound.args, bound.kwargs

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise InvalidArguments unless the function can be called with these arguments."""
        if not kwargs and len(args) in self._counts:
            return
        try:
            self._parameters.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArguments(
                f"workflow {self.name!r}: {error}; it takes {self._parameters}"
            ) from None


class Registry:
    """The workflows of a process, by name."""

    def __init__(self) -> None:
        self._workflows: dict[str, Workflow[Any, Any]] = {}

    def add(self, workflow: Workflow[Any, Any]) -> None:
        """Add a workflow. Raises DuplicateWorkflow if another one has its name.

        The same function, defined again by a reloaded module or a notebook cell, replaces the one before.
        """
        known = self._workflows.get(workflow.name)
        if known is not None and not _same_function(known.handler, workflow.handler):
            raise DuplicateWorkflow(
                f"two workflows are called {workflow.name!r}: {known.place} and "
                f"{workflow.place}; give one of them another name, "
                f'as in @workflow("another-name")'
            )
        self._workflows[workflow.name] = workflow

    def get(self, name: str) -> Workflow[Any, Any]:
        """Return the workflow of that name. Raises UnknownWorkflow."""
        if name in LIBRARY:
            own: Workflow[Any, Any] = import_module(LIBRARY[name]).WORKFLOW
            return own
        try:
            return self._workflows[name]
        except KeyError:
            raise UnknownWorkflow(
                f"workflow {name!r} is not registered in this process: import the module that "
                f"defines it; registered are {', '.join(sorted(self._workflows)) or 'none'}"
            ) from None

    def names(self) -> list[str]:
        """Return the names of the users' workflows, sorted."""
        return sorted(self._workflows)

    def scheduled(self) -> list[Workflow[Any, Any]]:
        """Return the workflows that declare a schedule."""
        return [known for known in self._workflows.values() if known.schedule is not None]

    def known(self) -> list[str]:
        """Return all names, those of the library's own workflows too."""
        return [*self._workflows, *LIBRARY]


REGISTRY: Final = Registry()
"""The registry to which @workflow adds workflows."""


@overload
def workflow(
    name: Handler[P, R] | Workflow[P, R],
    /,
    *,
    changed_values: ChangedValues = "warn",
    schedule: ScheduleOptions | None = None,
    limit: str | Limit | None = None,
    limit_key: str | None = None,
    priority: int | None = None,
) -> Workflow[P, R]: ...
@overload
def workflow(
    name: str,
    handler: Handler[P, R] | Workflow[P, R],
    /,
    *,
    changed_values: ChangedValues = "warn",
    schedule: ScheduleOptions | None = None,
    limit: str | Limit | None = None,
    limit_key: str | None = None,
    priority: int | None = None,
) -> Workflow[P, R]: ...
@overload
def workflow(
    name: str | None = None,
    handler: None = None,
    *,
    changed_values: ChangedValues = "warn",
    schedule: ScheduleOptions | None = None,
    limit: str | Limit | None = None,
    limit_key: str | None = None,
    priority: int | None = None,
) -> Callable[[Handler[P, R] | Workflow[P, R]], Workflow[P, R]]: ...
def workflow(
    name: Any = None,
    handler: Any = None,
    *,
    changed_values: ChangedValues = "warn",
    schedule: ScheduleOptions | None = None,
    limit: str | Limit | None = None,
    limit_key: str | None = None,
    priority: int | None = None,
) -> Any:
    """Make a workflow of an ``async def`` function whose first parameter is the context.

    Use it as ``@workflow``, ``@workflow("name")`` or ``workflow("name", function)``. The default name is
    the function's own. A workflow may stand for its function: ``workflow("old", order)`` registers the
    function of `order` under another name too.

    `changed_values` is for open executions whose recorded tasks, children or messages were given other
    arguments or captured values than the code gives them now. "warn" logs a warning and takes the
    recorded results, "block" blocks the execution. If results would go to another call, the execution is
    always blocked: docs/changing-code.md has the reasons.

    `schedule` starts executions by a plan, ``{"cron": "0 3 * * *", "timezone": "Europe/Berlin"}``, with the
    options of `runtime.schedules.create`. The schedule has the workflow's name. A runtime that runs the
    workflow creates the schedule when it is opened, and updates it when the code has changed.

    `limit` is a `Limit`, or its name, of which each execution needs a slot: it waits for the slot before its
    code begins, and gives it back when it has closed. `limit_key` and `priority` are as for ``ctx.task``.
    Options that `start_execution` is given win over these.

    Raises:
        UsageError: the function is not ``async def`` or has no parameter for the context; or
            `changed_values` is neither of the two; or `schedule` has other options or no times; or the
            options of the limit are out of range.
        InvalidIdentifier: the name has forbidden characters or more than 100 of them.
        DuplicateWorkflow: another function is registered under the name.
    """
    slot = wish_of(limit, limit_key, priority, "@workflow")
    if callable(name):
        return _register(_name_of(name), name, changed_values, schedule, slot)
    if handler is not None:
        return _register(name, handler, changed_values, schedule, slot)

    def decorate(function: Any) -> Workflow[Any, Any]:
        called = name if name is not None else _name_of(function)
        return _register(called, function, changed_values, schedule, slot)

    return decorate


def _register(
    name: Any, handler: Any, changed_values: Any, schedule: Any, slot: dict[str, Any] | None
) -> Workflow[Any, Any]:
    if changed_values not in ("warn", "block"):
        raise UsageError(f"changed_values={changed_values!r}: choose 'warn' or 'block'")
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise InvalidIdentifier(
            f"{shown(name)} cannot name a workflow: use 1 to 100 letters, digits, '_', '-' and '.', "
            "beginning with a letter, a digit or '_'"
        )
    if name.startswith(BUILTIN):
        raise InvalidIdentifier(
            f"{name!r} cannot name a workflow: names that begin with {BUILTIN!r} are the library's own"
        )
    handler = _function_of(handler)
    from inspect import iscoroutinefunction

    if not iscoroutinefunction(handler):
        raise UsageError(f"workflow {name!r} must be an async def function, not {handler!r}")
    if schedule is not None:
        _check_schedule(name, schedule)
    registered: Workflow[Any, Any] = Workflow(name, handler, changed_values, schedule)
    REGISTRY.add(registered)
    declare_for(name, slot)
    return registered


@cache
def _context_class() -> type[Context]:
    # The module of the context imports this one. An import statement takes as long as several calls.
    from mini_workflow.context import Context

    return Context


def _check_schedule(name: str, schedule: Any) -> None:
    """Raise UsageError unless the options can be those of a plan. Its times are checked when it is made."""
    given: set[Any] = set(schedule) if isinstance(schedule, Mapping) else set()  # pyright: ignore[reportUnknownArgumentType]
    if not given or given - SCHEDULE_OPTIONS or len(given & {"cron", "every"}) != 1:
        raise UsageError(
            f"workflow {name!r}: schedule={schedule!r}: give a mapping with either cron or every, and "
            f"perhaps others of {', '.join(sorted(SCHEDULE_OPTIONS))}"
        )


def _function_of(handler: Any) -> Any:
    if isinstance(handler, Workflow):
        return cast("Workflow[Any, Any]", handler).handler
    return handler


def _name_of(handler: Any) -> str:
    if isinstance(handler, Workflow):
        return cast("Workflow[Any, Any]", handler).name
    name = getattr(handler, "__name__", None)
    return name if isinstance(name, str) else repr(handler)


def _place(handler: Any) -> str:
    from inspect import unwrap

    code = unwrap(handler).__code__
    return (
        f"{code.co_filename}:{code.co_firstlineno} in {handler.__module__}.{handler.__qualname__}"
    )


def _same_function(one: Any, other: Any) -> bool:
    """Return whether `other` is the function `one`, defined again in the same place."""
    if one is other:
        return True
    if one.__qualname__ != other.__qualname__:
        return False
    if "<locals>" in one.__qualname__:
        # Defined once more in the same place: in a repeated test, or by a factory.
        return _place(one) == _place(other)
    # Each run of a notebook cell has another file name, but the same namespace.
    return (
        one.__code__.co_filename == other.__code__.co_filename
        or one.__globals__ is other.__globals__
    )

"""@workflow: names a workflow function and enters it into the registry of this process."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
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
"""What a workflow may be called; 100 characters is the limit of execution ids as well."""


class ScheduleOptions(TypedDict, total=False):
    """The schedule that a workflow declares: see `Schedules.create`, which says what each means."""

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

_BY_POSITION: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
LIBRARY: Final = {
    "mini_workflow.debounce": "mini_workflow.schedules.debounce",
    "mini_workflow.limit": "mini_workflow.limits.workflow",
    "mini_workflow.schedule": "mini_workflow.schedules.workflow",
}
"""The library's own workflows, by the module that has each as its WORKFLOW: imported when one is to run."""
BUILTIN: Final = "mini_workflow."
"""How the names of the library's own workflows begin."""


def current_workflow() -> Context:
    """Return the context of the workflow that runs the calling code, wherever that stands: in a function
    that a workflow calls, a handler, or a library that is not given it.

    Raises UsageError outside of workflow code, such as in a task, and in an ordinary program.
    """
    from mini_workflow.loop.loop import WorkflowLoop

    loop = running_loop()
    if not isinstance(loop, WorkflowLoop) or loop.workflow is None:
        raise UsageError(
            "current_workflow() was called outside a workflow: call it in code that a workflow awaits or "
            "calls. The code of a task has current_task(), and is given what it needs by its arguments"
        )
    return cast("Context", loop.workflow)


class Workflow(Generic[P, R]):
    """A workflow function with its name.

    Calling it calls the function itself, as a test of its logic may want; an execution is started
    by a runtime.
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
        signature = inspect.signature(handler)
        parameters = list(signature.parameters.values())
        if not parameters or parameters[0].kind not in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        ):
            raise UsageError(
                f"workflow {name!r} takes no context: declare it as async def {name}(ctx, ...)"
            )
        if parameters[0].name in ("self", "cls"):
            raise UsageError(
                f"workflow {name!r} is a method: an object does not survive a restart; make it a "
                f"function, async def {name}(ctx, ...), and pass the data that it needs"
            )
        first = 0 if parameters[0].kind is inspect.Parameter.VAR_POSITIONAL else 1
        own = parameters[first:]
        self._parameters = signature.replace(parameters=own)
        plain = all(one.kind in _BY_POSITION for one in own)
        least = sum(one.default is one.empty for one in own)
        self._counts = range(least, len(own) + 1) if plain else range(0)
        """How many positional arguments alone are right; none where that is not all there is to know."""

    def __call__(
        self, ctx: Context, /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        """Return the function's own coroutine."""
        return self.handler(ctx, *args, **kwargs)

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> BoundWorkflow[R]:
        """Return the workflow with its arguments, to be started with options of the engine.

        ``runtime.start_execution(order.bind("o-1", id=3), id="order-1")``: what is bound is the
        function's, also where it is called like an option, and type checkers compare it with the
        function's parameters. Raises InvalidArguments if it cannot be called with them.
        """
        self.check_arguments(args, kwargs)
        return BoundWorkflow[R](cast("Any", self), args, kwargs)

    def __repr__(self) -> str:
        return f"<workflow {self.name!r}>"

    @property
    def place(self) -> str:
        """Where the function is defined, as ``file:line in function``."""
        return _place(self.handler)

    def begin(self, run: Run, args: list[Any], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of a new run. Raises InvalidArguments."""
        from mini_workflow.context import Context

        handler: Callable[..., Coroutine[Any, Any, Any]] = self.handler
        run.loop.workflow = context = Context(run)
        try:
            return handler(context, *args, **kwargs)
        except TypeError:
            self.check_arguments(tuple(args), kwargs)
            raise

    def check_options(self, options: set[str], args: tuple[Any, ...]) -> None:
        """Raise UsageError if the function has a parameter that is called like one of the engine's
        options that were given, and is not among the positional arguments.
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
        """Return the same arguments, by position where they can be given so."""
        if not kwargs and len(args) in self._counts:
            return args, kwargs
        bound = self._parameters.bind(*args, **kwargs)
        return bound.args, bound.kwargs

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise InvalidArguments unless the function can be called with them."""
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
        """Enter a workflow. Raises DuplicateWorkflow if another one has its name.

        The same function again (a module that is reloaded, a notebook cell that is run again)
        replaces the one before.
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
        return [one for one in self._workflows.values() if one.schedule is not None]

    def known(self) -> list[str]:
        """Return all names, those of the library's own workflows too."""
        return [*self._workflows, *LIBRARY]


REGISTRY: Final = Registry()
"""Where @workflow enters workflows."""


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
    /,
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
    /,
    *,
    changed_values: ChangedValues = "warn",
    schedule: ScheduleOptions | None = None,
    limit: str | Limit | None = None,
    limit_key: str | None = None,
    priority: int | None = None,
) -> Any:
    """Make a workflow of an ``async def`` function whose first parameter is the context.

    As ``@workflow``, ``@workflow("name")`` or ``workflow("name", function)``. Without a name the
    function's own is taken. A workflow may stand for its function: ``workflow("old", order)``
    registers that of `order` under another name too.

    `changed_values` is for executions in flight whose recorded tasks, children or messages were
    given other arguments or captured values than the code gives them now. "warn" logs a warning and
    takes the recorded results, "block" blocks the execution. Results that would go to another call
    block it in any case: docs/changing-code.md has the reasons.

    `schedule` has executions started by a plan, ``{"cron": "0 3 * * *", "timezone": "Europe/Berlin"}``: the
    options of `runtime.schedules.create`. The schedule has the workflow's name. What runs the workflow
    makes it when it opens, and brings it up to date when the code says something else.

    `limit` is a `Limit`, or the name of one, of which each execution needs a slot: it waits for that before
    its code begins, and gives it back when it has closed. `limit_key` and `priority` as for ``ctx.task``;
    those that `start_execution` is given count instead.

    Raises:
        UsageError: not an ``async def`` function, or one without a parameter for the context; or
            `changed_values` is neither, or `schedule` has other options, or no times, or the options of
            the limit are out of range.
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
            f"{name!r} cannot name a workflow: use 1 to 100 letters, digits, '_', '-' and '.', "
            "beginning with a letter, a digit or '_'"
        )
    if name.startswith(BUILTIN):
        raise InvalidIdentifier(
            f"{name!r} cannot name a workflow: names that begin with {BUILTIN!r} are the library's own"
        )
    handler = _function_of(handler)
    if not inspect.iscoroutinefunction(handler):
        raise UsageError(f"workflow {name!r} must be an async def function, not {handler!r}")
    if schedule is not None:
        _check_schedule(name, schedule)
    made: Workflow[Any, Any] = Workflow(name, handler, changed_values, schedule)
    REGISTRY.add(made)
    declare_for(name, slot)
    return made


def _check_schedule(name: str, schedule: Any) -> None:
    """Raise UsageError for what cannot be a plan; whether it has times is seen when it is made."""
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
    code = inspect.unwrap(handler).__code__
    return (
        f"{code.co_filename}:{code.co_firstlineno} in {handler.__module__}.{handler.__qualname__}"
    )


def _same_function(one: Any, other: Any) -> bool:
    """Return whether the second is the first one, defined again in its place."""
    if one is other:
        return True
    if one.__qualname__ != other.__qualname__:
        return False
    if "<locals>" in one.__qualname__:
        # Made once more at the same place: in a test that is run again, or by a factory.
        return _place(one) == _place(other)
    # A cell of a notebook is another file each time, in the same namespace.
    return (
        one.__code__.co_filename == other.__code__.co_filename
        or one.__globals__ is other.__globals__
    )

"""Bind a workflow to its arguments, and declare the options of a start."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    cast,
)

from mini_workflow.core.limit import Limit
from mini_workflow.core.validation import check_id, shown
from mini_workflow.errors import UsageError

if TYPE_CHECKING:
    from mini_workflow.core.retry import RetryPolicy

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Startable(Protocol[P, R_co]):
    """The interface of a workflow that a start needs."""

    @property
    def name(self) -> str:
        """The name under which the workflow is registered."""
        ...

    def check_options(self, options: set[str], args: tuple[Any, ...]) -> None:
        """Raise UsageError if a parameter that `args` does not give has the name of one of the options."""
        ...

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise InvalidArguments unless the workflow can be called with these arguments."""
        ...

    def __call__(self, ctx: Any, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Return the function's own coroutine."""
        ...


class BoundWorkflow(Generic[R_co]):
    """A workflow with its arguments; ``Workflow.bind`` returns it.

    A bound workflow is started like a workflow, but takes only options.
    """

    __slots__ = ("args", "kwargs", "workflow")

    def __init__(
        self, workflow: Startable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.workflow = workflow
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        return f"<workflow {self.workflow.name!r} with its arguments>"


def unbind(
    workflow: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: set[str]
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return workflow and arguments of a call with these `options` of the engine.

    Raises UsageError if an option could be meant for a parameter of the workflow, or if a bound workflow
    was given more arguments.
    """
    if not isinstance(workflow, BoundWorkflow):
        if options and hasattr(workflow, "check_options"):
            workflow.check_options(options, args)
        return workflow, args, kwargs
    if args or kwargs:
        raise UsageError(
            f"{workflow!r} takes no more: give all arguments to bind(), and only options of the engine "
            f"behind it{_listed(kwargs)}"
        )
    bound = cast("BoundWorkflow[Any]", workflow)
    return bound.workflow, bound.args, bound.kwargs


def no_workflow(given: object) -> UsageError:
    """Return the error about what was given in place of a workflow."""
    from inspect import iscoroutine

    if iscoroutine(given):
        given.close()  # or Python would warn that nobody awaits it
        return UsageError(
            f"{given!r} is a call of the workflow: give the workflow itself, and its arguments "
            "behind it"
        )
    return UsageError(
        f"{shown(given)} is not a workflow: give a function decorated with @workflow, or the name of "
        "one"
    )


def named(
    workflow: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]
) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Return the workflow's name and the arguments of a start by a workflow's code.

    An option that was not given is None. Raises like `unbind`, and InvalidArguments or InvalidIdentifier.
    """
    given = {option for option, value in options.items() if value is not None}
    workflow, args, kwargs = unbind(workflow, args, kwargs, given)
    if options["id"] is not None:
        check_id(options["id"])
    if isinstance(workflow, str):
        return workflow, args, kwargs
    if not hasattr(workflow, "check_arguments"):
        raise no_workflow(workflow)
    workflow.check_arguments(args, kwargs)
    return workflow.name, args, kwargs


def closing_of_child(given: str) -> str | None:
    """Return the option on_parent_close of a child; None for the default, "terminate".

    Raises UsageError if `given` is no such option.
    """
    if given not in ("terminate", "cancel", "abandon"):
        raise UsageError(
            f"ctx.child(on_parent_close={given!r}): choose 'terminate', 'cancel' or 'abandon'"
        )
    return None if given == "terminate" else given


def _listed(kwargs: dict[str, Any]) -> str:
    return f"; not an option: {', '.join(kwargs)}" if kwargs else ""


IfClosed = Literal["return", "restart", "reject"]
"""The choice for an execution that has closed when its id is started again."""


class StartOptions(TypedDict, total=False):
    """The options of ``runtime.start_execution``, as type checkers see them."""

    id: str | None
    tags: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    delay: float | timedelta | None
    start_at: datetime | None
    timeout: float | timedelta | None
    retry: RetryPolicy | None
    if_closed: IfClosed
    queue: str | Limit | None
    limit_key: str | None
    priority: int | None


class SignalWithStartOptions(TypedDict, total=False):
    """The options of ``runtime.signal_with_start`` that may be left out."""

    value: Any
    if_closed: IfClosed
    tags: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    by: str


class DetachedOptions(TypedDict, total=False):
    """The options of ``ctx.start``."""

    id: str | None
    delay: float | timedelta | None
    start_at: datetime | None
    timeout: float | timedelta | None
    retry: RetryPolicy | None
    notify: str | None
    tags: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    queue: str | Limit | None
    limit_key: str | None
    priority: int | None


class ChildOptions(TypedDict, total=False):
    """The options of ``ctx.child``."""

    id: str | None
    on_parent_close: Literal["terminate", "cancel", "abandon"]
    tags: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    queue: str | Limit | None
    limit_key: str | None
    priority: int | None


class BatchOptions(TypedDict, total=False):
    """The options of ``runtime.start_executions``."""

    ids: Iterable[str] | None
    tags: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    queue: str | Limit | None
    limit_key: str | None
    priority: int | None

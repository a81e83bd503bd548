"""Name a call: by its function, and for a lambda by the functions that its code calls.

The names are read from the bytecode, so that comments and formatting make no difference.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypedDict, TypeVar, overload
from zlib import crc32

from mini_workflow.core.limit import Limit
from mini_workflow.core.records import frozen, record
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.errors import ClosureNotSerializable, UsageError

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
T = TypeVar("T")

LAMBDA: Final = "<lambda>"
"""The name that Python gives to every lambda. A task has it if its lambda calls nothing by a name."""

NAME_LENGTH: Final = 60
"""Characters of the default name of a lambda's task; a longer one is cut. Our own bound."""

_CO_VARKEYWORDS: Final = 8
_CO_COROUTINE: Final = 128
"""As in `inspect`, which takes long to import."""

_REMEMBERED: Final = 2048
_NULL_COMES_LATER: Final = sys.version_info >= (3, 13)
"""Whether PUSH_NULL, which marks a callee, follows the load of the callee or comes before."""
_METHOD_MARKED: Final = sys.version_info >= (3, 12)
_BEGINS: Final = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FAST")
_FOLLOWS: Final = ("LOAD_ATTR", "LOAD_METHOD")


@frozen
class Code:
    """Facts about a lambda's code: the functions that it `calls`, the `name` of its tasks, and a checksum of
    its other `details`, which are the names and the constants in it.
    """

    code: CodeType
    calls: str
    name: str
    details: int


_known: dict[int, Code] = {}
"""The facts by the id() of the code. Each entry keeps its code alive, so that the id stays its own."""


@record
class Function:
    """Facts about a function that do not depend on its captured variables: the `name` of its tasks, the
    captured variable that its code `assigns` (empty for none), and whether a call `is_async`.
    """

    name: str
    assigns: str
    is_async: bool


_last: tuple[CodeType, str, Function] | None = None
"""The code, the name and the facts of the last function: mostly the next one has the same code. To read the
code of a function, and to take an id(), are audit events, which cost more than this comparison."""


def about_function(function: Callable[..., Any]) -> Function:
    """Return the facts about the callable of a task."""
    global _last
    if type(function) is not FunctionType or function.__dict__:
        assigns = captured_write(function.__code__) if type(function) is FunctionType else ""
        return Function(default_name(function), assigns, is_async(function))
    code, last = function.__code__, _last
    if last is not None and last[0] is code and last[1] == function.__name__:
        return last[2]
    about = Function(default_name(function), captured_write(code), is_async(function))
    _last = (code, function.__name__, about)
    return about


def inner_function(function: Any) -> Any:
    """Return the callable inside of partials."""
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return function  # pyright: ignore[reportUnknownVariableType]


def is_lambda(function: Any) -> bool:
    """Return whether the callable is a lambda, also inside of partials."""
    return getattr(inner_function(function), "__name__", None) == LAMBDA


def default_name(function: Callable[..., Any]) -> str:
    """Return the name of a task that is given none."""
    inner = function if type(function) is FunctionType else inner_function(function)
    name = getattr(inner, "__name__", None)
    if name == LAMBDA and type(inner) is FunctionType:
        known = _known.get(id(inner.__code__))
        return about_code(inner.__code__).name if known is None else known.name
    return name if isinstance(name, str) else type(inner).__name__


def name_of_call(function: Callable[..., Any]) -> str:
    """Return the name of a function with that of its class; for a lambda, the names that it calls."""
    inner = inner_function(function)
    if isinstance(inner, MethodType):
        inner = inner.__func__
    if isinstance(inner, FunctionType) and inner.__name__ == LAMBDA:
        return about_code(inner.__code__).calls
    name = getattr(inner, "__qualname__", None)
    if not isinstance(name, str):
        name = type(inner).__qualname__
    return name.rpartition("<locals>.")[2]


def about_code(code: CodeType) -> Code:
    """Return the facts about a lambda's code. Cached by the identity of the code."""
    known = _known.get(id(code))
    if known is not None:
        return known
    details = sorted({*_names(code), *map(repr, _constants(code))})
    calls = ", ".join(_callees(code)) or LAMBDA
    name = calls if len(calls) <= NAME_LENGTH else calls[: NAME_LENGTH - 3] + "..."
    about = Code(code, calls, name, crc32("\n".join(details).encode("utf-8", "replace")))
    if len(_known) >= _REMEMBERED:
        _known.clear()
    _known[id(code)] = about
    return about


def _callees(code: CodeType) -> list[str]:
    """Return the dotted names that the code calls, each once, in the order in which they are
    loaded.
    """
    import dis

    found: dict[str, None] = {}
    name, marked = "", False
    for step in dis.get_instructions(code):
        operation, calls = step.opname, False
        follows = operation in _FOLLOWS
        if marked and name and not follows:
            found[name] = None
            marked = False
        if operation.startswith(_BEGINS):
            name = step.argval if isinstance(step.argval, str) else ""
            calls = operation.startswith("LOAD_GLOBAL") and bool((step.arg or 0) & 1)
        elif follows:
            # The object of the attribute may have no name, as in "a b".split().
            name = f"{name}.{step.argval}" if name else str(step.argval)
            calls = operation == "LOAD_METHOD" or (_METHOD_MARKED and bool((step.arg or 0) & 1))
        elif operation == "PUSH_NULL":
            calls, marked = _NULL_COMES_LATER and bool(name), not _NULL_COMES_LATER
        else:
            if isinstance(step.argval, CodeType):
                found.update(dict.fromkeys(_callees(step.argval)))
        if calls:
            found[name] = None
            marked = False
        if calls or not (operation.startswith(_BEGINS) or follows):
            name = ""
    return list(found)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _constants(code: CodeType) -> Iterator[Any]:
    import dis

    yield from _parts(code.co_consts)
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_SMALL_INT":
            yield step.argval


def _parts(constants: Any) -> Iterator[Any]:
    for constant in constants:
        if isinstance(constant, CodeType):
            yield from _constants(constant)
        elif isinstance(constant, (tuple, frozenset)):
            yield from _parts(constant)
        elif constant is not None and constant.__class__ is not bool:
            yield constant


class TaskOptions(TypedDict, total=False):
    """The options of ``ctx.task``."""

    name: str | None
    retry: RetryPolicy | None
    timeout: float | timedelta | None
    heartbeat_timeout: float | timedelta | None
    inline: bool
    undo: Callable[..., Any] | None
    worker: str | None
    limit: str | Limit | None
    limit_key: str | None
    priority: int | None


OPTIONS: Final = tuple(TaskOptions.__annotations__)
"""The options of ``ctx.task``, by name."""


class TaskDecorator(Protocol):
    """The result of ``ctx.task(retry=...)``: a decorator, or a call that begins with its options."""

    @overload
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]: ...
    @overload
    def __call__(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]: ...
    def __call__(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a task, as ``ctx.task`` does."""
        ...


def check_call(
    function: Callable[..., Any],
    assigns: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: set[str],
) -> None:
    """Check the call of a task. `assigns` is that of `Function`. `options` are the names of the engine's own
    arguments that were given.

    Raises ClosureNotSerializable if the function assigns a captured variable, and UsageError if an
    argument could be an option of the engine or a parameter of the function, or is neither.
    """
    if assigns:
        raise ClosureNotSerializable(
            f"{function.__qualname__} assigns the captured variable {assigns!r} (nonlocal); a task works "
            "on a copy, so the workflow would never see it: return the value, and assign it in the "
            "workflow",
            variable=assigns,
        )
    if not options and not kwargs:
        return
    known = _parameters(function)
    if known is None:
        return
    parameters, takes_more = known
    for option in options - _bound(function):
        # A parameter that is given by position, or is bound, has its value already.
        if option in parameters and parameters[option] >= len(args):
            raise UsageError(
                f"{option}= is an option of ctx.task(), and {name_of_call(function)} has a parameter "
                f"of that name: for the function write ctx.task(...options...)(function, {option}=...); "
                "for the option pass the function's own argument by position"
            )
    if takes_more:
        return
    for name in kwargs:
        if name not in parameters:
            raise UsageError(
                f"{name}= is neither an option of ctx.task() ({', '.join(OPTIONS)}) nor a parameter "
                f"of {name_of_call(function)}"
            )


def _bound(function: Any) -> set[str]:
    """Return the names of the parameters that a partial has bound by name."""
    return set(function.keywords) if isinstance(function, functools.partial) else set()  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


_assignments: dict[int, tuple[CodeType, str]] = {}


def captured_write(code: CodeType) -> str:
    """Return a captured variable that the code of a function assigns, or an empty text."""
    if not code.co_freevars:
        return ""
    entry = _assignments.get(id(code))
    if entry is not None:
        return entry[1]
    found = next(_assignments_in(code, frozenset(code.co_freevars)), "")
    if len(_assignments) >= _REMEMBERED:
        _assignments.clear()
    _assignments[id(code)] = (code, found)
    return found


def _assignments_in(code: CodeType, captured: frozenset[str]) -> Iterator[str]:
    import dis

    captured &= frozenset(code.co_freevars)
    for step in dis.get_instructions(code):
        if step.opname in ("STORE_DEREF", "DELETE_DEREF") and step.argval in captured:
            yield step.argval
        elif isinstance(step.argval, CodeType):
            yield from _assignments_in(step.argval, captured)


_POSITION_OF_KEYWORDS: Final = sys.maxsize


def _parameters(function: Callable[..., Any]) -> tuple[dict[str, int], bool] | None:
    """Return the parameters that can be given by name with their positions, and whether the function takes
    any other; None if its signature is not known.
    """
    if type(function) is FunctionType and "__wrapped__" not in function.__dict__:
        code = function.__code__
        first, last = code.co_posonlyargcount, code.co_argcount
        named = {name: place for place, name in enumerate(code.co_varnames[first:last], first)}
        keywords = code.co_varnames[last : last + code.co_kwonlyargcount]
        named.update(dict.fromkeys(keywords, _POSITION_OF_KEYWORDS))
        return named, bool(code.co_flags & _CO_VARKEYWORDS)
    import inspect

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    parameters: dict[str, int] = {}
    takes_more = False
    for place, parameter in enumerate(signature.parameters.values()):
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_more = True
        elif parameter.kind is parameter.KEYWORD_ONLY:
            parameters[parameter.name] = _POSITION_OF_KEYWORDS
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            parameters[parameter.name] = place
    return parameters, takes_more


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether a call of the function returns a coroutine. Looks into partials, methods and callable
    objects too.
    """
    if type(function) is FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & _CO_COROUTINE)
    from inspect import iscoroutinefunction

    if iscoroutinefunction(function):
        return True
    inner: object = inner_function(function)
    # A call of a class returns an instance, even if its __call__ is asynchronous.
    return not isinstance(inner, type) and iscoroutinefunction(type(inner).__call__)


def takes_result(undo: Callable[..., Any]) -> bool:
    """Return whether an undo takes the result of its task as an argument."""
    import inspect

    try:
        inspect.signature(undo).bind(None)
    except (TypeError, ValueError):
        return False
    return True


def takes(function: Callable[..., Any], count: int) -> bool:
    """Return whether the function takes `count` positional arguments; True if its signature is not known."""
    import inspect

    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        pass  # a builtin whose signature is not known
    return True


def required_arguments(function: Callable[..., Any]) -> int | None:
    """Return the number of positional arguments that the function requires; None if it requires some by
    name, or its signature is not known.
    """
    import inspect

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters)

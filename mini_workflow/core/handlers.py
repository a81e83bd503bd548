"""Check and call handlers: the functions of a workflow that take signals, queries and updates."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from mini_workflow.core.calls import takes
from mini_workflow.core.validation import check_name
from mini_workflow.errors import InvalidArguments, UsageError
from mini_workflow.loop.running import Halt

Handler = Callable[..., Any]

ANY: Final = "*"
"""In place of a name: its handler takes all messages that have no handler of their own name. The name is
its first argument."""


def check_signal_handler(name: str, handler: Handler) -> None:
    """Raise UsageError unless `handler` can be called with the value of a signal of that name."""
    check_handler("signal", name, handler)
    count = 2 if name == ANY else 1
    if not takes(handler, count):
        what = "the signal's name and value" if name == ANY else "the signal's value"
        raise UsageError(
            f"{handler!r} cannot handle signal {name!r}: it is called with {what}, so "
            f"it has to take {'two arguments' if name == ANY else 'one argument'}"
        )


async def call(handler: Handler, *args: Any, **kwargs: Any) -> Any:
    """Return the result of a handler, which may be a plain function or a coroutine function."""
    result = handler(*args, **kwargs)
    if inspect.isawaitable(result):
        return await result
    return result


def look(what: str, handler: Handler, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call a query handler or validator. An exception that would end the process becomes a RuntimeError.

    `what` names the function in that error.
    """
    try:
        return handler(*args, **kwargs)
    except (Exception, Halt, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise RuntimeError(f"{what} raised {error!r}") from error


def check_arguments(what: str, handler: Handler, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Raise InvalidArguments unless a handler takes these arguments of `what`, a message in words."""
    try:
        inspect.signature(handler).bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidArguments(f"{what}: {error}") from None
    except ValueError:
        pass  # a builtin whose signature is not known


def of_name(registered: str, handler: Handler, name: str) -> Handler:
    """Return the handler for a message of that name. One `registered` for ANY also takes the name."""
    return partial(handler, name) if registered == ANY else handler


def check_handler(kind: str, name: str, handler: object) -> None:
    """Raise UsageError unless `handler` can be called and `name` is the name of a message."""
    if name != ANY:
        check_name(kind, name)
    if not callable(handler):
        raise UsageError(f"{handler!r} cannot handle {kind} {name!r}: give a function")


def unknown(kind: str, name: str, known: dict[str, Any]) -> str:
    """Return the text of an error about a message whose name has no handler."""
    names = ", ".join(sorted(known)) or "none"
    return f"the workflow handles no {kind} {name!r}; known are: {names}"

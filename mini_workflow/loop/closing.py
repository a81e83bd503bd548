"""Close coroutines that still wait, from the innermost outwards."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import suppress
from gc import get_referents, is_finalized
from types import AsyncGeneratorType, CoroutineType
from typing import Any, Final, cast

from mini_workflow.loop.source_line import waiting_line

log = logging.getLogger("mini_workflow.workflow")

_CLOSE_ATTEMPTS: Final = 100
"""The number of attempts to close a coroutine that waits again instead. Each nested ``finally`` that awaits
takes one."""


def close_waiting(coroutine: Any) -> None:
    """Close a coroutine and those that it awaits, from the innermost outwards.

    In the other order an inner one that awaits in a ``finally`` block would be left to the garbage
    collector. Such a coroutine is closed repeatedly.
    """
    ignored = 0
    while (inner := _innermost(coroutine)) is not None:
        with suppress(BaseException):
            if isinstance(inner, CoroutineType):
                inner.close()
            else:
                inner.throw(GeneratorExit())
        if not _has_ended(inner):
            ignored += 1
            if ignored == _CLOSE_ATTEMPTS:
                _make_immortal(coroutine)
                log.warning(
                    "workflow code cannot be dropped from memory: it catches BaseException and "
                    "waits again (at %s); let GeneratorExit pass",
                    waiting_line(coroutine),
                )
                return


def is_closing(coroutine: Any) -> bool:
    """Return whether the garbage collector closes a coroutine that nobody runs, or what it awaits. It begins
    with any of them, so that the first one may have ended already.
    """
    if is_finalized(coroutine):
        return True
    inner = _innermost(coroutine)
    if isinstance(inner, CoroutineType):
        return inner.cr_running
    # A generator counts as running also while it waits, but only one that waits awaits something.
    return inner is not None and _awaited_by(inner) is None


async def _sample() -> AsyncGenerator[None, None]:
    yield


def _types_of_waiting() -> frozenset[type]:
    generator = _sample()
    samples = (generator.__anext__(), generator.athrow(GeneratorExit))
    for sample in samples:
        cast("Any", sample).close()  # prevents a warning that it was never awaited
    return frozenset(map(type, samples))


_IN_GENERATOR: Final = _types_of_waiting()
"""The types of awaitables by which a coroutine waits inside of an asynchronous generator. Before Python 3.13
their `close` does not reach the generator, but `throw` does.
"""


def _make_immortal(coroutine: Any) -> None:
    """Keep a coroutine that refuses to end in memory for ever. Freeing it, at the latest when the
    interpreter exits, would close it once more, which might never return.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))


def _innermost(coroutine: Any) -> Any:
    """Return the last coroutine or generator in the chain of awaits that has not ended; None if the first
    one has ended.
    """
    found: Any = None
    waits = coroutine
    while waits is not None and not _has_ended(waits):
        found, waits = waits, _awaited_by(waits)
    return found


def _awaited_by(waits: Any) -> Any:
    if isinstance(waits, CoroutineType):
        return waits.cr_await
    generator = _generator_of(waits)
    return None if generator is None else generator.ag_await


def _has_ended(waits: Any) -> bool:
    """Return whether a coroutine or generator has ended; True for other objects, which cannot be closed."""
    if isinstance(waits, CoroutineType):
        return waits.cr_frame is None
    generator = _generator_of(waits)
    return generator is None or generator.ag_frame is None


def _generator_of(waits: Any) -> AsyncGeneratorType[Any, Any] | None:
    """Return the asynchronous generator that an awaitable belongs to, or None."""
    if type(waits) not in _IN_GENERATOR:
        return None
    for referent in get_referents(waits):
        if isinstance(referent, AsyncGeneratorType):
            return cast("AsyncGeneratorType[Any, Any]", referent)
    return None

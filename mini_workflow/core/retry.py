"""Decide by a RetryPolicy whether and when a failed attempt is made again. Pure arithmetic."""

from __future__ import annotations

import builtins
import math
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, Literal, cast

from mini_workflow.class_names import current_name, name_of
from mini_workflow.core.failure import FINAL, Failure, add_note
from mini_workflow.core.records import frozen
from mini_workflow.durations import milliseconds, seconds
from mini_workflow.errors import UsageError

Jitter = Literal["full", "equal", "none"]

MAXIMUM_ATTEMPTS: Final = 1_000_000
"""Largest accepted `max_attempts`. Our own bound, so that a typing error is not an endless loop."""

MAXIMUM_DELAY_SECONDS: Final = 366 * 24 * 3600.0
"""Longest accepted delay between two attempts: one year, the longest schedule of the backends."""

WORKER_LOST: Final = "mini_workflow.errors:WorkerLost"
"""The type of the failure that is recorded when a worker dies."""


@frozen
class RetryPolicy:
    """The number of attempts of a task, and the delays in between.

    Args:
        max_attempts: attempts in all, the first included (1 to 1,000,000).
        initial: seconds (or a timedelta) before the second attempt.
        factor: number by which each further wait is multiplied (1 or more).
        maximum: upper bound of a wait, in seconds (or a timedelta).
        jitter: "full" draws each wait evenly between 0 and the computed wait, "equal" between half of
            the computed wait and all of it, "none" waits exactly as computed. The draw depends on the
            execution's seed alone, so that a replay draws the same.
        retry_on: exception classes (or their ``module:qualname``, or the bare name of a builtin class)
            after which another attempt is made, subclasses included. An empty tuple means every
            ``Exception``. Another attempt is always made after the death of a worker.
        no_retry_on: exception classes, given in the same way, after which no attempt is made. They take
            precedence over `retry_on`. `WorkerLost` or a base of it, such as ``Exception``, does not
            include the death of a worker.
        retry_if: function that is called with the exception, where the task runs and fails. Another
            attempt is made only if it returns true. The function is captured like the task itself. If
            it raises, no attempt is made, and a note says so on the task's exception.

    The classes of an exception are recorded with its failure, so that a name decides also where the
    class cannot be imported. An exception with an attribute ``retry_after`` (seconds or a timedelta)
    chooses its own wait.

    Raises:
        UsageError: a value is out of range, or a bare name is not that of a builtin exception.
    """

    max_attempts: int = 3
    initial: float | timedelta = 1.0
    factor: float = 2.0
    maximum: float | timedelta = 60.0
    jitter: Jitter = "full"
    retry_on: tuple[type[BaseException] | str, ...] = ()
    no_retry_on: tuple[type[BaseException] | str, ...] = ()
    retry_if: Callable[[Exception], bool] | None = None

    def __post_init__(self) -> None:
        attempts: Any = self.max_attempts
        if type(attempts) is not int or not 1 <= attempts <= MAXIMUM_ATTEMPTS:
            raise UsageError(
                f"RetryPolicy(max_attempts={attempts!r}): give a whole number from 1 to "
                f"{MAXIMUM_ATTEMPTS:,}"
            )
        for name in ("initial", "maximum"):
            value = seconds(getattr(self, name))
            if not 0 <= value <= MAXIMUM_DELAY_SECONDS:
                raise UsageError(
                    f"RetryPolicy({name}={value!r}): give seconds from 0 to "
                    f"{MAXIMUM_DELAY_SECONDS:,.0f}"
                )
            object.__setattr__(self, name, value)
        object.__setattr__(self, "factor", _factor(self.factor))
        if self.jitter not in ("full", "equal", "none"):
            raise UsageError(
                f"RetryPolicy(jitter={self.jitter!r}): choose 'full', 'equal' or 'none'"
            )
        for name in _KINDS:
            object.__setattr__(self, name, _kinds(name, getattr(self, name)))
        if self.retry_if is not None and not callable(self.retry_if):
            raise UsageError(
                f"RetryPolicy(retry_if={self.retry_if!r}): give a function that takes the exception"
            )

    def retries(self, failure: Failure, attempt: int) -> bool:
        """Return whether another attempt follows attempt number `attempt` (from 1), which has failed."""
        if attempt >= self.max_attempts:
            return False
        if failure.type == WORKER_LOST:
            return True
        if failure.final or _matches(failure, self.no_retry_on):
            return False
        if not self.retry_on:
            return not failure.lineage or "builtins:Exception" in failure.lineage
        return _matches(failure, self.retry_on)

    def delay(self, failure: Failure, attempt: int, draw: float) -> int:
        """Return the milliseconds to wait after attempt number `attempt` (from 1). `draw` is in [0, 1)."""
        if failure.retry_after is not None:
            return min(max(0, failure.retry_after), int(MAXIMUM_DELAY_SECONDS * 1000))
        initial, maximum = seconds(self.initial), seconds(self.maximum)
        try:
            wait = min(maximum, initial * self.factor ** (attempt - 1))
        except OverflowError:
            wait = maximum if initial else 0.0
        if self.jitter == "full":
            wait *= draw
        elif self.jitter == "equal":
            wait = wait / 2 + wait / 2 * draw
        return milliseconds(wait)

    def to_plain(self) -> dict[str, Any]:
        """Return the policy as plain JSON, without `retry_if` and the fields that have their default."""
        plain: dict[str, Any] = {"max_attempts": self.max_attempts}
        for name in ("initial", "factor", "maximum", "jitter"):
            value = getattr(self, name)
            if value != _DEFAULTS[name]:
                plain[name] = value
        for name in _KINDS:
            if kinds := getattr(self, name):
                plain[name] = [_written(kind) for kind in kinds]
        return plain

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> RetryPolicy:
        """Return the policy that `to_plain` described."""
        fields = dict(plain)
        for name in _KINDS:
            # An older history may have a name that is refused today. It matches nothing.
            kinds = fields.get(name, ())
            fields[name] = tuple(kind if ":" in kind else f":{kind}" for kind in kinds)
        return cls(**fields)


class JudgedCall:
    """A task's function together with its `retry_if`, which is called where the exception is raised."""

    __slots__ = ("function", "retry_if")

    def __init__(self, function: Callable[..., Any], retry_if: Callable[[Exception], bool]) -> None:
        self.function = function
        self.retry_if = retry_if

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, and await its result if that is awaitable."""
        value: Any
        try:
            value = self.function(*args, **kwargs)
        except Exception as error:
            self._judge(error)
            raise
        return self._awaited(cast("Awaitable[Any]", value)) if _is_awaitable(value) else value

    async def _awaited(self, value: Awaitable[Any]) -> Any:
        try:
            return await value
        except Exception as error:
            self._judge(error)
            raise

    def _judge(self, error: Exception) -> None:
        try:
            again = self.retry_if(error)
        except Exception as problem:
            again = False
            add_note(error, f"(not tried again: retry_if raised {problem!r})")
        if not again:
            vars(error)[FINAL] = True


def _is_awaitable(value: object) -> bool:
    return isinstance(value, Awaitable)


def _factor(factor: Any) -> float:
    number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
    try:
        if number and math.isfinite(factor) and factor >= 1:
            return float(factor)
    except OverflowError:
        pass
    raise UsageError(f"RetryPolicy(factor={str(factor)[:20]}): give a number of 1 or more")


Kind = type[BaseException] | str


def _kinds(argument: str, kinds: Any) -> tuple[Kind, ...]:
    if isinstance(kinds, (type, str)):
        kinds = (kinds,)
    try:
        chosen = tuple(kinds)
    except TypeError:
        chosen = (kinds,)
    return tuple(_kind(argument, kind) for kind in chosen)


def _kind(argument: str, kind: Any) -> Kind:
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return kind
    if not isinstance(kind, str):
        raise UsageError(f"RetryPolicy({argument}={kind!r}): give exception classes")
    if ":" in kind:
        return kind
    builtin = getattr(builtins, kind, None)
    if isinstance(builtin, type) and issubclass(builtin, BaseException):
        return name_of(builtin)
    raise UsageError(
        f"RetryPolicy({argument}={kind!r}): no builtin exception has that name, so it would match "
        "nothing: give the class itself, or its name as 'module:qualname'"
    )


def _written(kind: Kind) -> str:
    return kind if isinstance(kind, str) else name_of(kind)


def _matches(failure: Failure, kinds: tuple[Kind, ...]) -> bool:
    wanted = {current_name(_written(kind)) for kind in kinds}
    return not wanted.isdisjoint(map(current_name, (failure.type, *failure.lineage)))


_KINDS: Final = ("retry_on", "no_retry_on")

_DEFAULTS: Final[dict[str, Any]] = {
    "initial": 1.0,
    "factor": 2.0,
    "maximum": 60.0,
    "jitter": "full",
}

DEFAULT_POLICY: Final = RetryPolicy(
    max_attempts=5, initial=0.0, jitter="none", retry_on=(WORKER_LOST,)
)
"""The policy of a task that has none. An exception fails the task at once; only after the death of its worker
or of the engine another attempt is made, at most four times, since a task may kill its process each time."""


def check_policy(retry: object) -> None:
    """Raise UsageError unless `retry` is a RetryPolicy or None."""
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise UsageError(
            f"retry={retry!r} is not a RetryPolicy; for example retry=RetryPolicy(max_attempts=3)"
        )

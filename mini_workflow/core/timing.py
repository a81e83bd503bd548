"""Define the timing of an execution: its begin, its deadline, and its retries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.core.records import record
from mini_workflow.durations import MAXIMUM_DURATION, milliseconds, seconds
from mini_workflow.errors import UsageError

if TYPE_CHECKING:
    from mini_workflow.core.retry import RetryPolicy

BEGIN: Final = 0
"""The number of the timer that begins the code when it fires. Operations of code are numbered from 1."""

DEADLINE: Final = -1
"""The number of the timer that ends the execution when it fires."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@record
class Timing:
    """The timing that an execution is started with, as ExecutionStarted records it.

    `delay` and `timeout` are milliseconds, `start_at` is milliseconds since the epoch. `retry` is a
    RetryPolicy and `limit` the slot that the execution needs, both as plain JSON.
    """

    delay: int | None = None
    start_at: int | None = None
    timeout: int | None = None
    retry: dict[str, Any] | None = None
    limit: dict[str, Any] | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return the fields by name; `limit` only if there is one."""
        plain: dict[str, Any] = {
            "delay": self.delay,
            "start_at": self.start_at,
            "timeout": self.timeout,
            "retry": self.retry,
        }
        if self.limit is not None:
            plain["limit"] = self.limit
        return plain


UNTIMED: Final = Timing()
"""Begin now, without a deadline, once."""


def timing_of(
    what: str,
    delay: float | timedelta | None,
    start_at: datetime | None,
    timeout: float | timedelta | None,
    retry: RetryPolicy | None,
    limit: dict[str, Any] | None = None,
) -> Timing:
    """Return the options of a start as they are recorded.

    `what` names the call in errors. A number for `delay` or `timeout` is in seconds. `limit` says which
    slot the execution needs: see `queue_of`. Raises UsageError if an option is out of range.
    """
    if delay is start_at is timeout is retry is limit is None:
        return UNTIMED
    if delay is not None and start_at is not None:
        raise UsageError(f"{what}: give delay= or start_at=, not both")
    if retry is not None:
        _check_retry(what, retry)
    within = None if timeout is None else _duration(what, "timeout", timeout)
    if within is not None and within <= 0:
        raise UsageError(f"{what}: timeout={timeout!r} must be more than 0 seconds")
    return Timing(
        None if delay is None else max(0, _duration(what, "delay", delay)),
        None if start_at is None else _moment(what, start_at),
        within,
        None if retry is None else retry.to_plain(),
        limit,
    )


def moment_text(at: int) -> str:
    """Return milliseconds since the epoch as a readable time in UTC."""
    when = _EPOCH + timedelta(milliseconds=at)
    return when.isoformat(sep=" ", timespec="milliseconds")


def _duration(what: str, name: str, given: float | timedelta) -> int:
    wait = milliseconds(seconds(given))
    if wait > MAXIMUM_DURATION:
        raise UsageError(f"{what}: {name}={given} is more than a hundred years; give less")
    return wait


def _moment(what: str, given: Any) -> int:
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise UsageError(
            f"{what}: start_at={given!r} is not a datetime with a time zone; give for example "
            "datetime(..., tzinfo=timezone.utc)"
        )
    at = milliseconds((given - _EPOCH).total_seconds())
    if not 0 <= at <= MAXIMUM_MOMENT:
        raise UsageError(
            f"{what}: start_at={given} is out of range; give a time in the years 1970 to 2170"
        )
    return at


MAXIMUM_MOMENT: Final = 200 * 366 * 24 * 3600 * 1000
"""The latest time that a start may be planned for, in milliseconds since the epoch. Our own bound
against mistaken units."""


def _check_retry(what: str, retry: object) -> None:
    from mini_workflow.core.retry import RetryPolicy

    if not isinstance(retry, RetryPolicy):
        raise UsageError(
            f"{what}: retry={retry!r} is not a RetryPolicy; for example "
            "retry=RetryPolicy(max_attempts=3)"
        )
    if retry.retry_if is not None:
        raise UsageError(
            f"{what}: retry_if= works for tasks only, which run where their exceptions are; name the "
            "exceptions of an execution by retry_on= or no_retry_on="
        )

"""Run, find and retry the tasks of durable agents of any framework."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Final, Generic, TypeVar, cast

from typing_extensions import TypedDict

from mini_workflow.codecs import picklers
from mini_workflow.context import Context
from mini_workflow.core.limit import Limit
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.errors import UsageError
from mini_workflow.integrations.agent_messages import Messages
from mini_workflow.workflow import current_workflow

Durable = TypeVar("Durable")


class TaskOptions(TypedDict, total=False):
    """The options of a task of an agent: as in `Context.task`."""

    retry: RetryPolicy | None
    timeout: float | timedelta | None
    heartbeat_timeout: float | timedelta | None
    worker: str | None
    limit: str | Limit | None
    limit_key: str | None


TOOL: Final[TaskOptions] = {"timeout": 600.0}
"""The default options of tools. A tool is called once, since not every tool may be called again."""


def model_options(is_transient: Any) -> TaskOptions:
    """Return the default options of requests to models. Ten minutes is the time of long answers of reasoning
    models; our own bound. Turn off the retries of the provider's client, since they multiply with these.
    """
    return {
        "retry": RetryPolicy(max_attempts=5, initial=1.0, maximum=60.0, retry_if=is_transient),
        "timeout": 600.0,
    }


def is_transient_status(error: Exception) -> bool:
    """Return whether a request is to be made again: it got no answer, or the status 408, 409, 429, or 500 and
    above.
    """
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status in (408, 409, 429) or status >= 500
    return isinstance(error, OSError)


@contextmanager
def with_asked_wait() -> Generator[None]:
    """Have the next attempt wait as long as the provider asks for, if the request in this block fails."""
    try:
        yield
    except Exception as error:
        seconds = _asked_wait(error)
        if seconds is not None and getattr(error, "retry_after", None) is None:
            cast("Any", error).retry_after = seconds
        raise


def _asked_wait(error: Exception) -> float | None:
    """Return the seconds to wait by the headers Retry-After or retry-after-ms of an answer, or None."""
    headers: Any = getattr(error, "headers", None)
    if headers is None:
        headers = getattr(getattr(error, "response", None), "headers", None)
    if not isinstance(headers, Mapping):
        return None
    given = {str(name).lower(): str(value) for name, value in cast("Any", headers).items()}
    try:
        if "retry-after-ms" in given:
            return max(0.0, float(given["retry-after-ms"]) / 1000)
        return max(0.0, float(given["retry-after"]))
    except KeyError:
        return None
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(given["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())


class Sent:
    """The argument of a task of an agent. Its content is not part of the call's fingerprint, since messages
    have the time of their creation, which differs in a replay.
    """

    __slots__ = ("content", "messages")
    __fingerprint__: ClassVar[None] = None

    def __init__(self, content: Any, messages: Messages | list[Any] | None = None) -> None:
        self.content = content
        self.messages = messages
        """The earlier messages. A task gets them as a list."""

    def __mini_workflow_share__(self) -> Callable[[], Sent]:
        content = picklers.dump_call(self.content)
        messages = self.messages
        make = messages.handed() if isinstance(messages, Messages) else None
        return lambda: Sent(picklers.load(content), None if make is None else make())


class Agents(Generic[Durable]):
    """The durable agents of this process by name. A task finds its agent in the process where it runs, like
    its functions.
    """

    def __init__(self, made_durable_by: str) -> None:
        self._made_durable_by = made_durable_by
        self._known: dict[str, Durable] = {}

    def add(self, name: str, durable: Durable) -> None:
        """Add an agent. A later one of the same name replaces it."""
        self._known[name] = durable

    def find(self, name: str, module: str) -> Durable:
        """Return the agent of that name; imports `module`, which makes it, if needed.

        Raises UsageError if the module does not make it.
        """
        if name not in self._known and module not in sys.modules:
            importlib.import_module(module)
        found = self._known.get(name)
        if found is None:
            raise UsageError(
                f"there is no agent {name!r} with {self._made_durable_by} in this process: make it at the "
                "top level of a module that the worker imports"
            )
        return found


def running_workflow() -> Context | None:
    """Return the context of the workflow that runs the calling code, or None."""
    try:
        return current_workflow()
    except UsageError:
        return None


def module_of_caller(depth: int) -> str:
    """Return the name of the module whose code is `depth` calls above the caller."""
    return str(sys._getframe(depth + 1).f_globals.get("__name__", "__main__"))  # pyright: ignore[reportPrivateUsage]

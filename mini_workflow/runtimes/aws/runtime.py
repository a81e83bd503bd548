"""AWSRuntime: workflows on Lambda, with histories on S3 and messages on SQS."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from mini_workflow.codecs.standard import DEFAULT_VALUE_LIMIT
from mini_workflow.engine.client import Client, refuse_in_workflow, still_running
from mini_workflow.engine.execution import Settled
from mini_workflow.engine.messenger import Messenger
from mini_workflow.engine.requests import Reply, Request, Start
from mini_workflow.errors import RuntimeClosed, UsageError
from mini_workflow.runtimes.aws.client_transport import ClientTransport, Pauses
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.settings import Settings
from mini_workflow.stores.aws_clients import Clients
from mini_workflow.stores.aws_limits import CLAIM_OVER, MAXIMUM_DELAY
from mini_workflow.workflow import REGISTRY, Registry

if TYPE_CHECKING:
    from mini_workflow.runtimes.aws.handlers import Handlers

T = TypeVar("T")

DEFAULT_CACHE: Final = 256
"""How many executions a function keeps in memory between two invocations. Our own bound: each may
have 64 KiB of newest events."""

DEFAULT_TURN_LIMIT: Final = 10.0
"""Seconds that a workflow may compute between two awaits. Our own bound, as for LocalRuntime."""

DEFAULT_HISTORY_LIMIT: Final = 200_000
"""Events after which a run must have continued as new. Our own bound, as for LocalRuntime."""


class AWSRuntime(Client):
    """Runs workflows on AWS: the same outside calls as LocalRuntime, from anywhere that reaches the
    bucket and the queue, and the handlers of the two functions of the engine.

    Nothing is read from the settings and nothing is called before it is needed, so that a module
    may make one at its top level.

    Args:
        settings: where the names of the engine's resources are found.
        clients: makes boto3's client of a service, given its name; by default those of the
            process's own session.
        registry: where workflows are looked up.
        cache_size: how many executions the orchestrator keeps in memory.
        turn_timeout: seconds that a workflow may compute between two awaits; None for no limit.
        history_limit: events after which an execution that has not continued as new is blocked; a
            warning is logged at half of them.
        queued: seconds up to which a timer waits in the delay queue, 900 at most; longer ones are
            schedules.
        claim_over: bytes of a message's content above which it goes by way of the bucket.
        value_limit: bytes that one value may take, encoded: an argument, a result, what a signal
            brings. More is refused with ValueTooLarge.

    Raises UsageError if an argument is out of range.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clients: Callable[[str], Any] | None = None,
        registry: Registry = REGISTRY,
        cache_size: int = DEFAULT_CACHE,
        turn_timeout: float | None = DEFAULT_TURN_LIMIT,
        history_limit: int = DEFAULT_HISTORY_LIMIT,
        queued: int = MAXIMUM_DELAY,
        claim_over: int = CLAIM_OVER,
        value_limit: int = DEFAULT_VALUE_LIMIT,
    ) -> None:
        _check("cache_size", cache_size, cache_size >= 1, "1 or more")
        _check("history_limit", history_limit, history_limit >= 10, "10 or more")
        _check("queued", queued, 1 <= queued <= MAXIMUM_DELAY, f"1 to {MAXIMUM_DELAY} seconds")
        _check("claim_over", claim_over, 0 <= claim_over <= CLAIM_OVER, f"0 to {CLAIM_OVER} bytes")
        _check("value_limit", value_limit, value_limit >= 1, "1 or more bytes")
        fits = turn_timeout is None or turn_timeout > 0
        _check("turn_timeout", turn_timeout, fits, "more than 0 seconds, or None")
        self._parts = Container(
            settings,
            Clients(clients),
            queued=queued,
            claim_over=claim_over,
            value_limit=value_limit,
        )
        self._codec = self._parts.codec
        self._registry = registry
        self._starter = ClientTransport(self._parts)
        self._messenger = Messenger(self, self._codec)
        self._limits = (cache_size, turn_timeout, history_limit)
        self._functions: Handlers | None = None
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None, **options: Any) -> Self:
        """A runtime whose settings are environment variables (see `mini_workflow.settings`).

        `environment` stands in for the process's; the options are those of the class. A variable
        that is missing is an error, SettingMissing, when it is first needed.
        """
        return cls(Settings(environment), **options)

    # The handlers of the engine's functions

    def orchestrate(self, event: Any, context: Any = None) -> Any:
        """The handler of the orchestrator: batches of the queue of events, answered with the
        messages that failed, and direct invocations with a query, an update or a promise.

        Not to be called by two threads at the same time.
        """
        return self._the_functions().orchestrate(event, context)

    def execute(self, event: Any, context: Any = None) -> Any:
        """The handler of the worker: one attempt of a task, whose outcome goes to the queue of
        events. `context` is Lambda's, and says how much time is left.

        Raises SignatureInvalid, WireError: the envelope is not the engine's; nothing was run.
        Raises StoreUnavailable if the outcome cannot be sent; the attempt counts as lost then.
        """
        return self._the_functions().execute(event, context)

    def _the_functions(self) -> Handlers:
        functions = self._functions
        if functions is None:
            from mini_workflow.runtimes.aws.handlers import Handlers

            with self._lock:
                functions = self._functions = self._functions or Handlers(
                    self._parts, self._registry, *self._limits
                )
        return functions

    def evict(self) -> None:
        """Drop all live executions from memory; the next event of each replays it."""
        if self._functions is not None:
            self._functions.evict()

    def close(self) -> None:
        """End the threads of this process. What runs on AWS runs on."""
        self._closed = True
        if self._functions is not None:
            self._functions.close()
        self._parts.clients.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # For the client

    @property
    def _store(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._parts.store

    def settled(self, execution_id: str, timeout: float | None) -> Settled:
        """See `Service.settled`. Looks at the bucket, with growing pauses."""
        self._check_caller()
        ends = None if timeout is None else time.monotonic() + timeout
        pauses = Pauses()
        while True:
            found = self._settled_now(execution_id)
            if found is not None:
                return found
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0:
                raise still_running(execution_id, timeout)
            time.sleep(pauses.take(left))

    def _settled_now(self, execution_id: str) -> Settled | None:
        resumed = self._starter.is_resumed(execution_id)
        found = super()._settled_now(execution_id)
        return None if resumed and found is not None and found.head.status == "blocked" else found

    async def settled_async(self, execution_id: str) -> Settled:
        """See `Service.settled_async`."""
        self._check_caller()
        pauses = Pauses()
        while True:
            found = await asyncio.to_thread(self._settled_now, execution_id)
            if found is not None:
                return found
            await asyncio.sleep(pauses.take())

    def clock_now(self) -> int:
        """See `Desk.clock_now`."""
        return self._parts.clock.now()

    def put_all(self, requests: Iterable[Start]) -> None:
        """See `Client.put_all`."""
        self._starter.put_all(list(requests))

    def ask_within(self, request: Request, reply: Reply[T], timeout: float | None) -> T:
        """See `Desk.ask_within`. The timeout is for what follows; each call of AWS has its own."""
        self._check_caller()
        return self._starter.ask(request, reply)

    def watch(self, execution_id: str) -> AbstractContextManager[Callable[[float], None]]:
        """See `Desk.watch`."""
        return self._starter.watch()

    def _check_caller(self) -> None:
        if self._closed:
            raise RuntimeClosed("the runtime was closed; open a new one")
        refuse_in_workflow()

    def _read(self, read: Callable[[], T]) -> T:
        self._check_caller()
        return read()


def _check(name: str, value: object, fits: bool, wanted: str) -> None:
    if not fits:
        raise UsageError(f"AWSRuntime({name}={value!r}): give {wanted}")

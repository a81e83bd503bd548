"""AWSRuntime: runs workflows on Lambda, with histories on S3 or in DynamoDB, and messages on SQS."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast

from mini_workflow.codecs.payload_codecs import Codecs
from mini_workflow.codecs.standard import DEFAULT_VALUE_LIMIT
from mini_workflow.engine.client import Client
from mini_workflow.engine.deletions import retention_of
from mini_workflow.errors import UsageError
from mini_workflow.interceptors import Interceptor, Interceptors
from mini_workflow.runtimes.aws.client_transport import ClientTransport
from mini_workflow.runtimes.aws.container import Container, StoreName
from mini_workflow.settings import Settings
from mini_workflow.stores.aws.clients import Clients
from mini_workflow.stores.aws.limits import CLAIM_OVER, MAXIMUM_DELAY
from mini_workflow.workflow import REGISTRY, Registry

if TYPE_CHECKING:
    from mini_workflow.runtimes.aws.dead_letters import DeadLetters
    from mini_workflow.runtimes.aws.deployment import Deployment
    from mini_workflow.runtimes.aws.handlers import Handlers
    from mini_workflow.runtimes.aws.pull_worker import PullWorker

DEFAULT_CACHE: Final = 256
"""How many executions a function keeps in memory between two invocations. Our own bound: each may
have 64 KiB of newest events."""

DEFAULT_TURN_LIMIT: Final = 10.0
"""Seconds that a workflow may compute between two awaits. Our own bound, as for LocalRuntime."""

DEFAULT_HISTORY_LIMIT: Final = 200_000
"""Events after which a run must have continued as new. Our own bound, as for LocalRuntime."""


class AWSRuntime(Client):
    """Runs workflows on AWS: it has the same calls as LocalRuntime, from anywhere that reaches the
    bucket and the queue, and the handlers of the two functions of the engine.

    It reads no setting and calls no service before it needs them, so that a module may make one at its
    top level.

    Args:
        settings: the names of the engine's resources.
        clients: makes boto3's client of a service, given its name; by default those of the
            process's own session.
        registry: the workflows, by name.
        cache_size: how many executions the orchestrator keeps in memory.
        turn_timeout: seconds that a workflow may compute between two awaits; None for no limit.
        history_limit: events after which an execution that has not continued as new is blocked; a
            warning is logged at half of them.
        queued: seconds up to which a timer waits in the delay queue, 900 at most; longer ones are
            schedules.
        claim_over: bytes of a message's content above which the content goes to the bucket.
        codec: a PayloadCodec, or a list of them, by which all values, failures and calls are encoded
            before they are stored or sent, and in which the first one encodes first.
        interceptors: objects that go around calls, workflows and tasks: see `Interceptor`.
        value_limit: bytes that one value may take, encoded: an argument, a result, the value of a
            signal. More is refused with ValueTooLarge.
        keep_runs: whether the orchestrator keeps the events of runs that are over, before
            ``continue_as_new``.
        store: the place of the histories: "s3" for the bucket, "dynamodb" for a table. By default it is
            the one of the settings, which the component has set. If the settings say otherwise, the first
            call that needs a history raises UsageError, or SettingMissing where there is no table.
        retention: after which time since they closed the orchestrator deletes executions, in seconds or
            as a timedelta, a few at a time beside the work; by default what the settings say, and
            never if they say nothing.

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
        codec: Codecs | None = None,
        interceptors: Iterable[Interceptor] = (),
        keep_runs: bool = True,
        store: StoreName | None = None,
        retention: float | timedelta | None = None,
    ) -> None:
        _check("store", store, store in (None, "s3", "dynamodb"), '"s3" or "dynamodb"')
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
            codec=codec,
            keep_runs=keep_runs,
            interceptors=Interceptors.of(interceptors),
            store=store,
        )
        self._client_transport = ClientTransport(self._parts)
        transport, around = self._client_transport, self._parts.interceptors
        super().__init__(transport, transport.store, self._parts.codec, registry, around)
        self._retention = None if retention is None else retention_of(retention)
        self._limits = (cache_size, turn_timeout, history_limit)
        self._functions: Handlers | None = None
        self._lock = threading.Lock()

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None, **options: Any) -> Self:
        """Return a runtime whose settings are environment variables (see `mini_workflow.settings`).

        `environment` stands in for the process's; the options are those of the class. A variable
        that is missing is an error, SettingMissing, when it is first needed.
        """
        return cls(Settings(environment), **options)

    # The handlers of the engine's functions

    def orchestrate(self, event: Any, context: Any = None) -> Any:
        """Handle an invocation of the orchestrator: a batch of the queue of events, whose failed messages are
        returned, a direct invocation with a query, an update or a promise, or the schedules of a
        deployment. `context` is Lambda's.

        Not to be called by two threads at the same time.
        """
        plain = cast("dict[str, Any]", event) if isinstance(event, dict) else {}
        if "Records" in plain:
            self.schedules.declare_once()
        elif plain.get("mini_workflow") == "schedules" or "ResponseURL" in plain:
            from mini_workflow.runtimes.aws.deployment_schedules import DeploymentSchedules

            return DeploymentSchedules(self, self._registry).take(plain)
        return self._the_functions().orchestrate(event, context)

    def execute(self, event: Any, context: Any = None) -> Any:
        """Handle an invocation of the worker: run one attempt of a task, and send its outcome to the queue
        of events. `context` is Lambda's, and says how much time is left.

        Raises SignatureInvalid or WireError if the envelope is not the engine's; nothing was run.
        Raises StoreUnavailable if the outcome cannot be sent; the attempt counts as lost then.
        """
        return self._the_functions().execute(event, context)

    def pull(self, worker: str, concurrency: int) -> PullWorker:
        """Run the tasks of a worker in this process, `concurrency` at a time, until the returned PullWorker
        is closed. It takes them from the worker's queue.

        Raises UsageError if there is no such queue, or `concurrency` is not 1 to 1,000.
        """
        from mini_workflow.runtimes.aws.pull_worker import PullWorker

        puller = PullWorker(self._parts, worker, concurrency)
        puller.start()
        return puller

    def _the_functions(self) -> Handlers:
        functions = self._functions
        if functions is None:
            from mini_workflow.runtimes.aws.handlers import Handlers

            with self._lock:
                functions = self._functions = self._functions or Handlers(
                    self._parts, self._registry, *self._limits, self._retention
                )
        return functions

    # For operators

    def metrics(self) -> NoReturn:
        """Raise UsageError: no process knows the counts of the whole engine. The functions write their
        metrics to CloudWatch.
        """
        raise UsageError(
            "AWSRuntime.metrics(): the functions write their metrics to CloudWatch. Look at the namespace "
            "'mini-workflow' there, beside those of the queues and functions (docs/aws.md, What to watch); "
            "count_executions() counts executions by status"
        )

    def dead_letters(self) -> DeadLetters:
        """Return the messages that this engine could not handle: see `dead_letters.DeadLetters`."""
        from mini_workflow.runtimes.aws.dead_letters import DeadLetters

        return DeadLetters(self._parts)

    def deployment(self) -> Deployment:
        """Return the versions of this engine's functions: see `deployment.Deployment`."""
        from mini_workflow.runtimes.aws.deployment import Deployment

        return Deployment(self._parts)

    def evict(self) -> None:
        """Drop all live executions from memory; the next event of each replays it."""
        if self._functions is not None:
            self._functions.evict()

    def close(self) -> None:
        """End the threads of this process. The executions and tasks on AWS go on."""
        super().close()
        self._client_transport.close()
        if self._functions is not None:
            self._functions.close()
        self._parts.clients.close()


def _check(name: str, value: object, fits: bool, wanted: str) -> None:
    if not fits:
        raise UsageError(f"AWSRuntime({name}={value!r}): give {wanted}")

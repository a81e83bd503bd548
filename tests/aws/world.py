"""A world of one thread: an engine on AWS whose every step is taken by the test.

    world = World(registry)
    with world:
        world.client.start_execution("flow", id="a")
        world.run()                     # until nothing moves any more; timers fire at once
        assert world.client.get_execution("a").result() == ...

A process is a runtime of its own. `Fault` says what goes wrong at which call of AWS.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Literal, Self

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from mini_workflow import AWSRuntime
from mini_workflow.core import events, wire
from mini_workflow.engine.delivery import one_by_one
from mini_workflow.settings import (
    BUCKET_NAME,
    DLQ_URL,
    OBJECT_PREFIX,
    ORCHESTRATOR_FUNCTION_NAME,
    QUEUE_ARN,
    QUEUE_URL,
    ROLE_ARN,
    SCHEDULE_GROUP,
    SIGNING_KEY,
    TIMER_QUEUE_URL,
    WORKER_FUNCTION_NAME,
)
from mini_workflow.testing.clock import ManualClock
from mini_workflow.workflow import Registry
from tests.aws.cloud import UNSEEN, Context, Raw, report_of
from tests.aws.services import Message, Services

START = 1_900_000_000_000
STEPS = 3_000
"""Deliveries and attempts after which a world that does not come to rest has failed."""

LAMBDA = 900
"""Seconds that a function may run."""

HOLDING = "sqs.ChangeMessageVisibilityBatch"

ENVIRONMENT = {
    BUCKET_NAME: "histories",
    OBJECT_PREFIX: "",
    QUEUE_URL: "http://127.0.0.1/0/events.fifo",
    QUEUE_ARN: "arn:aws:sqs:us-east-1:0:events.fifo",
    DLQ_URL: "http://127.0.0.1/0/dlq.fifo",
    TIMER_QUEUE_URL: "http://127.0.0.1/0/timers",
    WORKER_FUNCTION_NAME: "worker",
    ORCHESTRATOR_FUNCTION_NAME: "orchestrator",
    ROLE_ARN: "arn:aws:iam::000000000000:role/scheduler",
    SCHEDULE_GROUP: "group",
    SIGNING_KEY: "a key for tests, and for tests only",
}


class Death(BaseException):
    """The process ends here."""


@dataclass(slots=True)
class Fault:
    """What goes wrong at the n-th call of AWS from now, counted from 1, for `times` calls: of those
    with the name `call`, such as "lambda.Invoke", or of all.

    ``dies``: the process ends. ``fails``: nobody answers. ``throttled``: AWS refuses to do it now.
    With `after`, the call has been carried out before.
    """

    n: int
    kind: Literal["dies", "fails", "throttled"]
    after: bool = False
    times: int = 1
    call: str = ""

    def __str__(self) -> str:
        when = "after" if self.after else "before"
        return f"{self.kind} {when} call {self.n}{self.call and f' of {self.call}'}"

    def comes(self, call: str) -> bool:
        """Count the call; whether it goes wrong."""
        if self.call not in ("", call):
            return False
        self.n -= 1
        return self.n <= 0 < self.n + self.times


_CURRENT: list[World] = []


@cache
def _client(service: str) -> Any:
    """One for all worlds, which are one after the other: to make a client takes long."""
    session = boto3.Session(
        aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
    )
    client = session.client(
        service,
        endpoint_url="http://127.0.0.1",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            s3={"addressing_style": "path"},
            **UNSEEN,
        ),
    )

    def answer(request: Any, event_name: str, **_: Any) -> AWSResponse:
        return _CURRENT[0].answer(request, event_name)

    client.meta.events.register(f"before-send.{service}", answer)
    return client


class World:
    """See the module's description. `calls` are the names of all calls so far, by order, and `sizes`
    the bytes that they sent.
    """

    def __init__(
        self,
        registry: Registry,
        batch: int = 10,
        settings: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.registry = registry
        self.environment = {**ENVIRONMENT, **(settings or {})}
        self.options = options
        self.batch = batch
        self.clock = ManualClock(START)
        self.services = Services(self.clock)
        self.calls: list[str] = []
        self.sizes: list[int] = []
        self.deaths = 0
        self.lambda_seconds: float = LAMBDA
        self.longest = 0.0
        """Seconds that the longest batch has taken."""
        self.faults: list[Fault] = []
        self.fresh = True
        """Whether another process takes over after one that has died."""
        self.acting = ""
        """Which function is at work; calls of a client are not counted, and nothing befalls them."""
        self.prone = ("orchestrator", "worker")
        """The functions that faults can hit."""
        self.stalls: tuple[int, bool, Callable[[], None]] | None = None
        """At which call the process stalls, whether after it, and what happens in the meantime."""
        self.answers: list[dict[str, Any]] = []
        self.batch_in_hand: list[Message] = []
        self._processes: list[AWSRuntime] = []
        self.client = self.process()
        self.orchestrator = self.process()
        self.worker = self.process()
        self.services.asked = lambda event: self.orchestrator.orchestrate(event, Context())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for runtime in self._processes:
            runtime.close()

    # Processes

    def process(self) -> AWSRuntime:
        """A process that has just begun."""
        runtime = AWSRuntime.from_env(
            self.environment, clients=self.aws, registry=self.registry, **self.options
        )
        runtime._parts.clock = self.clock
        runtime._parts.threaded = False
        runtime._parts.sleep = lambda seconds: self.clock.advance(round(seconds * 1000))
        # One call after the other, so that every run of a test makes the same ones.
        runtime._parts.clients.each = one_by_one  # type: ignore[method-assign, assignment]
        self._processes.append(runtime)
        return runtime

    def aws(self, service: str) -> Any:
        """A client of boto3 that ends here."""
        _CURRENT[:] = [self]
        return _client(service)

    def answer(self, request: Any, event_name: str) -> AWSResponse:
        """Answer a request, or fail as a fault says."""
        service, operation = event_name.split(".")[1:]
        call = f"{service}.{operation}"
        fault = stall = None
        if self.acting:
            self.calls.append(call)
            body = request.body
            self.sizes.append(len(body.getvalue() if hasattr(body, "getvalue") else body or b""))
            if self.stalls is not None and self.stalls[0] == len(self.calls):
                stall, self.stalls = self.stalls, None
        if stall is not None:
            _, after, meanwhile = stall
            before = None if after else meanwhile()
            answer = self.services.answer(call, request) or before
            if after:
                meanwhile()
            return answer
        if self.acting in self.prone:
            coming = [each for each in self.faults if each.comes(call)]
            fault = next(iter(coming), None)
        if fault is None:
            return self.services.answer(call, request)
        if fault.after:
            self.services.answer(call, request)
        if fault.kind == "dies":
            raise Death(call)
        if fault.kind == "throttled":
            return _throttled(service, request)
        if fault.after:
            raise ReadTimeoutError(endpoint_url=request.url)
        raise EndpointConnectionError(endpoint_url=request.url)

    def after(self, fault: Fault) -> None:
        """Have something go wrong."""
        self.faults.append(fault)

    # What happens

    def deliver(
        self, runtime: AWSRuntime | None = None, messages: list[Message] | None = None
    ) -> int:
        """Hand one batch to the orchestrator, as the event source mapping does; how many came."""
        batch = self.services.queue[: self.batch] if messages is None else messages
        if not batch:
            return 0
        for message in batch:
            message.received += 1
        event = {"Records": [message.record() for message in batch]}
        self.batch_in_hand = batch
        acting, self.acting = self.acting, "orchestrator"
        began = self.clock.now()
        try:
            answer = (runtime or self.orchestrator).orchestrate(
                event, Context(self.lambda_seconds, self.clock)
            )
        except Death:
            self._dead("orchestrator")
            return len(batch)
        finally:
            self.acting = acting
            self.longest = max(self.longest, (self.clock.now() - began) / 1000)
        self.answers.append(answer)
        failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
        gone = {message.id for message in batch} - failed
        self.services.queue = [m for m in self.services.queue if m.id not in gone]
        return len(batch)

    def attempt(self, index: int = 0) -> bool:
        """Invoke the worker for an event, by default the oldest; whether there was one."""
        if not self.services.invoked:
            return False
        event = self.services.invoked.pop(index)
        acting, self.acting = self.acting, "worker"
        try:
            self.worker.execute(event, Context(self.lambda_seconds, self.clock))
        except Death as death:
            self._dead("worker")
            self.lose(event, death)
        except Exception as error:
            self.lose(event, error)
        finally:
            self.acting = acting
        return True

    def lose(self, event: dict[str, Any], error: BaseException) -> None:
        """Pass on that an invocation of the worker has failed, as destination and pipe would."""
        self.services.put(event["execution_id"], report_of(event, error))

    def _dead(self, function: str) -> None:
        self.deaths += 1
        if self.fresh:
            setattr(self, function, self.process())

    def settle(self) -> None:
        """Go on until nothing moves any more, and no time passes."""
        for _ in range(STEPS):
            if not (self.deliver() or self.attempt()):
                return
        raise AssertionError(f"still at work after {STEPS} steps: {self.services.queue[:3]}")

    def run(self) -> None:
        """Go on until nothing moves any more; time passes when nothing else happens."""
        for _ in range(STEPS):
            if not (self.deliver() or self.attempt() or self.services.notify()):
                return
        raise AssertionError(f"still at work after {STEPS} steps: {self.services.queue[:3]}")

    def until(self, condition: Callable[[], bool]) -> None:
        """Go on until something holds."""
        for _ in range(STEPS):
            if condition():
                return
            assert self.deliver() or self.attempt() or self.services.notify()
        raise AssertionError("it never holds")

    # What has come of it

    def history(self, execution_id: str) -> list[events.Event]:
        """The events of all runs."""
        lines, _ = self.client._parts.store.lines_since(execution_id, 0)
        return [wire.decode(line) for line in lines]  # type: ignore[misc]

    def recorded(self, execution_id: str) -> Counter[str]:
        """How many events there are of each kind."""
        return Counter(type(event).__name__ for event in self.history(execution_id))

    def cost(self, since: int = 0) -> Counter[str]:
        """How often each call was made, from a number of calls on, but for the one that holds the
        messages of a batch.
        """
        return Counter(call for call in self.calls[since:] if call != HOLDING)


def _throttled(service: str, request: Any) -> AWSResponse:
    if service == "s3":
        text = "<Error><Code>SlowDown</Code><Message>slow down</Message></Error>"
        return AWSResponse(request.url, 503, {}, Raw(text.encode()))
    headers = {"x-amzn-errortype": "TooManyRequestsException"}
    plain = {"__type": "ThrottlingException", "message": "slow down", "Reason": "test"}
    return AWSResponse(request.url, 429, headers, Raw(json.dumps(plain).encode()))


def registry_of(*workflows: Any) -> Registry:
    """A registry of these functions, by their names."""
    from mini_workflow.workflow import Workflow

    made = Registry()
    for function in workflows:
        made.add(Workflow(function.__name__, function))
    return made


def names(found: Iterable[Any]) -> list[str]:
    """The names of the types of events."""
    return [type(event).__name__ for event in found]

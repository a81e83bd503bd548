"""A cloud for one test: the engine's resources, and its two functions in this process.

S3, SQS, the pipe of the timers and the schedules are the emulator's, or those of in_process.py. The
queue of events is polled here, as an event source mapping does, and invocations of functions end
here, as botocore has validated and written them: so a test can make any of them fail, or crash
between any two.
"""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import boto3
from botocore import UNSIGNED
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from mini_workflow import AWSRuntime
from mini_workflow.engine.intercepted import with_interceptors
from mini_workflow.engine.requests import Ask, Start
from mini_workflow.ports import Clock
from mini_workflow.runtimes.aws.client_transport import ClientTransport
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
    TABLE_KEY,
    TABLE_ORDER,
    TIMER_QUEUE_URL,
    WORKER_FUNCTION_NAME,
    WORKERS,
    Settings,
)
from tests.aws.emulator.server import ACCOUNT, Server

log = logging.getLogger(__name__)

BUCKET = "histories"
TAKEN_WITHIN = 10.0
"""Seconds after which nobody waits any more for messages to be taken: one may block the rest."""

IDLE = 0.02
"""Seconds between two looks at an empty queue. A long poll would hold up the end of a test."""

CALLS = (*("s3", "dynamodb", "sqs", "lambda", "scheduler"),)

# One for all: it keeps the descriptions of the services.
SESSION = boto3.Session(
    aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
)

SPARED = {"user_agent": "mini-workflow"}
"""Options of a client: what boto3 puts together anew for each call is a third of what a call takes."""

UNSEEN = {**SPARED, "signature_version": UNSIGNED}
"""Of one whose services are in this process: nobody looks at a signature, which takes as much again."""

Hook = Callable[[str, Any], None]
"""Told before each call of AWS by its name, such as ``s3.PutObject``, and its request; may raise."""


class Context:
    """What Lambda tells a handler. `seconds` are those that it has left, now by the `clock`; without
    one they do not pass.
    """

    def __init__(self, seconds: float = 60.0, clock: Clock | None = None) -> None:
        self._milliseconds = round(seconds * 1000)
        self._clock = clock
        self._began = 0 if clock is None else clock.now()

    def get_remaining_time_in_millis(self) -> int:
        passed = 0 if self._clock is None else self._clock.now() - self._began
        return self._milliseconds - passed


class Raw(io.BytesIO):
    """The body of a response that never came over a wire."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


def report_of(event: dict[str, Any], error: BaseException) -> str:
    """What the queue of events gets of an invocation that has failed: Lambda's words to the
    destination for failures, as the pipe passes them on.
    """
    response = {"errorType": type(error).__name__, "errorMessage": str(error), "stackTrace": []}
    context = {"condition": "RetriesExhausted", "approximateInvokeCount": 1}
    return json.dumps({"lost": {"request": event, "context": context, "response": response}})


class TakenTransport:
    """A transport whose calls return once what they have sent was taken."""

    def __init__(self, transport: ClientTransport, cloud: Cloud) -> None:
        self._transport = transport
        self._cloud = cloud

    def start(self, requests: Sequence[Start]) -> None:
        """Start executions, and wait for their first turns."""
        self._transport.start(requests)
        self._cloud.wait_until_taken()

    def ask(self, request: Any, timeout: float | None = None) -> Any:
        """Send a message, and wait for its turn."""
        answer = self._transport.ask(request, timeout)
        if not isinstance(request, Ask):
            self._cloud.wait_until_taken()
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Deployed(AWSRuntime):
    """A runtime that is its own deployment: as long as it is open, it is what the queue of events
    and the invocations of the worker reach. A call returns once what it has sent was taken.
    """

    def __init__(self, cloud: Cloud, *, abrupt: bool = False, **options: Any) -> None:
        self._dead = threading.Event()
        super().__init__(
            Settings(cloud.environment),
            clients=lambda service: cloud.client(service, self._dead),
            **options,
        )
        self._transport = with_interceptors(
            TakenTransport(self._client_transport, cloud), self._parts.interceptors
        )
        self._abrupt = abrupt
        self._cloud = cloud
        self._serving = cloud.serving(self, drains=not abrupt)
        self._serving.__enter__()

    def close(self) -> None:
        """The end of the deployment, once what has begun is done; at once if it is `abrupt`, and
        then what has begun is killed.
        """
        if self._client_transport.closed:
            return
        if not self._abrupt:
            self._cloud.wait_until_idle()
        self._serving.__exit__(None, None, None)
        if self._abrupt:
            self._client_transport.close()  # Who waits hears of the end, not of its effects.
            self._dead.set()
            self._cloud.kill()
        super().close()


class Cloud(ABC):
    """The resources of one engine. `calls` counts what was called, by service and operation."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or f"c{uuid4().hex[:12]}"
        self.calls: Counter[str] = Counter()
        self.sent_bytes: Counter[str] = Counter()
        self.hooks: list[Hook] = []
        self.after: list[Hook] = []
        self._pool = ThreadPoolExecutor(32, thread_name_prefix=f"{self.name}-lambda")
        self._running: list[Any] = []
        self._mapping = f"{self.name}-mapping"
        self.worker: Callable[[Any, Any], Any] | None = None
        self.orchestrator: Callable[[Any, Any], Any] | None = None
        self.environment = {
            BUCKET_NAME: BUCKET,
            OBJECT_PREFIX: f"{self.name}/",
            WORKER_FUNCTION_NAME: f"{self.name}-worker",
            ORCHESTRATOR_FUNCTION_NAME: f"{self.name}-orchestrator",
            ROLE_ARN: f"arn:aws:iam::{ACCOUNT}:role/{self.name}",
            SCHEDULE_GROUP: self.name,
            SIGNING_KEY: "a key for tests, and for tests only",
            WORKERS: json.dumps({"gpu": f"{self.name}-gpu"}),
        } | self._create()

    # The services

    @abstractmethod
    def _create(self) -> dict[str, str]:
        """Make the bucket, the queues and the rest; the settings that name the queues."""

    @abstractmethod
    def create_table(self) -> None:
        """Make a table of the cloud's name."""

    @abstractmethod
    def _connect(self, service: str) -> Any:
        """A new client of boto3."""

    @abstractmethod
    def _answer(self, call: str, request: Any) -> AWSResponse | None:
        """The answer of a service to a call; None where the client gets it over the wire."""

    @abstractmethod
    def put(self, group: str, body: str) -> None:
        """Add a message to the queue of events."""

    @abstractmethod
    def receive(self, stop: threading.Event) -> list[dict[str, Any]]:
        """The next batch of the queue of events, as records for the orchestrator; nothing once
        `stop` is set and `interrupt` has been called.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """Have whoever receives look whether it is to stop."""

    @abstractmethod
    def finish(self, records: list[dict[str, Any]], failed: set[str]) -> None:
        """Remove records from the queue of events but for those that have failed."""

    @abstractmethod
    def wait_until_taken(self) -> None:
        """Wait until the queue of events is empty, as far as it is not a turn that waits."""

    def client(self, service: str, dead: threading.Event | None = None) -> Any:
        """A client of a service, for a runtime: counted, and open to hooks. It fails as soon as
        the process that has it is `dead`.
        """
        client = self._connect(service)
        if service not in CALLS:
            return client

        def before(request: Any, event_name: str, **_: Any) -> AWSResponse | None:
            if dead is not None and dead.is_set():
                raise ConnectionError("the process of this client has been killed")
            call = f"{service}.{event_name.rpartition('.')[2]}"
            self.calls[call] += 1
            self.sent_bytes[call] += _length(request.body)
            for hook in list(self.hooks):
                hook(call, request)
            return self._invoke(request) if call == "lambda.Invoke" else self._answer(call, request)

        def after(http_response: Any, model: Any, **_: Any) -> None:
            for hook in list(self.after):
                hook(f"{service}.{model.name}", http_response)

        client.meta.events.register(f"before-send.{service}", before)
        client.meta.events.register(f"after-call.{service}", after)
        return client

    def runtime(self, **options: Any) -> AWSRuntime:
        """A runtime with these resources."""
        return AWSRuntime.from_env(self.environment, clients=self.client, **options)

    # Functions

    def _invoke(self, request: Any) -> AWSResponse:
        body = request.body
        event = json.loads(body.read() if isinstance(body, io.BytesIO) else body)
        if request.headers.get("X-Amz-Invocation-Type") in (b"Event", "Event"):
            self._running.append(event)
            self._pool.submit(self._attempt, event)
            return _response(request, 202, b"")
        assert self.orchestrator is not None
        try:
            answer = self.orchestrator(event, Context())
        except Exception as error:
            log.exception("the orchestrator failed")
            body = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return _response(
                request, 200, json.dumps(body).encode(), {"X-Amz-Function-Error": "Unhandled"}
            )
        return _response(request, 200, json.dumps(answer).encode())

    def _attempt(self, event: Any) -> None:
        try:
            assert self.worker is not None
            self.worker(event, Context(900))
        except BaseException as error:
            if event in self._running:
                self.lose(event, error)
        finally:
            if event in self._running:
                self._running.remove(event)

    def kill(self) -> None:
        """Kill the invocations of the worker that are under way, which Lambda notices."""
        running, self._running = self._running, []
        for event in running:
            self.lose(event, ConnectionError("signal: killed"))

    def lose(self, event: Any, error: BaseException) -> None:
        """Pass on that an invocation of the worker has failed, as the pipe would."""
        self.put(event["execution_id"], report_of(event, error))

    # The event source mapping

    def wait_until_idle(self) -> None:
        """Wait until no task is running and its outcome has been taken."""
        self.wait_until_ended()
        self.wait_until_taken()

    def wait_until_ended(self) -> None:
        """Wait until no invocation of the worker is under way; one that hangs is given up."""
        ends = time.monotonic() + TAKEN_WITHIN
        while self._running and time.monotonic() < ends:
            time.sleep(0.01)

    def poll(self, runtime: AWSRuntime, stop: threading.Event) -> None:
        """Hand one batch to the orchestrator, and remove what went well."""
        records = self.receive(stop)
        if not records:
            return
        failed = {record["messageId"] for record in records}
        try:
            answer = runtime.orchestrate({"Records": records}, Context())
            failed = {item["itemIdentifier"] for item in answer["batchItemFailures"]}
        finally:
            self.finish(records, failed)

    @contextmanager
    def serving(self, runtime: AWSRuntime, *, drains: bool = False) -> Iterator[AWSRuntime]:
        """Run the functions by this runtime as long as the block lasts. If it `drains`, the block
        ends after the invocations of the worker that began in it, so that it cuts none off.
        """
        stop = threading.Event()
        before = self.worker, self.orchestrator
        ours = self.worker, self.orchestrator = runtime.execute, runtime.orchestrate

        def pump() -> None:
            while not stop.is_set():
                try:
                    self.poll(runtime, stop)
                except Exception:
                    log.exception("the batch failed")

        thread = threading.Thread(target=pump, name=self._mapping)
        thread.start()
        try:
            yield runtime
        finally:
            stop.set()
            self.interrupt()
            thread.join()
            if drains:
                self.wait_until_ended()
            if (self.worker, self.orchestrator) == ours:
                self.worker, self.orchestrator = before

    def close(self) -> None:
        """Wait for invocations that are under way."""
        self._pool.shutdown(wait=True)


class EmulatedCloud(Cloud):
    """On the emulator: S3, SQS, the pipe of the timers and the schedules are its own."""

    def __init__(self, server: Server, name: str | None = None) -> None:
        self.server = server
        self.s3 = server.client("s3")
        self.sqs = server.client("sqs")
        super().__init__(name)

    def _create(self) -> dict[str, str]:
        with suppress(self.s3.exceptions.BucketAlreadyOwnedByYou):
            self.s3.create_bucket(Bucket=BUCKET)
        fifo = {"FifoQueue": "true", "VisibilityTimeout": "30"}
        throughput = {
            "DeduplicationScope": "messageGroup",
            "FifoThroughputLimit": "perMessageGroupId",
        }
        events = self._queue(f"{self.name}-events.fifo", fifo | throughput)
        entries = self._queue(f"{self.name}-dlq.fifo", fifo)
        timers = self._queue(f"{self.name}-timers", {})
        self._pipe(timers, events)
        self.server.client("scheduler").create_schedule_group(Name=self.name)
        return {
            QUEUE_URL: events,
            QUEUE_ARN: self._arn(events),
            DLQ_URL: entries,
            TIMER_QUEUE_URL: timers,
        }

    def create_table(self) -> None:
        """With the keys that the component gives it."""
        keys = ((TABLE_KEY, "HASH"), (TABLE_ORDER, "RANGE"))
        self.server.client("dynamodb").create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
        )

    def _queue(self, name: str, attributes: dict[str, str]) -> str:
        return self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def _arn(self, url: str) -> str:
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return found["Attributes"]["QueueArn"]

    def _pipe(self, timers: str, events: str) -> None:
        self.server.client("pipes").create_pipe(
            Name=self.name,
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{self.name}",
            Source=self._arn(timers),
            Target=self._arn(events),
            TargetParameters={
                "InputTemplate": '{"event": <$.body>}',
                "SqsQueueParameters": {
                    "MessageGroupId": "$.messageAttributes.executionId.stringValue",
                    "MessageDeduplicationId": "$.messageId",
                },
            },
        )

    def _connect(self, service: str) -> Any:
        return SESSION.client(
            service,
            endpoint_url=self.server.endpoint,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 2},
                connect_timeout=5,
                read_timeout=60,
                max_pool_connections=40,
                s3={"addressing_style": "path"},
                **SPARED,
            ),
        )

    def _answer(self, call: str, request: Any) -> None:
        """It comes over the wire."""

    def put(self, group: str, body: str) -> None:
        """Add a message to the queue of events."""
        self.sqs.send_message(
            QueueUrl=self.environment[QUEUE_URL],
            MessageBody=body,
            MessageGroupId=group,
            MessageDeduplicationId=uuid4().hex,
        )

    def receive(self, stop: threading.Event) -> list[dict[str, Any]]:
        """A batch, when there is one."""
        while not stop.is_set():
            answer = self.sqs.receive_message(
                QueueUrl=self.environment[QUEUE_URL],
                MaxNumberOfMessages=10,
                WaitTimeSeconds=0,
                AttributeNames=["All"],
            )
            if answer.get("Messages"):
                return [
                    {
                        "messageId": message["MessageId"],
                        "receiptHandle": message["ReceiptHandle"],
                        "body": message["Body"],
                        "attributes": message["Attributes"],
                    }
                    for message in answer["Messages"]
                ]
            stop.wait(IDLE)
        return []

    def interrupt(self) -> None:
        """It looks soon."""

    def finish(self, records: list[dict[str, Any]], failed: set[str]) -> None:
        """Delete what went well."""
        done = [record for record in records if record["messageId"] not in failed]
        if done:
            self.sqs.delete_message_batch(
                QueueUrl=self.environment[QUEUE_URL],
                Entries=[
                    {"Id": str(number), "ReceiptHandle": record["receiptHandle"]}
                    for number, record in enumerate(done)
                ],
            )

    def wait_until_taken(self) -> None:
        """Wait until the queue is empty; one turn that waits may hold this up, for a while."""
        ends = time.monotonic() + TAKEN_WITHIN
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        while threading.current_thread().name != self._mapping and time.monotonic() < ends:
            found = self.sqs.get_queue_attributes(
                QueueUrl=self.environment[QUEUE_URL], AttributeNames=names
            )
            if all(found["Attributes"][name] == "0" for name in names):
                return
            time.sleep(0.01)

    def close(self) -> None:
        """Wait for invocations that are under way, and drop the queues."""
        super().close()
        for name in (QUEUE_URL, DLQ_URL, TIMER_QUEUE_URL):
            self.sqs.delete_queue(QueueUrl=self.environment[name])
        self.server.client("pipes").delete_pipe(Name=self.name)


def _length(body: Any) -> int:
    if isinstance(body, io.BytesIO):
        return len(body.getvalue())
    return len(body or b"")


def _response(
    request: Any, status: int, body: bytes, headers: dict[str, str] | None = None
) -> AWSResponse:
    return AWSResponse(request.url, status, headers or {}, Raw(body))

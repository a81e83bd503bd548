"""AWSDispatch: sends attempts to the worker function, messages to the queue, wake-ups to the timers."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from mini_workflow.core import events, wire
from mini_workflow.core.codec import bytes_of_call
from mini_workflow.core.failure import failure_of
from mini_workflow.core.records import replace
from mini_workflow.errors import StoreError, UsageError
from mini_workflow.ports import QueuedMessage, TaskRequest
from mini_workflow.ports.queue import Wakeup
from mini_workflow.settings import (
    LIVE,
    QUEUE_URL,
    ROLE_ARN,
    SCHEDULE_DLQ_ARN,
    SCHEDULE_GROUP,
    SCHEDULE_KEY_ARN,
    TIMER_QUEUE_URL,
    WORKER_FUNCTION_NAME,
    Settings,
    is_queue,
)
from mini_workflow.stores.aws.clients import Clients, code_of, translate_errors
from mini_workflow.stores.aws.limits import MAXIMUM_DELAY, SCHEDULE_EARLY
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.sqs.call_store import CallStore, purpose_of, version_of
from mini_workflow.stores.sqs.envelopes import PAYLOADS, Envelopes, dump
from mini_workflow.stores.sqs.messages import Post, SqsMessage, deduplication_id
from mini_workflow.stores.sqs.outcomes import Outcomes
from mini_workflow.trace_context import traceparent

log = logging.getLogger("mini_workflow.runtimes.aws")

SEND_MESSAGE: Final = "arn:{partition}:scheduler:::aws-sdk:sqs:sendMessage"
"""The universal target of a schedule: the templated one cannot give a deduplication id."""

CANCELLED: Final = PAYLOADS + "cancelled/"
HEARTBEATS: Final = PAYLOADS + "heartbeats/"


class AWSDispatch:
    """Implements `Dispatch` by Lambda, SQS and EventBridge Scheduler.

    `now` returns the time in milliseconds. A wake-up within `queued` seconds is a delayed message, a
    later one a schedule.
    """

    def __init__(
        self,
        clients: Clients,
        settings: Settings,
        post: Post,
        envelopes: Envelopes,
        bucket: Bucket,
        now: Callable[[], int],
        calls: CallStore,
        queued: int = MAXIMUM_DELAY,
    ) -> None:
        self._clients = clients
        self._settings = settings
        self._post = post
        self._envelopes = envelopes
        self._bucket = bucket
        self._now = now
        self._calls = calls
        self._queued = min(queued, MAXIMUM_DELAY)

    def run(self, requests: Sequence[TaskRequest]) -> list[StoreError | None]:
        """See `Dispatch.run`."""
        return self._clients.each(self._invoke, list(requests))

    def outcomes(self, execution_id: str, attempts: Sequence[tuple[int, int]]) -> list[str]:
        """See `Dispatch.outcomes`."""
        kept = Outcomes(self._bucket, self._post)
        found = self._clients.all(lambda key: kept.find(execution_id, *key), list(attempts))
        return [message.content for message in found if message is not None]

    def cancel(self, execution_id: str, seq: int, reason: str) -> None:
        """See `Dispatch.cancel`. The worker looks for the object while it runs the task."""
        try:
            self._bucket.put(f"{CANCELLED}{execution_id}/{seq}", reason.encode())
        except StoreError as error:
            # The task runs on, and its outcome comes late.
            log.warning("[%s] task #%d could not be cancelled: %s", execution_id, seq, error)

    def post(self, messages: Sequence[QueuedMessage]) -> None:
        """See `Dispatch.post`."""
        self._post.send(SqsMessage(m.execution_id, "messages", m.body, m.key) for m in messages)

    def wakeup(self, execution_id: str, at: int, now: int) -> Wakeup:
        """See `Dispatch.wakeup`."""
        if at - now <= self._queued * 1000:
            return Wakeup(at)
        return Wakeup(at, "mw-" + sha256(f"{execution_id}:{at}".encode()).hexdigest()[:48])

    def set(self, execution_id: str, wakeup: Wakeup, now: int) -> None:
        """See `Dispatch.set`."""
        message = SqsMessage(
            execution_id, "wake", str(wakeup.at), f"wake/{execution_id}/{wakeup.at}/{now}"
        )
        if wakeup.schedule and wakeup.at - now > self._queued * 1000:
            self._schedule(wakeup, message)
        else:
            self._delay(message, min(self._queued, max(0, -(-(wakeup.at - now) // 1000))))

    def unset(self, wakeup: Wakeup) -> None:
        """See `Dispatch.unset`. A delayed message arrives all the same."""
        if not wakeup.schedule:
            return
        scheduler = self._clients.get("scheduler")
        with translate_errors(f"deleting schedule {wakeup.schedule!r}"):
            try:
                scheduler.delete_schedule(
                    Name=wakeup.schedule, GroupName=self._settings.get(SCHEDULE_GROUP)
                )
            except Exception as error:
                if code_of(error) != "ResourceNotFoundException":
                    raise

    def _invoke(self, request: TaskRequest) -> None:
        function = self._function_of(request.worker)
        if not function:
            self._refuse(request)
            return
        if is_queue(function):
            envelope = envelope_of(request, self._envelopes, self._post)
            with translate_errors(f"sending to queue {function!r}"):
                self._clients.get("sqs").send_message(QueueUrl=function, MessageBody=dump(envelope))
            return
        for target, asked in self._targets(function, request):
            envelope = envelope_of(asked, self._envelopes, self._post, version_of(target))
            with translate_errors(f"invoking function {target!r}"):
                try:
                    self._clients.get("lambda").invoke(
                        FunctionName=target, InvocationType="Event", Payload=dump(envelope).encode()
                    )
                    return
                except Exception as error:
                    gone = code_of(error) == "ResourceNotFoundException"
                    if not (gone and version_of(target)):
                        raise
            log.warning(
                "[%s] the function %s is gone: newer code runs attempt %d of task %r",
                *(request.execution_id, target, request.attempt, request.name),
            )

    def _targets(self, function: str, request: TaskRequest) -> list[tuple[str, TaskRequest]]:
        """Return the functions that may run an attempt, each with its request, the best first.

        If the worker has versions, the best is the version of the earlier attempts, with their call.
        Then comes the version of this orchestrator, with the call that it has captured, and then the
        newest version, so that the attempt runs also if the others were deleted.
        """
        own = version_of(function)
        if not own:
            return [(function, request)]
        name = function.removesuffix(f":{own}")
        targets = [(function, request), (f"{name}:{LIVE}", request)]
        earlier = self._calls.find(request) if request.attempt > 1 else None
        if earlier is not None and earlier[0] != own:
            targets.insert(0, (f"{name}:{earlier[0]}", earlier[1]))
        return targets

    def _function_of(self, worker: str) -> str:
        """Return the function of a worker; empty if there is none of that name."""
        if not worker:
            return self._settings.get(WORKER_FUNCTION_NAME)
        return self._settings.workers().get(worker, "")

    def _refuse(self, request: TaskRequest) -> None:
        """Fail a task whose worker does not exist, without further attempts."""
        known = (
            ", ".join(map(repr, sorted(self._settings.workers())))
            or "no other than the default one"
        )
        failure = failure_of(
            UsageError(
                f"task {request.name!r} is for worker {request.worker!r}, which this engine does not "
                f"have; it has {known}. Add it to the option workers of the component, and deploy"
            )
        )
        final = replace(failure, final=True)
        message = events.TaskFailed(self._now(), request.seq, request.attempt, final)
        key = "/".join(map(str, ("refused", *request.key)))
        self._post.send([SqsMessage(request.execution_id, "messages", wire.encode(message), key)])

    def _delay(self, message: SqsMessage, seconds: int) -> None:
        url = self._settings.get(TIMER_QUEUE_URL)
        with translate_errors(f"sending to queue {url!r}"):
            self._clients.get("sqs").send_message(
                QueueUrl=url,
                MessageBody=self._post.write(message),
                DelaySeconds=seconds,
                MessageAttributes={
                    "executionId": {"DataType": "String", "StringValue": message.execution_id}
                },
            )

    def _schedule(self, wakeup: Wakeup, message: SqsMessage) -> None:
        early = min(SCHEDULE_EARLY, self._queued // 2)
        at = datetime.fromtimestamp(wakeup.at / 1000, UTC) - timedelta(seconds=early)
        role = self._settings.get(ROLE_ARN)
        target: dict[str, Any] = {
            # The partition is another one in China and in the Regions of governments.
            "Arn": SEND_MESSAGE.format(partition=role.split(":")[1]),
            "RoleArn": role,
            "Input": json.dumps(
                {
                    "QueueUrl": self._settings.get(QUEUE_URL),
                    "MessageBody": self._post.write(message),
                    "MessageGroupId": message.execution_id,
                    "MessageDeduplicationId": deduplication_id(message.key),
                }
            ),
        }
        dead_letters = self._settings.get(SCHEDULE_DLQ_ARN)
        if dead_letters:
            target["DeadLetterConfig"] = {"Arn": dead_letters}
        key = self._settings.get(SCHEDULE_KEY_ARN)
        encrypted = {"KmsKeyArn": key} if key else {}
        with translate_errors(f"creating schedule {wakeup.schedule!r}"):
            try:
                self._clients.get("scheduler").create_schedule(
                    **encrypted,
                    Name=wakeup.schedule,
                    GroupName=self._settings.get(SCHEDULE_GROUP),
                    ScheduleExpression=f"at({at:%Y-%m-%dT%H:%M:%S})",
                    ScheduleExpressionTimezone="UTC",
                    FlexibleTimeWindow={"Mode": "OFF"},
                    ActionAfterCompletion="DELETE",
                    Target=target,
                )
            except Exception as error:
                if code_of(error) != "ConflictException":  # it is set already
                    raise


def envelope_of(
    request: TaskRequest, envelopes: Envelopes, post: Post, version: str = ""
) -> dict[str, Any]:
    """Return the envelope with which the worker, or a version of it, is invoked."""
    content = {
        "name": request.name,
        "payload": b64encode(bytes_of_call(request.payload)).decode(),
        "timeout": request.timeout,
        "is_async": request.is_async,
        "heartbeat_timeout": request.heartbeat_timeout,
        "heartbeat": request.heartbeat,
        "traceparent": traceparent(*request.key, request.headers),
        "version": version or None,
        "headers": request.headers,
        # Only interceptors, which set headers, ask for it.
        "scheduled_at": request.scheduled_at if request.headers else None,
    }
    plain = {name: value for name, value in content.items() if value not in (None, False)}
    return envelopes.seal(
        dump(plain),
        purpose_of(*request.key),
        execution_id=request.execution_id,
        seq=request.seq,
        attempt=request.attempt,
        lost=post.certificate(*request.key),
    )

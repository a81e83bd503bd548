"""A cloud whose services are in this process: the time is real, and nothing crosses a wire.

The services are those of services.py, which test_services.py compares with the emulator. Nothing is
polled: what waits for a message is woken when there is one to take.
"""

from __future__ import annotations

import threading
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.config import Config

from mini_workflow.settings import DLQ_URL, QUEUE_ARN, QUEUE_URL, TIMER_QUEUE_URL
from mini_workflow.stores.system_clock import SystemClock
from tests.aws.cloud import SESSION, TAKEN_WITHIN, UNSEEN, Cloud
from tests.aws.services import Message, Services

BATCH = 10
"""Messages that are handed out at a time."""

VISIBILITY = 30_000
"""Milliseconds after which a message that was not removed is handed out again."""


class InProcessCloud(Cloud):
    """S3, SQS, the pipe of the timers and the schedules, for any number of threads."""

    def __init__(self, name: str | None = None) -> None:
        self.services = Services(SystemClock())
        self._changed = threading.Condition()
        self._in_hand: set[str] = set()
        self._hidden: dict[str, int] = {}
        super().__init__(name)

    def _create(self) -> dict[str, str]:
        queues = "http://127.0.0.1/0"
        return {
            QUEUE_URL: f"{queues}/events.fifo",
            QUEUE_ARN: "arn:aws:sqs:us-east-1:0:events.fifo",
            DLQ_URL: f"{queues}/dlq.fifo",
            TIMER_QUEUE_URL: f"{queues}/timers",
        }

    def create_table(self) -> None:
        """There is one."""

    def _connect(self, service: str) -> Any:
        return SESSION.client(
            service,
            endpoint_url="http://127.0.0.1",
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 2},
                s3={"addressing_style": "path"},
                **UNSEEN,
            ),
        )

    def _answer(self, call: str, request: Any) -> AWSResponse:
        with self._changed:
            answer = self.services.answer(call, request)
            if call == "sqs.ChangeMessageVisibilityBatch":
                for receipt, seconds in self.services.visibility.items():
                    self._hidden[receipt] = self.services.clock.now() + seconds * 1000
                self.services.visibility.clear()
            self._changed.notify_all()
        return answer

    def put(self, group: str, body: str) -> None:
        """Add a message to the queue of events."""
        with self._changed:
            self.services.put(group, body)
            self._changed.notify_all()

    def receive(self, stop: threading.Event) -> list[dict[str, Any]]:
        """A batch, as soon as there is one."""
        with self._changed:
            while not stop.is_set():
                batch = self._visible()[:BATCH]
                if batch:
                    return [self._hand_out(message) for message in batch]
                self._changed.wait(self._until_next())
        return []

    def _visible(self) -> list[Message]:
        """What could be handed out now: no message goes before another one of its group."""
        self.services.pass_on()
        now, held, found = self.services.clock.now(), set[str](), list[Message]()
        for message in self.services.queue:
            if self._hidden.get(receipt_of(message), 0) > now:
                held.add(message.group)
            if message.group not in held:
                found.append(message)
        return found

    def _hand_out(self, message: Message) -> dict[str, Any]:
        message.received += 1
        self._in_hand.add(receipt_of(message))
        self._hidden[receipt_of(message)] = self.services.clock.now() + VISIBILITY
        return message.record()

    def _until_next(self) -> float | None:
        """Seconds until something becomes visible by itself."""
        times = [*self._hidden.values(), self.services.next()]
        due = min((time for time in times if time is not None), default=None)
        return None if due is None else max(0, due - self.services.clock.now()) / 1000

    def interrupt(self) -> None:
        """Wake whoever receives."""
        with self._changed:
            self._changed.notify_all()

    def finish(self, records: list[dict[str, Any]], failed: set[str]) -> None:
        """Remove what went well; the rest is handed out again when its time comes."""
        done = {record["messageId"] for record in records} - failed
        with self._changed:
            self.services.queue = [m for m in self.services.queue if m.id not in done]
            for record in records:
                self._in_hand.discard(record["receiptHandle"])
                if record["messageId"] in done:
                    self._hidden.pop(record["receiptHandle"], None)
            self._changed.notify_all()

    def wait_until_taken(self) -> None:
        """Wait until there is nothing to hand out and nothing in hand."""
        if threading.current_thread().name != self._mapping:
            with self._changed:
                self._changed.wait_for(
                    lambda: not self._in_hand and not self._visible(), TAKEN_WITHIN
                )


def receipt_of(message: Message) -> str:
    """What its holder calls it by."""
    handle: str = message.record()["receiptHandle"]
    return handle

"""PullWorker: runs the attempts of one worker in this process, which takes them from a queue."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from mini_workflow.core.records import replace
from mini_workflow.errors import MiniWorkflowError, StoreError, UsageError
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.runtimes.aws.time_left import TimeLeft
from mini_workflow.runtimes.aws.worker import HandedBack, Worker
from mini_workflow.settings import is_queue
from mini_workflow.stores.aws.clients import translate_errors
from mini_workflow.stores.aws.limits import LONGEST_IN_HAND
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.sqs.envelopes import PAYLOADS, dump, parse
from mini_workflow.threads import start_thread

log = logging.getLogger("mini_workflow.runtimes.aws")

BEGUN: Final = PAYLOADS + "begun/"
"""The beginning of the keys of the marks that say who has begun an attempt."""

HELD: Final = 60
"""Seconds for which a message is kept from others at a time. Our own bound: another worker gets the attempt
of a dead one so much later."""

RENEWED: Final = 15.0
"""Seconds between two extensions of that, and between two writes of an attempt's mark. Our own bound."""

DEAD_AFTER: Final = 50.0
"""Seconds without a new mark after which its worker counts as dead: three renewals may be missed. The message
is held meanwhile. Our own bound."""

POLL: Final = 20
"""Seconds that a call waits for a message (SQS API Reference, ReceiveMessage: 20 at most)."""

ENDING: Final = 5.0
"""Seconds that it may take to hand an attempt back. Our own bound."""

PAUSE: Final = 5.0
"""Seconds between two tries to receive, when that fails. Our own bound."""


class PullWorker:
    """Runs attempts of the worker `name`, `concurrency` at a time, each on a thread that takes the
    next message when it has finished one: all other attempts stay in the queue.

    `wait` waits for so many seconds, or until the worker stops, and returns whether it stops. Raises
    UsageError if the worker has no queue, or `concurrency` is not 1 to 1,000.
    """

    def __init__(
        self,
        parts: Container,
        name: str,
        concurrency: int,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        url = parts.settings.workers().get(name)
        if url is None or not is_queue(url):
            known = ", ".join(
                repr(each) for each, at in sorted(parts.settings.workers().items()) if is_queue(at)
            )
            raise UsageError(
                f"worker {name!r} has no queue to take tasks from; those that have: {known or 'none'}. "
                f'Give the component workers={{{name!r}: {{"pull": true}}}}, and deploy'
            )
        if type(concurrency) is not int or not 1 <= concurrency <= 1_000:
            raise UsageError(
                f"worker {name!r} runs 1 to 1,000 tasks at a time, a whole number, not {concurrency!r}"
            )
        self._parts = parts
        self._url = url
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait
        self._worker = Worker(parts, threads=concurrency)
        self._lock = threading.Condition()
        self._in_hand: dict[str, _Claim | None] = {}
        """The claims, by the handles of their messages; None before an attempt is claimed."""
        self._ended = threading.Event()
        self._concurrency = concurrency
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to take tasks."""
        serve = [(f"mini-workflow-pull-{n}", self._serve) for n in range(self._concurrency)]
        for name, does in (("mini-workflow-pull-keeper", self._keep), *serve):
            thread = threading.Thread(target=does, name=name, daemon=True)
            start_thread(thread)
            self._threads.append(thread)

    def close(self, grace: float) -> None:
        """Take no message any more, tell the running attempts to end, wait up to `grace` seconds for them,
        and hand back the others: another worker goes on with them, as the same attempts.
        """
        self._stopped.set()
        self._worker.hand_back(grace)
        with self._lock:
            # Threads that wait for a message are not waited for.
            self._lock.wait_for(lambda: not self._in_hand, ENDING)
        self._ended.set()
        for keeper in self._threads[:1]:
            keeper.join(RENEWED)
        self._worker.close()
        self._parts.interceptors.flush()

    # Messages

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                self.take()
            except Exception as error:
                log.warning("no task can be received; trying again in %g s: %s", PAUSE, error)
                self._wait(PAUSE)

    def take(self) -> bool:
        """Take a message, and run its attempt. Answers whether there was a message.

        Raises StoreUnavailable if the queue cannot be reached.
        """
        with translate_errors(f"receiving from queue {self._url!r}"):
            answer = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=1,
                WaitTimeSeconds=POLL,
                VisibilityTimeout=HELD,
            )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        for message in messages:
            handle = message["ReceiptHandle"]
            with self._lock:
                self._in_hand[handle] = None
            try:
                again = self._do(message["Body"], handle)
                if again is None:
                    self._remove(handle)
                else:
                    self._keep_from_others(handle, again)
            except (MiniWorkflowError, ValueError) as error:
                # The message comes again, and in the end reaches the dead letters.
                log.error("a message of queue %r cannot be handled: %s", self._url, error)
            finally:
                with self._lock:
                    self._in_hand.pop(handle, None)
                    self._lock.notify_all()
        return bool(messages)

    def _do(self, body: str, handle: str) -> int | None:
        """Run an attempt; answers after how many seconds its message is to come again, if it is not
        done with.
        """
        if self._stopped.is_set():
            return 0
        event = parse(body)
        request, _ = self._worker.request_of(event)
        claim = _Claim(self._parts.bucket, request.key)
        if not claim.take():
            # Another worker has begun it, and lives if the mark changes.
            if self._wait(DEAD_AFTER):
                return 0
            if claim.has_changed():
                return HELD
            self._parts.post.report_lost(*request.key, "the worker that had begun it has died")
            return None
        with self._lock:
            self._in_hand[handle] = claim
        ends = self._parts.clock.now() + LONGEST_IN_HAND * 1_000
        lasts = SimpleNamespace(get_remaining_time_in_millis=lambda: ends - self._parts.clock.now())
        left = TimeLeft(lasts, self._parts.clock)
        if self._worker.is_given_up(request, left):
            return None
        try:
            self._worker.run(replace(request, heartbeat=claim.heartbeat or request.heartbeat), left)
        except HandedBack as back:
            claim.release(back.heartbeat)
            return 0
        return None

    def _remove(self, handle: str) -> None:
        try:
            with translate_errors(f"removing from queue {self._url!r}"):
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=handle)
        except StoreError as error:
            log.warning("a finished message could not be removed, and comes again: %s", error)

    def _keep_from_others(self, handle: str, seconds: int) -> None:
        try:
            with translate_errors(f"changing the visibility of a message in queue {self._url!r}"):
                self._sqs.change_message_visibility(
                    QueueUrl=self._url, ReceiptHandle=handle, VisibilityTimeout=seconds
                )
        except StoreError as error:
            log.warning("%s", error)

    def _keep(self) -> None:
        while not self._ended.wait(RENEWED):
            self.renew()

    def renew(self) -> None:
        """Keep the messages in hand from others, and write the marks anew that say that this worker lives."""
        with self._lock:
            in_hand = list(self._in_hand.items())
        for handle, claim in in_hand:
            self._keep_from_others(handle, HELD)
            if claim is not None:
                claim.renew()

    @property
    def _sqs(self) -> Any:
        return self._parts.clients.get("sqs")


class _Claim:
    """The mark in the bucket that says which worker has begun an attempt. A message may arrive twice: only
    one worker begins the attempt, until it hands the attempt back.
    """

    def __init__(self, bucket: Bucket, key: tuple[str, int, int]) -> None:
        self._bucket = bucket
        self._key = BEGUN + "/".join(map(str, key))
        self._lock = threading.Lock()
        self._etag: str | None = None
        self.heartbeat: str | None = None
        """The details of the last heartbeat, from the worker that has handed the attempt back."""

    def take(self) -> bool:
        """Take the attempt. Answers whether it is this worker's now. Raises StoreUnavailable."""
        self._etag = self._bucket.create(self._key, _mark())
        if self._etag is not None:
            return True
        found = self._bucket.get(self._key)
        if found is None:
            return False
        self._etag, mark = found.etag, parse(found.body.decode())
        if not mark.get("released"):
            return False
        taken = self._bucket.replace(self._key, _mark(), found.etag)
        if taken is None:
            return False
        self._etag, self.heartbeat = taken, mark.get("heartbeat")
        return True

    def has_changed(self) -> bool:
        """Return whether the mark has changed since `take` has read it."""
        return self._etag is None or self._bucket.changed(self._key, self._etag)

    def renew(self) -> None:
        """Write the mark anew."""
        self._write(_mark())

    def release(self, heartbeat: str | None) -> None:
        """Let another worker begin the attempt, with the details of its heartbeat."""
        self._write(_mark(released=True, heartbeat=heartbeat))

    def _write(self, mark: bytes) -> None:
        with self._lock:
            if self._etag is None:
                return
            try:
                self._etag = self._bucket.replace(self._key, mark, self._etag)
            except StoreError as error:
                log.warning("%s", error)


def _mark(**more: Any) -> bytes:
    return dump({"by": secrets.token_hex(8), **more}).encode()

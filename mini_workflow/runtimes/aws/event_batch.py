"""EventBatch: takes batches of the queue of events, by execution, and finds the records to deliver again."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mini_workflow.core.events import TaskFailed
from mini_workflow.core.validation import check_id
from mini_workflow.core.wire import decode_message
from mini_workflow.engine.delivery import OfAnotherVersion, QueueDelivery
from mini_workflow.engine.orchestrator import Orchestrator
from mini_workflow.errors import (
    InvalidIdentifier,
    SchemaTooNew,
    SignatureInvalid,
    StoreError,
    WireError,
    WorkerLost,
)
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.runtimes.aws.hold import Hold, change_visibility
from mini_workflow.runtimes.aws.telemetry import Metrics
from mini_workflow.runtimes.aws.time_left import TimeLeft
from mini_workflow.runtimes.aws.versions import failed_records
from mini_workflow.settings import DLQ_URL, QUEUE_URL, WORKER_FUNCTION_NAME
from mini_workflow.stores.aws.clients import translate_errors
from mini_workflow.stores.sqs.call_store import version_of
from mini_workflow.stores.sqs.messages import Lost, SqsMessage, deduplication_id

log = logging.getLogger("mini_workflow.runtimes.aws")

HAND_OVER_WITHIN: Final = 2_000
"""Milliseconds before the end of this process by which another version has to answer. Our own bound."""

LONGEST_WAIT: Final = 300
"""The longest time, in seconds, after which a failed message comes again. Our own bound."""


class EventBatch:
    """Takes batches. A batch may mix groups; one that fails does not touch the others."""

    def __init__(self, parts: Container, orchestrator: Orchestrator, metrics: Metrics) -> None:
        self._parts = parts
        self._orchestrator = orchestrator
        self._metrics = metrics

    def take(self, records: Sequence[dict[str, Any]], time_left: TimeLeft) -> dict[str, Any]:
        """Return the answer of the function: the records that are to be delivered again."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for record in records:
            groups.setdefault(_group_of(record), []).append(record)
        with self._metrics.batch(len(records)):
            hold = Hold(
                *(self._parts.clients, self._queue_url, groups),
                at_once=self._is_risky(groups),
                threaded=self._parts.threaded,
            )
            try:
                failed = self._take(groups, time_left, hold)
            finally:
                hold.end()
            self._metrics.failed(len(failed))
            if not failed:
                for name, members in groups.items():
                    self._parts.backlog.note(name, members)
            # Sooner than after the visibility timeout.
            waits = [(record, _wait(_deliveries(record))) for record in failed]
            change_visibility(self._parts.clients, self._queue_url, waits)
            return {"batchItemFailures": [{"itemIdentifier": r["messageId"]} for r in failed]}

    def _is_risky(self, groups: dict[str, list[dict[str, Any]]]) -> bool:
        """Return whether the end of this process would cost other executions time, or is not unlikely: the
        batch has several executions, or one that is not in memory, or messages that came before.
        """
        if len(groups) != 1:
            return True
        [(name, records)] = groups.items()
        return max(map(_deliveries, records)) > 1 or not self._orchestrator.has_live(name)

    def _take(
        self, groups: dict[str, list[dict[str, Any]]], time_left: TimeLeft, hold: Hold
    ) -> list[dict[str, Any]]:
        """Return the records that are to be delivered again."""
        failed: list[dict[str, Any]] = []
        arrivals: list[QueueDelivery] = []
        for name, members in groups.items():
            arrival, left = self._sort(name, members)
            failed += left
            if arrival is not None:
                arrivals.append(arrival)
        problems = self._orchestrator.take(arrivals, time_left, hold.wait, hold.single_out)
        failed += self._hand_over(problems, groups, failed, time_left)
        for name, problem in problems.items():
            if isinstance(problem, OfAnotherVersion):
                continue
            # All records of the execution, also those that could not be read.
            failed = [r for r in failed if _group_of(r) != name] + groups[name]
        return failed

    def _hand_over(
        self,
        problems: Mapping[str, Exception],
        groups: dict[str, list[dict[str, Any]]],
        failed: Sequence[dict[str, Any]],
        time_left: TimeLeft,
    ) -> list[dict[str, Any]]:
        """Hand executions over to the versions that they are with. Returns the records to deliver again,
        beside those that have `failed` already.
        """
        found: dict[str, list[dict[str, Any]]] = {}
        for name, problem in problems.items():
            if isinstance(problem, OfAnotherVersion):
                read = [record for record in groups[name] if record not in failed]
                found.setdefault(problem.version, []).extend(read)
        again: list[dict[str, Any]] = []
        for version, records in found.items():
            event = {"Records": records, "time_left": time_left() - HAND_OVER_WITHIN}
            try:
                answer = self._parts.versions.hand_over(version, event)
                again += failed_records(answer, records)
            except (StoreError, WireError) as error:
                log.warning(
                    "messages for version %s of the orchestrator could not be handed over, and will come "
                    "again: %s",
                    *(version, error),
                )
                again += records
        return again

    def _queue_url(self) -> str:
        return self._parts.settings.get(QUEUE_URL)

    def _sort(
        self, name: str, records: Sequence[dict[str, Any]]
    ) -> tuple[QueueDelivery | None, list[dict[str, Any]]]:
        """Return the delivery for one execution, or None, and the records that have to come again."""
        arrival = QueueDelivery(name, delivery=max(map(_deliveries, records)))
        ids: list[str] = []
        left: list[dict[str, Any]] = []
        for index, record in enumerate(records):
            try:
                self._read(name, record, arrival)
                ids.append(record["messageId"][:8])
            except (StoreError, SchemaTooNew) as error:
                # Also a message of a newer version, which will be deployed here in a moment.
                log.warning(
                    "[%s] message %s cannot be read now, and will come again: %s",
                    *(name, record["messageId"], error),
                )
                left = list(records[index:])
                break
            except (WireError, SignatureInvalid, InvalidIdentifier) as error:
                self._metrics.malformed()
                if not self._set_aside(name, record, error):
                    left = list(records[index:])
                    break
        arrival.ids = tuple(ids)
        return (arrival if ids else None), left

    def _read(self, name: str, record: dict[str, Any], arrival: QueueDelivery) -> None:
        message = self._parts.post.read(record["body"])
        if message.execution_id != name:
            raise WireError(
                f"a message to execution {message.execution_id!r} in the group {name!r}"
            )
        check_id(name)
        if isinstance(message, Lost):
            arrival.messages += self._lost(message)
        elif message.kind == "wake":
            arrival.woken.append(int(message.content))
        elif message.kind == "resume":
            arrival.resume = True
        else:
            arrival.messages += _messages_of(message)

    def _lost(self, news: Lost) -> list[Any]:
        """Return the messages about an attempt whose invocation has failed: its outcome if that was kept, or
        else its failure. Raises StoreUnavailable.
        """
        kept = self._parts.outcomes.find(news.execution_id, news.seq, news.attempt)
        if kept is not None:
            return _messages_of(kept)
        error = WorkerLost(
            f"attempt {news.attempt} of task #{news.seq} is lost: the worker function ended without "
            f"an answer{f' ({news.why})' if news.why else ''}"
        )
        if news.request and version_of(self._parts.settings.get(WORKER_FUNCTION_NAME)):
            # The worker itself could not keep the call for another attempt.
            self._parts.calls.keep(news.request)
        now = self._parts.clock.now()
        failure = self._parts.codec.encode_failure(error)
        return [TaskFailed(now, news.seq, news.attempt, failure)]

    def _set_aside(self, name: str, record: dict[str, Any], error: Exception) -> bool:
        """Move an unreadable message to the dead letters. Answers whether it is there.

        Left in the queue, it would keep back all messages behind it in its group.
        """
        log.error(
            "[%s] message %s cannot be read, and goes to the dead letters: %s: %s",
            name,
            record["messageId"],
            type(error).__name__,
            error,
        )
        reason = f"{type(error).__name__}: {error}"
        try:
            url = self._parts.settings.get(DLQ_URL)
            with translate_errors(f"sending to queue {url!r}"):
                self._parts.clients.get("sqs").send_message(
                    QueueUrl=url,
                    MessageBody=record["body"] or " ",
                    MessageGroupId=name,
                    MessageDeduplicationId=deduplication_id(record["messageId"]),
                    MessageAttributes={
                        "reason": {
                            "DataType": "String",
                            "StringValue": reason.encode("unicode_escape").decode()[:1000],
                        }
                    },
                )
        except StoreError as problem:
            log.error(
                "[%s] message %s cannot be moved to the dead letters, and will come again: %s",
                *(name, record["messageId"], problem),
            )
            return False
        return True


def _messages_of(message: SqsMessage) -> list[Any]:
    return [decode_message(line) for line in message.content.split("\n") if line]


def _group_of(record: dict[str, Any]) -> str:
    return str(record.get("attributes", {}).get("MessageGroupId", ""))


def _deliveries(record: dict[str, Any]) -> int:
    return int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))


def _wait(deliveries: int) -> int:
    longest = min(LONGEST_WAIT, 2 ** min(deliveries - 1, 10))
    return round(random.uniform(longest / 2, longest)) if deliveries > 1 else 0

"""List the limits of AWS that the backend depends on, each with its source, and our own bounds beside them.

Sources: the developer guides and quota pages of SQS, Lambda, EventBridge Scheduler and S3.
"""

from __future__ import annotations

from typing import Final

MAXIMUM_DELAY: Final = 900
"""Seconds that SQS delays a message at most (SQS: DelaySeconds, 0 to 900)."""

WAITS_FOR_WORKER: Final = 6 * 3_600
"""Seconds that an asynchronous invocation may wait for its function (Lambda:
MaximumEventAgeInSeconds, 21,600 at most, which is what the component sets)."""

LONGEST_INVOCATION: Final = 900
"""Seconds that an invocation takes at most (Lambda: function timeout)."""

LONGEST_IN_HAND: Final = 12 * 3_600 - 600
"""Seconds that an attempt from a queue takes at most (SQS: a message is kept from others for 12 hours
from its receipt). Ten minutes less, to send what it has come to."""

WAITS_IN_QUEUE: Final = 14 * 86_400
"""Seconds that an attempt waits in the queue of a worker at most (SQS: MessageRetentionPeriod)."""

REPORT_MARGIN: Final = 900
"""Seconds that the report of an attempt may be under way, while the worker sends it again and the queue
is behind. Our own bound."""

BATCH_ENTRIES: Final = 10
"""Messages in one call (SQS: SendMessageBatch)."""

BATCH_BYTES: Final = 1_000_000
"""Bytes of the messages of one call: SQS allows 1,048,576 with the attributes."""

CLAIM_OVER: Final = 240 * 1024
"""Bytes of a message's content above which it goes to the bucket, and the message only names it.
SQS and asynchronous invocations carry 1 MiB; but what becomes of a failed invocation is a message
that has the whole one inside, and passes a pipe. Our own bound."""

SCHEDULE_EARLY: Final = 90
"""Seconds that a schedule is set before its time: EventBridge Scheduler fires within 60 seconds
after `at()`, and what is left is waited for in the delay queue. Our own margin on top."""

SEAL_OVER: Final = 64 * 1024
"""Bytes of events that a head may carry before they are sealed into a segment: what one turn
writes is bounded by this and by what the turn itself adds. Our own bound."""

HEADER_BYTES: Final = 4096
"""Bytes read of an execution's object by those who want its first line only. Our own bound."""

PARALLEL: Final = 32
"""Calls of AWS that are made at the same time. Our own bound; the connection pools are as large."""

HEARTBEAT_INTERVAL: Final = 10.0
"""Seconds between two looks of a running task at the bucket: to keep the details of its heartbeat,
and to learn that nobody waits for it any more. Our own bound."""

BACKLOG_OVER: Final = 20_000
"""Messages that wait in the queue of events from which on signals are refused to executions that are behind.
SQS looks for messages that it may hand out among the first 120,000 (SQS: FIFO queues). Our own bound, far
below: it takes a while until all who send have heard of it."""

BACKLOG_AGE: Final = 30
"""Seconds that messages have waited that tell of an execution that is behind. Our own bound."""

BACKLOG_LASTS: Final = 60
"""Seconds for which an execution counts as behind, unless a batch tells it again. Our own bound."""

BACKLOG_LOOK: Final = 1
"""Seconds between two looks of a process at how much waits, or at whether an execution is behind. Our own
bound."""

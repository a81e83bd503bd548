"""Limits of AWS that the backend depends on, each with its source, and our own bounds beside them.

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
"""Seconds that an attempt from a queue takes at most (SQS: a received message is invisible to others for
12 hours at most). Ten minutes less, to send its outcome."""

WAITS_IN_QUEUE: Final = 14 * 86_400
"""Seconds that an attempt waits in the queue of a worker at most (SQS: MessageRetentionPeriod)."""

REPORT_MARGIN: Final = 900
"""Seconds that the report of an attempt may take, while the worker sends it again and the queue is
behind. Our own bound."""

BATCH_ENTRIES: Final = 10
"""Messages in one call (SQS: SendMessageBatch)."""

BATCH_BYTES: Final = 1_000_000
"""Bytes of the messages of one call: SQS allows 1,048,576 with the attributes."""

CLAIM_OVER: Final = 240 * 1024
"""Bytes of a message's content above which the content goes to the bucket, and the message only names it.
SQS and asynchronous invocations carry 1 MiB; but the report of a failed invocation contains the whole
message, and passes a pipe. Our own bound."""

SCHEDULE_EARLY: Final = 90
"""Seconds that a schedule is set before its time: EventBridge Scheduler fires within 60 seconds
after `at()`, and the delay queue waits for the rest. Our own margin on top."""

SEAL_OVER: Final = 64 * 1024
"""Bytes of events in an execution's object above which they are sealed into a segment. This bounds what a
turn writes, besides its own events. Our own bound."""

HEADER_BYTES: Final = 4096
"""Bytes of an execution's object that are read where its first line is enough. Our own bound."""

PARALLEL: Final = 32
"""Calls of AWS that are made at the same time. Our own bound; the connection pools are as large."""

HEARTBEAT_INTERVAL: Final = 10.0
"""Seconds between two calls of a running task to the bucket, to store the details of its heartbeat and to
see whether the task is cancelled. Our own bound."""

BACKLOG_OVER: Final = 20_000
"""Messages in the queue of events from which on executions that are behind get no more signals. SQS looks
for messages to hand out among the first 120,000 (SQS: FIFO queues). Our own bound is far below, since it
takes a while until all senders know."""

BACKLOG_AGE: Final = 30
"""Seconds that the messages of a batch have waited if their execution is behind. Our own bound."""

BACKLOG_LASTS: Final = 60
"""Seconds for which an execution counts as behind after a batch that shows it. Our own bound."""

BACKLOG_LOOK: Final = 1
"""Seconds between two reads of the queue's length by a process, or of the mark of an execution that is
behind. Our own bound."""

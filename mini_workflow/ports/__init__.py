"""What the engine asks of a backend: the ports, in `store`, `queue` and `runner`.

Those of a queued backend are in `queue` alone, since only an orchestrator needs them.
"""

from mini_workflow.ports.runner import (
    NamedWorkerRunner,
    Report,
    TaskOutcome,
    TaskRequest,
    TaskRunner,
)
from mini_workflow.ports.store import (
    CLOSED,
    ORDERS,
    STATUSES,
    Agenda,
    Backend,
    Clock,
    Commit,
    Extent,
    Head,
    Leases,
    Mailbox,
    MailboxEntry,
    Order,
    Page,
    Query,
    QueuedMessage,
    Reader,
    Status,
    Store,
    Stored,
    reopened,
)

__all__ = [
    "CLOSED",
    "ORDERS",
    "STATUSES",
    "Agenda",
    "Backend",
    "Clock",
    "Commit",
    "Extent",
    "Head",
    "Leases",
    "Mailbox",
    "MailboxEntry",
    "NamedWorkerRunner",
    "Order",
    "Page",
    "Query",
    "QueuedMessage",
    "Reader",
    "Report",
    "Status",
    "Store",
    "Stored",
    "TaskOutcome",
    "TaskRequest",
    "TaskRunner",
    "reopened",
]

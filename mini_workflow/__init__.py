"""Durable workflows as a library: plain ``async`` functions that survive crashes."""

from typing import TYPE_CHECKING

from mini_workflow.errors import (
    ChildFailed,
    ChunkTooLarge,
    ClosureNotSerializable,
    CodecMismatch,
    DeterminismError,
    DuplicateWorkflow,
    ExecutionAlreadyExists,
    ExecutionBlocked,
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionError,
    ExecutionFailed,
    ExecutionNotClosed,
    ExecutionNotFound,
    ExecutionPaused,
    ExecutionTerminated,
    ExecutionTimeout,
    HistoryTooLong,
    InvalidArguments,
    InvalidIdentifier,
    LeaseLost,
    MailboxFull,
    MiniWorkflowError,
    NonDeterminismError,
    NotAllowedInWorkflow,
    PayloadNotReadable,
    PromiseNotOpen,
    PromiseTimeout,
    PythonVersionMismatch,
    RuntimeClosed,
    SchemaTooNew,
    SerializationError,
    SettingMissing,
    SignatureInvalid,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreTooNew,
    StoreUnavailable,
    StreamFull,
    TaskCancelled,
    TaskError,
    TaskTimeout,
    TurnTimeout,
    UnknownHandler,
    UnknownWorkflow,
    UpdateNotFound,
    UsageError,
    ValueNotSerializable,
    ValueTooLarge,
    WireError,
    WorkerLost,
    WorkflowDeadlock,
)
from mini_workflow.printable import protect_logs
from mini_workflow.task import CurrentTask, current_task
from mini_workflow.workflow import Workflow, current_workflow, workflow

if TYPE_CHECKING:
    from mini_workflow.context import Context
    from mini_workflow.core.children import Child
    from mini_workflow.core.handlers import ANY
    from mini_workflow.core.info import ExecutionInfo
    from mini_workflow.core.limit import Limit
    from mini_workflow.core.promises import Promise
    from mini_workflow.core.retry import RetryPolicy
    from mini_workflow.engine.aio import AsyncClient, AsyncExecution, AsyncUpdateHandle
    from mini_workflow.engine.description import Description
    from mini_workflow.engine.execution import Execution
    from mini_workflow.engine.limits import KeyCount, LimitDescription, LimitHandle, SlotHolder
    from mini_workflow.engine.recording import Recording
    from mini_workflow.engine.schedules import Schedule, ScheduleDescription, ScheduledStart
    from mini_workflow.engine.streams import Chunk, ExecutionStream
    from mini_workflow.engine.timeline import Entry, Timeline
    from mini_workflow.engine.updates import UpdateHandle
    from mini_workflow.interceptors import (
        ClientCall,
        Committed,
        Interceptor,
        SentCall,
        WorkflowCall,
    )
    from mini_workflow.runtimes.aws import AWSRuntime
    from mini_workflow.runtimes.local import LocalRuntime
    from mini_workflow.runtimes.local_client import LocalClient
    from mini_workflow.runtimes.postgres import PostgresClient, PostgresRuntime
    from mini_workflow.task_logs import TaskLogs

__all__ = [
    "ANY",
    "AWSRuntime",
    "AsyncClient",
    "AsyncExecution",
    "AsyncUpdateHandle",
    "Child",
    "ChildFailed",
    "Chunk",
    "ChunkTooLarge",
    "ClientCall",
    "ClosureNotSerializable",
    "CodecMismatch",
    "Committed",
    "Context",
    "CurrentTask",
    "Description",
    "DeterminismError",
    "DuplicateWorkflow",
    "Entry",
    "Execution",
    "ExecutionAlreadyExists",
    "ExecutionBlocked",
    "ExecutionCancelled",
    "ExecutionClosed",
    "ExecutionError",
    "ExecutionFailed",
    "ExecutionInfo",
    "ExecutionNotClosed",
    "ExecutionNotFound",
    "ExecutionPaused",
    "ExecutionStream",
    "ExecutionTerminated",
    "ExecutionTimeout",
    "HistoryTooLong",
    "Interceptor",
    "InvalidArguments",
    "InvalidIdentifier",
    "KeyCount",
    "LeaseLost",
    "Limit",
    "LimitDescription",
    "LimitHandle",
    "LocalClient",
    "LocalRuntime",
    "MailboxFull",
    "MiniWorkflowError",
    "NonDeterminismError",
    "NotAllowedInWorkflow",
    "PayloadNotReadable",
    "PostgresClient",
    "PostgresRuntime",
    "Promise",
    "PromiseNotOpen",
    "PromiseTimeout",
    "PythonVersionMismatch",
    "Recording",
    "RetryPolicy",
    "RuntimeClosed",
    "Schedule",
    "ScheduleDescription",
    "ScheduledStart",
    "SchemaTooNew",
    "SentCall",
    "SerializationError",
    "SettingMissing",
    "SignatureInvalid",
    "SlotHolder",
    "StoreCorrupt",
    "StoreError",
    "StoreFull",
    "StoreRefused",
    "StoreTooNew",
    "StoreUnavailable",
    "StreamFull",
    "TaskCancelled",
    "TaskError",
    "TaskLogs",
    "TaskTimeout",
    "Timeline",
    "TurnTimeout",
    "UnknownHandler",
    "UnknownWorkflow",
    "UpdateHandle",
    "UpdateNotFound",
    "UsageError",
    "ValueNotSerializable",
    "ValueTooLarge",
    "WireError",
    "WorkerLost",
    "Workflow",
    "WorkflowCall",
    "WorkflowDeadlock",
    "current_task",
    "current_workflow",
    "workflow",
]

protect_logs()

_LATER = {
    "ANY": "mini_workflow.core.handlers",
    "AWSRuntime": "mini_workflow.runtimes.aws",
    "AsyncClient": "mini_workflow.engine.aio",
    "AsyncExecution": "mini_workflow.engine.aio",
    "AsyncUpdateHandle": "mini_workflow.engine.aio",
    "Child": "mini_workflow.core.children",
    "Chunk": "mini_workflow.engine.streams",
    "ClientCall": "mini_workflow.interceptors",
    "Committed": "mini_workflow.interceptors",
    "Context": "mini_workflow.context",
    "Description": "mini_workflow.engine.description",
    "Entry": "mini_workflow.engine.timeline",
    "Execution": "mini_workflow.engine.execution",
    "ExecutionInfo": "mini_workflow.core.info",
    "ExecutionStream": "mini_workflow.engine.streams",
    "Interceptor": "mini_workflow.interceptors",
    "KeyCount": "mini_workflow.engine.limits",
    "Limit": "mini_workflow.core.limit",
    "LimitDescription": "mini_workflow.engine.limits",
    "LimitHandle": "mini_workflow.engine.limits",
    "LocalClient": "mini_workflow.runtimes.local_client",
    "LocalRuntime": "mini_workflow.runtimes.local",
    "PostgresClient": "mini_workflow.runtimes.postgres",
    "PostgresRuntime": "mini_workflow.runtimes.postgres",
    "Promise": "mini_workflow.core.promises",
    "Recording": "mini_workflow.engine.recording",
    "RetryPolicy": "mini_workflow.core.retry",
    "Schedule": "mini_workflow.engine.schedules",
    "ScheduleDescription": "mini_workflow.engine.schedules",
    "ScheduledStart": "mini_workflow.engine.schedules",
    "SentCall": "mini_workflow.interceptors",
    "SlotHolder": "mini_workflow.engine.limits",
    "TaskLogs": "mini_workflow.task_logs",
    "Timeline": "mini_workflow.engine.timeline",
    "UpdateHandle": "mini_workflow.engine.updates",
    "WorkflowCall": "mini_workflow.interceptors",
}


def __getattr__(name: str) -> object:
    """Import a name when it is first asked for: a program needs one runtime, and few of the rest."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        value = globals()[name] = getattr(import_module(_LATER[name]), name)
    except StoreUnavailable as error:
        return _Missing(error)
    return value


class _Missing:
    """Stands for a runtime whose extra is not installed: it says so when it is used."""

    def __init__(self, error: StoreUnavailable) -> None:
        self._error = error

    def __call__(self, *args: object, **kwargs: object) -> object:
        raise self._error

"""Define every error that the library raises. They form one tree.

MiniWorkflowError
├── UsageError                      the caller's code or arguments are wrong; nothing was changed
│   ├── UnknownWorkflow             no workflow of that name is registered in this process
│   ├── DuplicateWorkflow           two different workflows claim one name
│   ├── InvalidArguments            (also a TypeError) the arguments do not fit the workflow
│   ├── InvalidIdentifier           (also a ValueError) an id or a name has forbidden characters or length
│   ├── UnknownHandler              (also a LookupError) no query or update of that name is handled
│   ├── PromiseNotOpen              the token is wrong, or its promise was completed before
│   ├── StreamFull                  a stream has as many chunks or bytes as it may have
│   └── RuntimeClosed               the runtime was closed before the call
├── SettingMissing                  a setting is needed and absent
├── SerializationError              a value or a closure cannot cross a boundary
│   ├── ValueNotSerializable        names the path of the value
│   │   ├── ValueTooLarge           is larger than value_limit
│   │   └── ChunkTooLarge           is larger than one chunk of a stream may be
│   ├── ClosureNotSerializable      names the captured variable
│   ├── PayloadNotReadable          stored bytes cannot be turned back into a value
│   │   └── CodecMismatch           they need a payload codec or key that this process does not have
│   ├── PythonVersionMismatch       a closure was captured under another Python minor version
│   └── SignatureInvalid            a payload was not signed with this key, or was changed since
├── WireError                       a stored event cannot be read
│   └── SchemaTooNew                it was written by a newer version of this library
├── DeterminismError                workflow code made a call that a replay cannot repeat
│   ├── NonDeterminismError         the code no longer matches the recorded history
│   ├── NotAllowedInWorkflow        a workflow made a call that belongs in a task
│   ├── WorkflowDeadlock            no durable operation is open: the workflow would wait for ever
│   ├── HistoryTooLong              the history has reached its limit
│   └── TurnTimeout                 one turn ran longer than its limit
├── StoreError                      the store refused or failed
│   ├── StoreUnavailable            the store cannot be opened or reached
│   ├── StoreCorrupt                the file is not a store, or is damaged
│   ├── StoreTooNew                 a newer version of this library wrote the store
│   ├── StoreFull                   no space is left
│   ├── StoreRefused                the store cannot keep a value: too large, or of a wrong kind
│   └── LeaseLost                   another process has taken the executions over
├── ExecutionError                  about one execution; has its `execution_id`
│   ├── ExecutionNotFound
│   ├── UpdateNotFound              (also a LookupError) the execution has accepted no update of that id
│   ├── ExecutionAlreadyExists      the id is taken by another workflow or other arguments
│   ├── ExecutionClosed             the execution has closed; the request came too late
│   ├── ExecutionNotClosed          the execution cannot be run again before it has closed
│   ├── MailboxFull                 the execution has too many messages waiting: send again later
│   ├── ExecutionFailed             the workflow failed with an exception that cannot be rebuilt here
│   ├── ChildFailed                 a child execution failed, or was cancelled or terminated
│   ├── ExecutionCancelled
│   ├── ExecutionTerminated
│   ├── ExecutionTimeout            (also a TimeoutError) the execution had not ended by its deadline
│   └── ExecutionBlocked            the execution cannot go on: fix the cause, then call resume()
│       └── ExecutionPaused         an operator has paused it
├── PromiseTimeout                  (also a TimeoutError) a promise was not completed in time
└── TaskError                       a task failed with an exception that cannot be rebuilt here
    ├── TaskCancelled               raised in a task by its heartbeat(): the task was cancelled
    ├── TaskTimeout                 (also a TimeoutError) an attempt ran, or was silent, for too long
    └── WorkerLost                  the worker died while it ran the attempt
"""


class MiniWorkflowError(Exception):
    """Base of every error raised by this library."""


class UsageError(MiniWorkflowError):
    """The caller's code or arguments are wrong; nothing was changed."""


class UnknownWorkflow(UsageError):
    """No workflow of that name is registered in this process."""


class DuplicateWorkflow(UsageError):
    """Two different workflows claim one name."""


class InvalidArguments(UsageError, TypeError):
    """The arguments do not fit the signature of the workflow, or of the handler of a query or update."""


class InvalidIdentifier(UsageError, ValueError):
    """An execution id or a name has forbidden characters or a forbidden length."""


class UnknownHandler(UsageError, LookupError):
    """The workflow handles no query or update of that name; the message lists the names that it handles."""


class PromiseNotOpen(UsageError):
    """The token is wrong, or its promise was completed, failed or cancelled before."""


class StreamFull(UsageError):
    """A stream has as many chunks or bytes as it may have; the chunk was not written."""


class RuntimeClosed(UsageError):
    """The runtime was closed before the call."""


class SettingMissing(MiniWorkflowError):
    """A setting is needed and absent, or has a wrong value; the message names its environment variable."""


class SerializationError(MiniWorkflowError):
    """A value or a closure cannot cross a boundary."""


class ValueNotSerializable(SerializationError, TypeError):
    """A value cannot be encoded; `path` is its place, for example ``result["lock"][0]``."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class ValueTooLarge(ValueNotSerializable):
    """A value takes more bytes than a single value may: see `value_limit` of the runtimes."""


class ChunkTooLarge(ValueNotSerializable):
    """A chunk of a stream takes more bytes than a chunk may."""


class ClosureNotSerializable(SerializationError, TypeError):
    """A closure cannot be captured; `variable` is the name of the captured variable that cannot leave the
    process, or an empty string.
    """

    def __init__(self, message: str, *, variable: str = "") -> None:
        super().__init__(message)
        self.variable = variable


class PayloadNotReadable(SerializationError):
    """Stored bytes cannot be turned back into a value (a class was renamed, a module is missing)."""


class CodecMismatch(PayloadNotReadable):
    """A payload was encoded by a payload codec, or with a key, that this process does not have."""


class PythonVersionMismatch(SerializationError):
    """A closure is bytecode that was captured under another Python minor version, and must not be run."""


class SignatureInvalid(SerializationError):
    """A payload was not signed with this key for this attempt, or was changed since."""


class WireError(MiniWorkflowError):
    """A stored event cannot be read."""


class SchemaTooNew(WireError):
    """An event was written by a newer version of this library."""


class DeterminismError(MiniWorkflowError):
    """Workflow code made a call that a replay cannot repeat, or cannot go on."""


class NonDeterminismError(DeterminismError):
    """The code no longer matches the recorded history; the message shows both sides and the line.

    The fields have both sides in words: `recorded` is the operation in the history at the event number
    `event` (0 if there is none), and `asked` is the one that the code asks for there. An empty side has
    nothing more. `line` is the user's line, as ``file:line in function``, if it is known.
    """

    def __init__(
        self,
        message: str = "",
        *,
        recorded: str = "",
        asked: str = "",
        event: int = 0,
        line: str = "",
    ) -> None:
        super().__init__(message)
        self.recorded = recorded
        self.asked = asked
        self.event = event
        self.line = line


class NotAllowedInWorkflow(DeterminismError, RuntimeError):
    """A workflow made a call that belongs in a task; the message names the remedy."""


class WorkflowDeadlock(DeterminismError):
    """The workflow waits, and no durable operation or message could ever wake it."""


class HistoryTooLong(DeterminismError):
    """The history has reached its limit: use ``ctx.continue_as_new()``, or raise the limit."""


class TurnTimeout(DeterminismError):
    """One turn of workflow code ran longer than its limit."""


class StoreError(MiniWorkflowError):
    """The store refused or failed; nothing of the request was written."""


class StoreUnavailable(StoreError):
    """The store cannot be opened or reached (permissions, a missing directory, a lock)."""


class StoreCorrupt(StoreError):
    """The file is not a store of this library, or it is damaged."""


class StoreTooNew(StoreError):
    """A newer version of this library wrote the store."""


class StoreFull(StoreError):
    """No space is left for the store."""


class StoreRefused(StoreError):
    """The store cannot keep a value: it is too large, or of a wrong kind."""


class LeaseLost(StoreError):
    """Another process has taken these executions over; this writer is stale and may not commit."""


class ExecutionError(MiniWorkflowError):
    """About one execution; `execution_id` names it."""

    def __init__(self, message: str, *, execution_id: str = "") -> None:
        super().__init__(message)
        self.execution_id = execution_id


class ExecutionNotFound(ExecutionError, LookupError):
    """There is no execution of that id."""


class UpdateNotFound(ExecutionError, LookupError):
    """The execution has accepted no update of that id."""


class ExecutionAlreadyExists(ExecutionError):
    """The id is taken by an execution of another workflow or with other arguments."""


class ExecutionClosed(ExecutionError):
    """The execution has closed; the request came too late."""


class ExecutionNotClosed(ExecutionError):
    """The execution has not closed, and cannot be run again before."""


class MailboxFull(ExecutionError):
    """The execution gets messages faster than it takes them. The message was not sent: try again later."""


class ExecutionFailed(ExecutionError):
    """The workflow failed with an exception that cannot be rebuilt here.

    `type_name` is the original exception's qualified name, `remote_traceback` its traceback text.
    """

    def __init__(
        self,
        message: str,
        *,
        execution_id: str = "",
        type_name: str = "",
        remote_traceback: str = "",
    ) -> None:
        super().__init__(message, execution_id=execution_id)
        self.type_name = type_name
        self.remote_traceback = remote_traceback


class ChildFailed(ExecutionError):
    """A child execution failed, was cancelled or terminated, or could not be started.

    `execution_id` is the child's id; ``__cause__`` is the exception with which it has ended.
    """


class ExecutionCancelled(ExecutionError):
    """The execution was cancelled."""


class ExecutionTerminated(ExecutionError):
    """The execution was terminated."""


class ExecutionTimeout(ExecutionError, TimeoutError):
    """The execution had not ended within the timeout that it was started with."""


class ExecutionBlocked(ExecutionError):
    """The execution cannot go on. Fix the cause, then call `resume()` to continue."""


class ExecutionPaused(ExecutionBlocked):
    """An operator has paused the execution. Call `resume()` to continue."""


class PromiseTimeout(MiniWorkflowError, TimeoutError):
    """The promise was not completed within its timeout, or a heartbeat did not come in time."""


class TaskError(MiniWorkflowError):
    """A task failed with an exception that cannot be rebuilt here.

    `type_name` is the original exception's qualified name, `remote_traceback` its traceback text.
    """

    def __init__(self, message: str, *, type_name: str = "", remote_traceback: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
        self.remote_traceback = remote_traceback


class TaskCancelled(TaskError):
    """Raised in a task by ``current_task().heartbeat()`` when the result of the attempt is not needed any
    more.

    Clean up and let the error pass. The message has the reason, if it is known.
    """


class TaskTimeout(TaskError, TimeoutError):
    """An attempt of a task ran longer than its timeout, or its heartbeat is missing."""


class WorkerLost(TaskError):
    """The worker died, or the engine stopped, while it ran the attempt."""

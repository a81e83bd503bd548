"""Every error the library raises, drawn as one tree. Standard library only.

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
│   │   └── CodecMismatch           they need a payload codec, or a key, that this process has not
│   ├── PythonVersionMismatch       a closure made under another Python minor version
│   └── SignatureInvalid            a payload that was not signed with this key, or was changed since
├── WireError                       a stored event cannot be read
│   └── SchemaTooNew                it was written by a newer version of this library
├── DeterminismError                workflow code did what replay cannot repeat
│   ├── NonDeterminismError         the code no longer matches the recorded history
│   ├── NotAllowedInWorkflow        a call that a workflow must make in a task instead
│   ├── WorkflowDeadlock            nothing durable is pending: the workflow would wait for ever
│   ├── HistoryTooLong              the history has reached its limit
│   └── TurnTimeout                 one turn ran longer than its limit
├── StoreError                      the store refused or failed
│   ├── StoreUnavailable            it cannot be opened or reached
│   ├── StoreCorrupt                the file is not a store, or is damaged
│   ├── StoreTooNew                 a newer version of this library wrote it
│   ├── StoreFull                   no space is left
│   ├── StoreRefused                it cannot keep a value: too large for it, or of a wrong kind
│   └── LeaseLost                   another process has taken the executions over
├── ExecutionError                  about one execution; carries its `execution_id`
│   ├── ExecutionNotFound
│   ├── UpdateNotFound              (also a LookupError) it has accepted no update of that id
│   ├── ExecutionAlreadyExists      the id is taken by another workflow or other arguments
│   ├── ExecutionClosed             the execution has closed; the request came too late
│   ├── ExecutionNotClosed          it cannot be run again before it has closed
│   ├── MailboxFull                 it gets messages faster than it takes them: send again later
│   ├── ExecutionFailed             failed with an exception that cannot be rebuilt here
│   ├── ChildFailed                 a child execution came to a bad end; its cause is the reason
│   ├── ExecutionCancelled
│   ├── ExecutionTerminated
│   ├── ExecutionTimeout            (also a TimeoutError) it had not ended by its deadline
│   └── ExecutionBlocked            it cannot go on until the cause is fixed and it is resumed
│       └── ExecutionPaused         an operator has paused it
├── PromiseTimeout                  (also a TimeoutError) a promise was not completed in time
└── TaskError                       a task failed with an exception that cannot be rebuilt here
    ├── TaskCancelled               raised in a task by its heartbeat(): nobody waits for it any more
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
    """The arguments do not fit the workflow's signature."""


class InvalidIdentifier(UsageError, ValueError):
    """An execution id or a name has forbidden characters or a forbidden length."""


class UnknownHandler(UsageError, LookupError):
    """The workflow handles no query or update of that name; the message lists those it does."""


class PromiseNotOpen(UsageError):
    """The token is wrong, or its promise was completed, failed or given up before."""


class StreamFull(UsageError):
    """A stream has as many chunks or bytes as it may have; the chunk was not written."""


class RuntimeClosed(UsageError):
    """The runtime was closed before the call."""


class SettingMissing(MiniWorkflowError):
    """A setting is needed and absent; the message names its environment variable."""


class SerializationError(MiniWorkflowError):
    """A value or a closure cannot cross a boundary."""


class ValueNotSerializable(SerializationError, TypeError):
    """A value cannot be encoded; `path` says where it sits, for example ``result["lock"][0]``."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class ValueTooLarge(ValueNotSerializable):
    """A value takes more bytes than a single value may: see `value_limit` of the runtimes."""


class ChunkTooLarge(ValueNotSerializable):
    """A chunk of a stream takes more bytes than one may."""


class ClosureNotSerializable(SerializationError, TypeError):
    """A closure cannot be captured; `variable` is the captured name at fault, or an empty string."""

    def __init__(self, message: str, *, variable: str = "") -> None:
        super().__init__(message)
        self.variable = variable


class PayloadNotReadable(SerializationError):
    """Stored bytes cannot be turned back into a value (a class was renamed, a module is missing)."""


class CodecMismatch(PayloadNotReadable):
    """A payload was encoded by a payload codec, or with a key, that this process does not have."""


class PythonVersionMismatch(SerializationError):
    """A closure is bytecode: it was made under another Python minor version and must not be run."""


class SignatureInvalid(SerializationError):
    """A payload was not signed with this key for this attempt, or was changed since."""


class WireError(MiniWorkflowError):
    """A stored event cannot be read."""


class SchemaTooNew(WireError):
    """An event was written by a newer version of this library."""


class DeterminismError(MiniWorkflowError):
    """Workflow code did what replay cannot repeat."""


class NonDeterminismError(DeterminismError):
    """The code no longer matches the recorded history; the message shows both sides and the line.

    So do the fields: `recorded` is what the history has at the event of the number `event` (0 if it is none),
    and `asked` what the code asks for there, each empty for nothing more. `line` is the user's, as
    ``file:line in function``, if it is known.
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
    """A call that a workflow must not make itself; the message names what to use instead."""


class WorkflowDeadlock(DeterminismError):
    """The workflow waits for something that nothing durable will ever bring about."""


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
    """The store cannot keep what it was given: too large for it, or of a wrong kind."""


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
    """The execution has not closed: it cannot be run again before it has."""


class MailboxFull(ExecutionError):
    """The execution gets messages faster than it takes them: nothing was sent; try again later."""


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

    `execution_id` is the child's; ``__cause__`` is the exception that tells why.
    """


class ExecutionCancelled(ExecutionError):
    """The execution was cancelled."""


class ExecutionTerminated(ExecutionError):
    """The execution was terminated."""


class ExecutionTimeout(ExecutionError, TimeoutError):
    """The execution had not ended within the timeout that it was started with."""


class ExecutionBlocked(ExecutionError):
    """The execution cannot go on until the cause is fixed; then `resume()` continues it."""


class ExecutionPaused(ExecutionBlocked):
    """An operator has paused the execution; `resume()` continues it."""


class PromiseTimeout(MiniWorkflowError, TimeoutError):
    """Nobody has completed the promise within its timeout, or no heartbeat came in time."""


class TaskError(MiniWorkflowError):
    """A task failed with an exception that cannot be rebuilt here.

    `type_name` is the original exception's qualified name, `remote_traceback` its traceback text.
    """

    def __init__(self, message: str, *, type_name: str = "", remote_traceback: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
        self.remote_traceback = remote_traceback


class TaskCancelled(TaskError):
    """Raised in a task, by ``current_task().heartbeat()``: nobody waits for the attempt any more.

    Let it pass, after cleaning up; the message says why, where that is known.
    """


class TaskTimeout(TaskError, TimeoutError):
    """An attempt of a task ran longer than its timeout, or its heartbeat is missing."""


class WorkerLost(TaskError):
    """The worker died, or the engine stopped, while it ran the attempt."""

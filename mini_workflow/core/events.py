"""Define the events of a history: immutable, named in the past tense.

A history has two kinds of events. *Incoming* events arrive from outside and are delivered to the
workflow one at a time; each has `at`, its time in milliseconds since the epoch. *Recorded* events are
the decisions of the workflow's code while an incoming event is delivered. They follow it in the
history, in the order in which the code made them.

`seq` numbers the operations of an execution (such as tasks and timers) from 1, in the order of their start.
"""

from __future__ import annotations

from typing import Any, Final

from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import fact

BEHAVIOUR: Final = 1
"""The behaviour that new runs are recorded with. From 1 on, an asynchronous generator without references is
closed in the next pass of the loop, as asyncio does it; with 0, at the end of the run."""


@fact
class ExecutionStarted:
    """The first event of every run. `arguments` encodes ``[[positional...], {keyword...}]``.

    Origin: `parent` is ``{"id": ..., "seq": ...}`` for the child of another execution. With ``"notify"``,
    the name of a signal, the execution is detached, and the other one receives that signal when it has
    closed. `forked_from` is ``{"id": ..., "event": ...}`` for a fork with that many events of another
    execution; a fork is no child, whatever `parent` its code sees.

    Runs: the numbers of operations continue behind `first_seq`, so that they are unique over all runs.
    `origin` is the fingerprint of the arguments of the first run, in the runs that follow it. `began_with`
    are the arguments of the first run, if this run has others; a restart begins with them. `children`,
    `updates`, `signals` and `askers` are handed over by the run before: see the module `continuation`;
    `askers` are the ids of the asks by other executions that wait for the result: see ResultAsked.
    `cancelled` is the id of the request to cancel that the run before has taken, by which a repeated one is
    recognized. `cancel` is the reason of a request that came after the end of the run before and is for
    this run. `rerun` is the number of the last run that somebody asked for by a retry or restart; 0 for none.
    `unwaited` is the number of the runs right before that have continued as new without waiting for anything.

    Properties: the tokens of the run's promises are made from `key`; older histories have none. `behaviour`
    is the version of this library's choices that a replay has to repeat: see BEHAVIOUR. The run begins
    with `tags`. `headers` go along with the execution: see the module `headers`. `worker` names the worker
    that runs all tasks of the execution and of its children, whatever they name; empty leaves it to them.

    Timing: the code begins `delay` milliseconds later, or at the time `start_at`, with a TimerFired of
    number BEGIN. It has to end within `timeout` milliseconds from then, or by `deadline`, which the run
    before hands over; otherwise a TimerFired of number DEADLINE ends it. `retry` is the policy, as plain
    JSON, by which another run follows a failed one: this run is number `attempt`, and `failure` is that of
    the run before. `limit` says, as in TaskScheduled, which slot the execution needs before its code begins.
    With ``"held"``, the generation of the run that was granted the slot, it already has the slot.
    """

    at: int
    workflow: str
    arguments: Payload
    seed: int
    python: str = ""
    run: int = 1
    parent: dict[str, Any] | None = None
    first_seq: int = 0
    origin: str = ""
    children: list[dict[str, Any]] | None = None
    updates: list[dict[str, Any]] | None = None
    signals: list[str] | None = None
    cancelled: str = ""
    cancel: str | None = None
    key: str = ""
    behaviour: int = 0
    began_with: Payload | None = None
    tags: dict[str, str] | None = None
    delay: int | None = None
    start_at: int | None = None
    timeout: int | None = None
    deadline: int | None = None
    retry: dict[str, Any] | None = None
    attempt: int = 1
    failure: Failure | None = None
    worker: str = ""
    forked_from: dict[str, Any] | None = None
    headers: dict[str, str] | None = None
    askers: list[str] | None = None
    rerun: int = 0
    limit: dict[str, Any] | None = None
    unwaited: int = 0


@fact
class ExecutionReset:
    """The run begins with `kept` events of another run, and continues from there.

    `how` is "retry" or "restart", or "fork" if the other run is one of another execution: then its open
    children are started again. `run` is the number of this run, and `id` is the id of the request.
    `highest` is the highest number of an operation in the other run; the numbers of this run continue
    behind it. `attempts` has, for each task that is open at the cut, the number of the attempt that it
    makes now; earlier attempts do not count any more. `running` are the tasks whose attempt is still being
    made. `timer` is the number of a timer that waits once more, until `fire_at` (milliseconds since the
    epoch); 0 for none. `asked_by` is the caller's name, if it was given. `asks` are the numbers of the asks
    that are not answered and are sent once more, each with the number of the run in which it is asked anew,
    or 0 if it is sent as before.
    """

    at: int
    how: str
    run: int
    kept: int
    highest: int
    id: str = ""
    attempts: dict[str, int] | None = None
    running: list[int] | None = None
    timer: int = 0
    fire_at: int = 0
    asked_by: str = ""
    asks: dict[str, int] | None = None


@fact
class TaskCompleted:
    """An attempt returned. It began at the time `begun` (milliseconds since the epoch; 0 if that is not
    known), and ran on the worker `ran_on`: see the module `worker_name`.
    """

    at: int
    seq: int
    attempt: int
    result: Payload
    begun: int = 0
    ran_on: str = ""


@fact
class TaskFailed:
    """An attempt failed. In a history it is the last attempt of its task.

    `heartbeat` encodes the details of its last heartbeat, if it had one with details. `begun` and `ran_on`
    are as in TaskCompleted; a lost attempt has neither.
    """

    at: int
    seq: int
    attempt: int
    failure: Failure
    heartbeat: Payload | None = None
    begun: int = 0
    ran_on: str = ""


@fact
class TaskRetryScheduled:
    """An attempt failed, and attempt number `attempt` is made at `retry_at` (milliseconds since the epoch).

    `heartbeat`, which the next attempts may read, and `begun` and `ran_on` of the failed attempt are as in
    TaskFailed.
    """

    at: int
    seq: int
    attempt: int
    retry_at: int
    failure: Failure
    heartbeat: Payload | None = None
    begun: int = 0
    ran_on: str = ""


@fact
class TaskRetryStarted:
    """The wait before attempt number `attempt` is over; the attempt is dispatched."""

    at: int
    seq: int
    attempt: int


@fact
class TaskReleased:
    """A runtime was closed before the attempt had ended; the attempt is dispatched again.

    `heartbeat` is as in TaskFailed, for the attempt to continue from.
    """

    at: int
    seq: int
    attempt: int
    heartbeat: Payload | None = None


@fact
class TimerFired:
    """A timer fired. BEGIN and DEADLINE are the numbers of the timers of the execution itself. The timer
    of a promise ends it without a value: its timeout has passed, or a heartbeat is missing.
    """

    at: int
    seq: int


@fact
class ClockSetBack:
    """The clock was set back to `at`, by `by` milliseconds; 0 if that is not known. Open timers and waits
    for a retry that began later than `at` end by as much earlier, or, if that is too little or not known,
    as if they began at `at`.
    """

    at: int
    by: int = 0


@fact
class SignalReceived:
    """A signal arrived. Its `id` is the same in every copy of the message; empty means that there is one
    copy. `headers` came with it, beside its value. `asked_by` is the caller's name, if it was given.
    `first_run` is the number of the run that recorded it first and handed it on; 0 in that run itself.
    """

    at: int
    name: str
    value: Payload
    id: str = ""
    headers: dict[str, str] | None = None
    asked_by: str = ""
    first_run: int = 0


@fact
class SignalUnhandled:
    """A signal that arrived in the turn in which the execution closed. The fields are those of
    SignalReceived.
    """

    at: int
    name: str
    value: Payload
    id: str = ""
    headers: dict[str, str] | None = None
    asked_by: str = ""
    first_run: int = 0


@fact
class UpdateAccepted:
    """An update was accepted by its validator. `arguments` are as in ExecutionStarted, `headers` and
    `asked_by` as in SignalReceived. `asker` is the execution that waits for the answer, if there is one;
    then `id` is the id of its ask.
    """

    at: int
    id: str
    name: str
    arguments: Payload
    headers: dict[str, str] | None = None
    asked_by: str = ""
    asker: str = ""


@fact
class UpdateRefused:
    """An update was refused by its validator. Only refusals of callers in other processes are recorded,
    which read the answer in the history; other refusals leave no event.
    """

    at: int
    id: str
    failure: Failure


@fact
class CancelRequested:
    """Somebody outside asked the execution to cancel itself. Its `id` is the same in every copy of
    the message; empty means that there is one copy. `asked_by` is the caller's name, if it was given.
    """

    at: int
    reason: str = ""
    id: str = ""
    asked_by: str = ""


@fact
class PromiseCompleted:
    """A promise was completed from outside. `secret` is checked on arrival and not recorded. `asked_by` is
    the caller's name, if it was given.
    """

    at: int
    seq: int
    value: Payload
    secret: str = ""
    asked_by: str = ""


@fact
class PromiseFailed:
    """A promise was failed from outside. `secret` is checked on arrival and not recorded. `asked_by` is
    the caller's name, if it was given.
    """

    at: int
    seq: int
    failure: Failure
    secret: str = ""
    asked_by: str = ""


@fact
class ChildCompleted:
    """A child execution returned."""

    at: int
    seq: int
    result: Payload


@fact
class ChildFailed:
    """A child execution failed, was cancelled or terminated, or could not be started."""

    at: int
    seq: int
    failure: Failure


@fact
class ResultAsked:
    """Another execution asked for the result, and gets it when this one has closed. `id` is the id of its
    ask, which begins with its own id: see `Asked`.
    """

    at: int
    id: str


@fact
class AskAnswered:
    """An ask to another execution was answered. `id` is the id of the ask; it is checked on arrival and
    not recorded.
    """

    at: int
    seq: int
    result: Payload
    id: str = ""


@fact
class AskFailed:
    """An ask to another execution failed, was refused, or its target does not exist. `id` is as in
    AskAnswered.
    """

    at: int
    seq: int
    failure: Failure
    id: str = ""


@fact
class SlotsGranted:
    """A limit granted slots to the run with the name `sender`. `granted` has a list for each place: the
    key, the priority, and the number of slots granted there in all.
    """

    at: int
    limit: str
    sender: str
    granted: list[list[Any]]


@fact
class ExecutionTerminated:
    """The execution was ended from outside without running any of its code. `asked_by` is the caller's
    name, if it was given.
    """

    at: int
    reason: str = ""
    asked_by: str = ""


@fact
class TaskScheduled:
    """The workflow started a task. `retry` is the policy as plain JSON, `timeout` milliseconds.

    `heartbeat_timeout` are the milliseconds that an attempt may be silent. `refused` counts the calls
    since the event before that could not be captured, so that the code got an error instead of a task; a
    replay must not take such a call for this one. `call` is the fingerprint of the called function and its
    values; without a name before its ``#``, the function has the name of the task. Older histories have
    no fingerprints. `worker` names the worker that is to run the task; empty is the default one. `begun`
    is the time of its start, if the event before is much older. `undoes` is the number of the task that
    this one takes back; 0 for none. `part_of` is the number of the first task of its ``ctx.map``. That
    first task has in `map` the name of the map, the number of its items, and the number of tasks that may
    be open at a time (``{"name": ..., "items": ..., "concurrency": ...}``). `limit` says which slot each
    attempt needs: the name of a limit, and a key and a priority if they are given.
    """

    seq: int
    name: str
    retry: dict[str, Any] | None = None
    timeout: int | None = None
    refused: int = 0
    heartbeat_timeout: int | None = None
    call: str = ""
    worker: str = ""
    begun: int = 0
    undoes: int = 0
    part_of: int = 0
    map: dict[str, Any] | None = None
    limit: dict[str, Any] | None = None


@fact
class InlineTaskCompleted:
    """A task ran inside the turn and returned. `refused` and `call` are as in TaskScheduled."""

    seq: int
    name: str
    result: Payload
    refused: int = 0
    call: str = ""


@fact
class InlineTaskFailed:
    """A task ran inside the turn and raised. `refused` and `call` are as in TaskScheduled."""

    seq: int
    name: str
    failure: Failure
    refused: int = 0
    call: str = ""


@fact
class TaskCancelled:
    """The workflow cancelled a task. An outcome that still arrives is recorded and ignored."""

    seq: int
    reason: str = ""


@fact
class TimerStarted:
    """The workflow started a timer that fires at `fire_at` (milliseconds since the epoch).

    `wait` is its duration in milliseconds; None if the time of the clock is meant.
    """

    seq: int
    fire_at: int
    wait: int | None = None


@fact
class TimerCancelled:
    """The workflow cancelled a timer before it fired."""

    seq: int


@fact
class PromiseCreated:
    """The workflow created a promise, to be completed from outside within `timeout` milliseconds, with a
    heartbeat at least every `heartbeat_timeout` milliseconds. None is for no limit.
    """

    seq: int
    name: str = ""
    timeout: int | None = None
    heartbeat_timeout: int | None = None


@fact
class ChildStarted:
    """The workflow started a child execution. `arguments` and `tags` are as in ExecutionStarted. The child
    has these `headers`, or those of this execution with None. It needs the slot of `limit`, or the slot
    that its workflow declares with None.
    """

    seq: int
    name: str
    id: str
    arguments: Payload
    on_parent_close: str = "terminate"
    tags: dict[str, str] | None = None
    headers: dict[str, str] | None = None
    limit: dict[str, Any] | None = None


@fact
class ChildCancelled:
    """The workflow asked a child to cancel itself, and stopped waiting for it."""

    seq: int
    reason: str = ""


@fact
class StartSent:
    """The workflow started a detached execution. `arguments`, `tags` and the options are as in
    ExecutionStarted, `headers` and `limit` as in ChildStarted.

    With `notify`, this execution gets a signal of that name when the other one has closed.
    """

    seq: int
    name: str
    id: str
    arguments: Payload
    delay: int | None = None
    start_at: int | None = None
    timeout: int | None = None
    retry: dict[str, Any] | None = None
    notify: str = ""
    tags: dict[str, str] | None = None
    headers: dict[str, str] | None = None
    limit: dict[str, Any] | None = None


@fact
class SignalSent:
    """The workflow sent a signal to another execution. `headers` are as in SignalReceived."""

    seq: int
    target: str
    name: str
    value: Payload
    headers: dict[str, str] | None = None


@fact
class AskSent:
    """The workflow sent an ask to another execution, and waits for the answer. `kind` is "result",
    "update", "query", or "signal" for a signal whose receipt is to be confirmed. `value` is the value of a
    signal, otherwise the arguments as in ExecutionStarted. `headers` are as in SignalReceived.
    """

    seq: int
    target: str
    kind: str
    name: str
    value: Payload
    headers: dict[str, str] | None = None


@fact
class CancelSent:
    """The workflow asked another execution to cancel itself, or terminated it (`terminates`)."""

    seq: int
    target: str
    reason: str = ""
    terminates: bool = False


@fact
class SlotsSent:
    """The workflow of a limit granted slots to an execution: see SlotsGranted."""

    seq: int
    target: str
    limit: str
    sender: str
    granted: list[list[Any]]


@fact
class CompletionSent:
    """The workflow completed the promise number `promise` of another execution, whose token has that
    `secret`: with `failure` if there is one, otherwise with `value`.
    """

    seq: int
    target: str
    promise: int
    secret: str
    value: Payload
    failure: Failure | None = None


@fact
class UpdateCompleted:
    """The handler of an update returned."""

    id: str
    result: Payload


@fact
class UpdateFailed:
    """The handler of an update raised, or had not finished when the workflow ended."""

    id: str
    failure: Failure


@fact
class PatchMarked:
    """The code asked for a patch, and took the new path."""

    name: str


@fact
class TagsSet:
    """The workflow changed tags of its execution: set those with a value, removed those with None."""

    tags: dict[str, str | None]


@fact
class MessagesUnhandled:
    """The workflow ended without receiving some messages: `signals` has the names and numbers of signals."""

    signals: dict[str, int]


@fact
class ContinuedAsNew:
    """The run ends; the next one begins with these arguments and an empty history.

    With a `failure` the run has failed and is tried again: the code of the next run, which has the same
    arguments, begins `delay` milliseconds later.
    """

    arguments: Payload
    failure: Failure | None = None
    delay: int | None = None


@fact
class ExecutionCompleted:
    """The workflow function returned."""

    result: Payload


@fact
class ExecutionFailed:
    """An exception escaped the workflow function."""

    failure: Failure


@fact
class ExecutionCancelled:
    """A cancellation escaped the workflow function."""

    reason: str = ""


Incoming = (
    ExecutionStarted
    | ExecutionReset
    | TaskCompleted
    | TaskFailed
    | TaskRetryScheduled
    | TaskRetryStarted
    | TaskReleased
    | ClockSetBack
    | TimerFired
    | SignalReceived
    | SignalUnhandled
    | UpdateAccepted
    | UpdateRefused
    | CancelRequested
    | PromiseCompleted
    | PromiseFailed
    | ChildCompleted
    | ChildFailed
    | ResultAsked
    | AskAnswered
    | AskFailed
    | SlotsGranted
    | ExecutionTerminated
)
Recorded = (
    TaskScheduled
    | InlineTaskCompleted
    | InlineTaskFailed
    | TaskCancelled
    | TimerStarted
    | TimerCancelled
    | PromiseCreated
    | ChildStarted
    | ChildCancelled
    | StartSent
    | SignalSent
    | AskSent
    | CancelSent
    | SlotsSent
    | CompletionSent
    | UpdateCompleted
    | UpdateFailed
    | PatchMarked
    | TagsSet
    | MessagesUnhandled
    | ContinuedAsNew
    | ExecutionCompleted
    | ExecutionFailed
    | ExecutionCancelled
)
Event = Incoming | Recorded

INCOMING: Final = frozenset(Incoming.__args__)
RECORDED: Final = frozenset(Recorded.__args__)
CLOSING: Final = frozenset(
    {ExecutionCompleted, ExecutionFailed, ExecutionCancelled, ExecutionTerminated, ContinuedAsNew}
)


@fact
class Tick:
    """A message, never recorded: the time is `at`, so that every timer and retry due by then takes place.

    `set_back` are the milliseconds by which the clock was set back since the turn before. Since
    `steady_since` the clock has not jumped; None if that is not known.
    """

    at: int
    set_back: int = 0
    steady_since: int | None = None


@fact
class UpdateRequested:
    """A message, recorded as UpdateAccepted if its validator accepts the update.

    `forwarded` says that the caller is in another process, and reads the answer in the history.
    """

    at: int
    id: str
    name: str
    arguments: Payload
    forwarded: bool = False
    headers: dict[str, str] | None = None
    asked_by: str = ""


@fact
class Asked:
    """A message: the ask of another execution, recorded there as AskSent, which is to be answered. `id` is
    the same in every copy: the id of the asking execution, the seed of its run and the number of the ask,
    joined by slashes, and after a reset that asks anew also the number of the run.
    """

    at: int
    id: str
    kind: str
    name: str
    value: Payload
    headers: dict[str, str] | None = None


@fact
class PromiseHeartbeat:
    """A message, never recorded: somebody is still at work on a promise. `value` encodes the details, or
    None; `secret` is checked on arrival. The last heartbeat of each promise is kept beside the history.
    Read from there it is `known`, and `at` is the time of its arrival.
    """

    at: int
    seq: int
    value: Payload
    secret: str
    known: bool = False


@fact
class ResetRequested:
    """A message, never recorded: begin another run of an execution that has closed, from its last good
    point ("retry") or from the start ("restart").

    `run` is the number of the closed run; 0 means the last one. `id` is the same in every copy.
    `began_with` are other arguments for a restart. `asked_by` is as in ExecutionReset.
    """

    at: int
    how: str
    run: int
    id: str
    began_with: Payload | None = None
    asked_by: str = ""


@fact
class PauseRequested:
    """A message, never recorded: run no code of the execution until it is resumed."""

    at: int
    reason: str = ""


@fact
class DeletionRequested:
    """A message, never recorded: delete the execution that was started at `started_at` and closed in that
    `run`. An execution that was run again since, or was started later under the same id, stays.
    """

    at: int
    run: int
    started_at: int


UnrecordedMessage = UpdateRequested | Asked | PromiseHeartbeat
"""The messages to an execution that are not recorded as they are."""

UNRECORDED: Final = frozenset({UpdateRequested, Asked, PromiseHeartbeat})

Request = ResetRequested | PauseRequested | DeletionRequested
"""The requests about an execution as a whole, of which its code is told nothing."""

REQUESTS: Final = frozenset(Request.__args__)

Message = Incoming | Tick | UnrecordedMessage | Request

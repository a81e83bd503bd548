"""Define the events of a history: frozen, in the past tense.

Two kinds make up a history. *Incoming* events arrive from outside and are delivered to the
workflow one at a time; each carries `at`, its time in milliseconds since the epoch. *Recorded*
events are what the workflow's code decided while one incoming event was delivered; they follow it
in the history, in the order in which the code asked for them.

`seq` numbers the operations of a run (tasks, timers) from 1 in the order they were started.
"""

from __future__ import annotations

from typing import Any, Final

from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import fact

BEHAVIOUR: Final = 1
"""What new runs are recorded with. From 1 on an asynchronous generator that nothing refers to any more is
closed in the next pass of the loop, as asyncio does; before, all were closed at the end."""


@fact
class ExecutionStarted:
    """The first event of every run. `arguments` encodes ``[[positional...], {keyword...}]``.

    `parent` is ``{"id": ..., "seq": ...}`` for the child of another execution; with ``"notify"``, the
    name of a signal, it is not a child, and the other one is told by that signal when it has closed.
    The numbers of operations go on behind `first_seq`, so that they are unique over all runs. `origin` is the
    fingerprint of the arguments of the first run, in those that follow it. `children`, `updates` and
    `signals` are what the run before has handed over: see the module `continuation`. `cancelled` is the
    id of the request to cancel that it took, so that the same one is known when it comes again; `cancel`
    is the reason of one that came when the run before had ended, and is for this one. `key` is what the
    tokens of the run's promises are made from, and nothing else is; histories from before have none.
    `behaviour` says which choices of this library a run was recorded with, so that a replay makes the
    same: see BEHAVIOUR. `began_with` are the arguments of the first run, where those of this one are
    others: what a restart begins with. `tags` are those that the run begins with. `headers` go along with the
    execution: see the module `headers`.

    The code begins `delay` milliseconds later, or at the time `start_at`: then TimerFired with the
    number BEGIN says so. Within `timeout` milliseconds from then it has to end, or by `deadline`, which
    the run before hands over; TimerFired with the number DEADLINE says that it has not. `retry` is the
    policy by which a run that fails is followed by another one, as plain JSON: this run is `attempt`, and
    `failure` is that of the one before. `worker` names the worker that runs all tasks of the execution
    and of its children, whichever these name; empty leaves that to them. `forked_from` is
    ``{"id": ..., "event": ...}`` for one that began with that many events of another execution: it is
    nobody's child then, whatever `parent` its code sees. `askers` are the ids of the asks of other
    executions that wait for the result, handed over by the run before: see ResultAsked. `rerun` is the number
    of the run with which somebody has last had the execution run again; 0 for none. `limit` says of which
    limit the execution needs a slot before its code begins, as in TaskScheduled: SlotsGranted gives it. With
    ``"held"`` it has that from the run before: the generation of the run that was granted it.
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


@fact
class ExecutionReset:
    """The run begins with `kept` events of another run, and goes on from there.

    `how` says why: "retry" or "restart"; or "fork", where the other run is one of another execution: then
    children that are open are started again. `run` is the number of this run, and `id` that of the
    request. `highest` is the highest number that the other run has given to an operation: those of this
    one go on behind it. `attempts` says for each task that was open at the cut, by its number, which
    attempt it makes now; those before do not count any more. `running` are those whose attempt has begun
    and goes on. `timer` is the number of a timer that waits once more, until `fire_at` (milliseconds
    since the epoch); 0 for none. `asked_by` says who asked for it, if that was told. `asks` are what was
    asked of other executions and not answered, by number, to be sent once more: asked anew in the run of
    that number, or as before if it is 0.
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
    """An attempt returned. It really began `begun` (milliseconds since the epoch; 0 if that is not known),
    and ran on the worker `ran_on`: see the module `worker_name`.
    """

    at: int
    seq: int
    attempt: int
    result: Payload
    begun: int = 0
    ran_on: str = ""


@fact
class TaskFailed:
    """An attempt failed. As a recorded fact it is the last one; no other follows.

    `heartbeat` encodes the details that it gave last with a heartbeat, if it gave any. `begun` and
    `ran_on` as in TaskCompleted; neither if it was not heard of.
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
    """An attempt failed and attempt number `attempt` will be made at `retry_at` (milliseconds).

    `heartbeat` as in TaskFailed: what the attempts that follow may begin with. So are `begun` and `ran_on`,
    those of the attempt that failed.
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
    """A runtime closed in good order before the attempt had ended; it is dispatched again.

    `heartbeat` as in TaskFailed, if the attempt had begun: what it goes on from.
    """

    at: int
    seq: int
    attempt: int
    heartbeat: Payload | None = None


@fact
class TimerFired:
    """A timer's time has come. BEGIN and DEADLINE are the numbers of those of the execution itself; that
    of a promise says that it has ended without a value: its timeout has passed, or a heartbeat is missing.
    """

    at: int
    seq: int


@fact
class ClockSetBack:
    """The clock says `at`, which is before timers and waits for a retry that are open began: it was
    set back, by that many milliseconds; 0 if that is not known. They end by as much earlier; if that
    is too little, or not known, as if they began `at`.
    """

    at: int
    by: int = 0


@fact
class SignalReceived:
    """A signal. Its `id` is the same in every copy of the message; empty means there is one. `headers` are
    what came with it, beside its value. `asked_by` says who has sent it, if that was told. `first_run` is the
    number of the run that has recorded it first, and handed it on; 0 in that run itself.
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
    """A request that its validator let pass. `arguments` as in ExecutionStarted, `headers` and `asked_by` as
    in SignalReceived. `asker` is the execution that waits for the answer, if it is one: the id is that of its
    ask then.
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
    """A request that its validator refused, asked for in another process, which has no other way
    to learn of it. A refusal that can be told directly leaves no history.
    """

    at: int
    id: str
    failure: Failure


@fact
class CancelRequested:
    """Somebody outside asked the execution to cancel itself. Its `id` is the same in every copy of
    the message; empty means there is one. `asked_by` says who, if that was told.
    """

    at: int
    reason: str = ""
    id: str = ""
    asked_by: str = ""


@fact
class PromiseCompleted:
    """A promise was completed from outside. `secret` is checked on arrival and not recorded; `asked_by` says
    by whom, if told.
    """

    at: int
    seq: int
    value: Payload
    secret: str = ""
    asked_by: str = ""


@fact
class PromiseFailed:
    """A promise was failed from outside. `secret` is checked on arrival and not recorded; `asked_by` says by
    whom, if told.
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
    """Another execution waits for the result: it is told when this one has closed. `id` is that of its ask,
    which begins with its own id: see `Asked`.
    """

    at: int
    id: str


@fact
class AskAnswered:
    """An ask to another execution is answered. `id` is that of the ask; it is checked on arrival and
    not recorded.
    """

    at: int
    seq: int
    result: Payload
    id: str = ""


@fact
class AskFailed:
    """An ask to another execution has failed, was refused, or found nobody. `id` as in
    AskAnswered.
    """

    at: int
    seq: int
    failure: Failure
    id: str = ""


@fact
class SlotsGranted:
    """A limit has granted slots to the run that calls itself `sender`. `granted` has a list for each
    place: the key, the priority, and how many it has granted there in all.
    """

    at: int
    limit: str
    sender: str
    granted: list[list[Any]]


@fact
class ExecutionTerminated:
    """Ended from outside without running any code of the workflow. `asked_by` says by whom, if told."""

    at: int
    reason: str = ""
    asked_by: str = ""


@fact
class TaskScheduled:
    """The workflow started a task. `retry` is the policy as plain JSON, `timeout` milliseconds.

    `heartbeat_timeout` are the milliseconds that an attempt may be silent. `refused` counts the
    calls since the event before this one that could not be captured, so that the code got an error
    instead of a task: a replay must not take such a call for this one. `call` is the fingerprint of
    what is called and with which values; without a name before its ``#`` it calls what the task is
    named after. Histories from before have none. `worker` names the worker that is to run it; empty
    is the default one. `begun` is when it began, if the event before was long under way. `undoes` is the
    number of the task that it takes back; 0 for none. `part_of` is the number of the first task of the
    ``ctx.map`` that it belongs to, and the first one has in `map` the map's name, the number of its items,
    and how many may be open at a time (``{"name": ..., "items": ..., "concurrency": ...}``). `limit` says
    of which limit each attempt needs a slot: its name, and a key and a priority if they are given.
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
    """A task ran inside the turn and returned. `refused` and `call` as in TaskScheduled."""

    seq: int
    name: str
    result: Payload
    refused: int = 0
    call: str = ""


@fact
class InlineTaskFailed:
    """A task ran inside the turn and raised. `refused` and `call` as in TaskScheduled."""

    seq: int
    name: str
    failure: Failure
    refused: int = 0
    call: str = ""


@fact
class TaskCancelled:
    """The workflow gave a task up; a result that still arrives is recorded and ignored."""

    seq: int
    reason: str = ""


@fact
class TimerStarted:
    """The workflow started a timer that fires at `fire_at` (milliseconds since the epoch).

    `wait` are the milliseconds that it waits; None for one that is meant for a time of the clock.
    """

    seq: int
    fire_at: int
    wait: int | None = None


@fact
class TimerCancelled:
    """The workflow gave a timer up before it fired."""

    seq: int


@fact
class PromiseCreated:
    """The workflow made a promise, for somebody outside to complete: within `timeout` milliseconds, and
    with a heartbeat at least every `heartbeat_timeout` milliseconds, if these are given.
    """

    seq: int
    name: str = ""
    timeout: int | None = None
    heartbeat_timeout: int | None = None


@fact
class ChildStarted:
    """The workflow started a child execution. `arguments` and `tags` as in ExecutionStarted. It has the
    headers of this execution, or those that are in `headers`. It needs the slot that is in `limit`, or else
    that of its workflow.
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
    """The workflow asked a child to cancel itself, and waits for it no longer."""

    seq: int
    reason: str = ""


@fact
class StartSent:
    """The workflow started another execution, which goes on without it. `arguments`, `tags` and the
    options as in ExecutionStarted, `headers` and `limit` as in ChildStarted.

    With `notify` it is sent a signal of that name when the other one has closed.
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
    """The workflow sent a signal to another execution. `headers` as in SignalReceived."""

    seq: int
    target: str
    name: str
    value: Payload
    headers: dict[str, str] | None = None


@fact
class AskSent:
    """The workflow asked another execution for something and waits for the answer. `kind` is "result",
    "update", "query", or "signal" for one whose receipt is to be confirmed. The `value` is that of a signal,
    and else the arguments, as in ExecutionStarted. `headers` as in SignalReceived.
    """

    seq: int
    target: str
    kind: str
    name: str
    value: Payload
    headers: dict[str, str] | None = None


@fact
class CancelSent:
    """The workflow asked another execution to cancel itself, or ended it: then `terminates`."""

    seq: int
    target: str
    reason: str = ""
    terminates: bool = False


@fact
class SlotsSent:
    """The workflow, which is that of a limit, has granted slots to an execution: see SlotsGranted."""

    seq: int
    target: str
    limit: str
    sender: str
    granted: list[list[Any]]


@fact
class CompletionSent:
    """The workflow gave a promise of another execution its `value`, or had it fail with a `failure`: the one
    with the number `promise`, whose token has that `secret`.
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
    """The handler of an update raised, or was not done when the workflow ended."""

    id: str
    failure: Failure


@fact
class PatchMarked:
    """The code asked whether a change applies, and took the new path."""

    name: str


@fact
class TagsSet:
    """The workflow changed tags of its execution: those with a value have it from now on, those with
    None are removed.
    """

    tags: dict[str, str | None]


@fact
class MessagesUnhandled:
    """Messages that nobody had received when the workflow ended: signals by name and number."""

    signals: dict[str, int]


@fact
class ContinuedAsNew:
    """The run ends; the next one begins with these arguments and an empty history.

    With a `failure` the run has failed, and the execution is tried again: the code of the next run, which
    has the same arguments, begins `delay` milliseconds later.
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
    """A message, never recorded: the time is `at`; every timer and retry due by then happens.

    `set_back` are the milliseconds by which the clock was set back since the turn before. Since
    `steady_since` the clock has not jumped; None if that is not known.
    """

    at: int
    set_back: int = 0
    steady_since: int | None = None


@fact
class UpdateRequested:
    """A message: it is recorded as UpdateAccepted if its validator lets it pass.

    `forwarded` says that whoever asks is in another process, and reads the answer in the history.
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
    """A message: another execution asks for something, as its AskSent says, and is to be answered. `id` is
    the same in every copy: the id of the execution that asks, the seed of its run and the number of the ask,
    with slashes in between; behind another one the number of a run that was begun again, and asks anew.
    """

    at: int
    id: str
    kind: str
    name: str
    value: Payload
    headers: dict[str, str] | None = None


@fact
class PromiseHeartbeat:
    """A message, never recorded: whoever has promised a value is still at work on it. `value` encodes the
    details, or None; `secret` is checked on arrival. The last one of each promise is kept beside the history:
    then it is `known`, and `at` is when it was heard.
    """

    at: int
    seq: int
    value: Payload
    secret: str
    known: bool = False


@fact
class ResetRequested:
    """A message, never recorded: begin another run of an execution that has closed, and go on from its
    last good point ("retry"), or from the start ("restart").

    It is about the run of that number; 0 means the one that there is. `id` is the same in every copy.
    `began_with` are other arguments for a restart. `asked_by` as in ExecutionReset.
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
    """A message, never recorded: delete an execution that has closed.

    It is about the one that was started at `started_at` and closed in that `run`. One that was run again
    since, or has got the id after it, stays.
    """

    at: int
    run: int
    started_at: int


UnrecordedMessage = UpdateRequested | Asked | PromiseHeartbeat
"""What is sent to an execution, and not recorded as it is."""

UNRECORDED: Final = frozenset({UpdateRequested, Asked, PromiseHeartbeat})

Request = ResetRequested | PauseRequested | DeletionRequested
"""What is asked about an execution as a whole; its code does not hear of it."""

REQUESTS: Final = frozenset(Request.__args__)

Message = Incoming | Tick | UnrecordedMessage | Request

"""Fold a history into an ExecutionState, one event at a time.

The state answers questions without a walk over the history: which tasks and timers are open, which
event is due next, and whether an arriving message is new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from heapq import heapify, heappop, heappush
from typing import Any, ClassVar, Final, Literal

from mini_workflow.core import events, open_operations
from mini_workflow.core.continuation import Answers, OpenChild, take_over
from mini_workflow.core.duplicates import admit
from mini_workflow.core.endings import Endings
from mini_workflow.core.events import Event
from mini_workflow.core.limit import LIMIT
from mini_workflow.core.open_operations import (
    NO_DURATIONS,
    NO_PROMISES,
    OpenAsk,
    OpenDurations,
    OpenPromises,
    OpenTask,
    begin_duration,
)
from mini_workflow.core.progress import MapCount, count_ended, count_started
from mini_workflow.core.report_limits import (
    NO_DEADLINES,
    ReportDeadlines,
    ReportLimits,
    not_reported,
    wait_for_report,
)
from mini_workflow.core.run_reset import reset_run
from mini_workflow.core.slots import OwnSlot, Slots, take_slots
from mini_workflow.core.tags import merge_tags
from mini_workflow.core.timing import BEGIN, DEADLINE
from mini_workflow.errors import WireError

Condition = Literal["new", "running", "completed", "failed", "cancelled", "terminated", "continued"]

Summary = tuple[Condition, bool, "int | None", bool]
"""The summary of a state: its condition; whether an attempt is in flight or the next run follows; the time of
the next timer, retry or deadline (milliseconds since the epoch; None for never); and whether that is the
deadline of an attempt.
"""

_CONDITION: Final[dict[type, Condition]] = {
    events.ExecutionCompleted: "completed",
    events.ExecutionFailed: "failed",
    events.ExecutionCancelled: "cancelled",
    events.ExecutionTerminated: "terminated",
    events.ContinuedAsNew: "continued",
}


_EMPTY: Final[dict[str, Callable[[], Any]]] = {
    **dict.fromkeys(("answers", "askers", "asks", "cancelled_tasks", "child_ids"), dict),
    **dict.fromkeys(("children", "inherited", "maps", "patches", "released"), dict),
    **dict.fromkeys(("signal_ids", "tags", "updates"), dict),
    "resets": set,
}
"""The fields of a state that are made when they are first read, with their types."""
_UNMADE: Final = tuple(f"_{name}" for name in _EMPTY)


class ExecutionState:
    """The state of an execution after the events of a run's history."""

    __slots__ = (
        *_UNMADE,
        *("cancel_requested", "cancelled_by", "closed", "condition", "deadline", "deadline_moved"),
        *("deadlines", "durations", "end", "endings", "promises"),
        *("execution_id", "headers", "in_flight", "in_hand", "key", "left_tasks", "left_timers"),
        *("length", "limits", "now", "own_slot", "seed", "slots", "started_at", "tasks", "timers"),
        *("within", "worker", "_timeout", "_wakes"),
    )

    tags: dict[str, str]
    maps: dict[int, MapCount]
    """The maps with open tasks, and those that have ended since the last one began, by the number of their
    first task."""
    durations: OpenDurations
    cancelled_tasks: dict[int, int]
    """The attempts in flight whose task was cancelled, by its number, until they are reported."""
    _cancelled_tasks: dict[int, int] | None
    """The same, None if it was not made."""
    released: dict[int, None]
    """The numbers of the tasks whose attempts were handed back by a runtime that closed."""
    _released: dict[int, None] | None
    promises: OpenPromises
    children: dict[int, OpenChild]
    child_ids: dict[int, str]
    """The ids of the cancelled children by number, until their end is recorded."""
    inherited: dict[int, OpenChild]
    """The open children of earlier runs. Their results are dropped."""
    asks: dict[int, OpenAsk]
    """The asks of other executions that are not answered, by number."""
    askers: dict[str, str]
    """The asks by other executions that are not answered: "result" or "update", by the id of the ask."""
    updates: dict[str, bool]
    """The accepted updates by id, and whether they have been answered."""
    answers: Answers
    """The last answered updates, those of earlier runs included."""
    signal_ids: dict[str, None]
    """The ids of the signals received, in order, those of earlier runs included."""
    patches: dict[str, None]
    resets: set[tuple[int, str]]
    """The runs that began with events of another one, with the ids of the requests."""
    deadlines: ReportDeadlines

    def __init__(self) -> None:
        self.condition: Condition = "new"
        self.durations, self.promises, self.deadlines = NO_DURATIONS, NO_PROMISES, NO_DEADLINES
        self.closed = False
        """Whether the workflow has ended."""
        self.length = self.now = self.seed = self.started_at = 0
        self.key = ""
        self.slots: Slots | None = None
        """The slots of the run's tasks, once one needs a slot."""
        self.own_slot: OwnSlot | None = None
        """The slot that the execution itself needs before its code begins."""
        self.headers: dict[str, str] | None = None
        self.worker = ""
        """The worker that runs all tasks; empty if each task names its own: see `ExecutionStarted`."""
        self.in_flight = 0
        self.tasks: dict[int, OpenTask] = {}
        self.timers: dict[int, int] = {}
        self.cancel_requested = False
        self.cancelled_by = ""
        """The id of the last request to cancel, earlier runs included."""
        self.end: Event | None = None
        """The event that has closed the execution, or this run of it."""
        self.left_timers: tuple[int, ...] = ()
        """The timers that were open when the workflow ended, and end with it."""
        self.left_tasks: tuple[int, ...] = ()
        """The tasks that were in flight when the execution was terminated."""
        self._timeout: int | None = None
        self.within: int | None = None
        """The milliseconds from the begin of the run to its deadline; None without a deadline."""
        self.deadline_moved = 0
        """The milliseconds by which the deadline is earlier because the clock was set back."""
        self.deadline: int | None = None
        """The deadline of a run that has ended (milliseconds since the epoch)."""
        self._wakes: list[tuple[int, int]] | tuple[()] = ()
        self.limits: ReportLimits | None = None
        """The time limits for the reports of attempts; None if there are none, as in a mere reader."""
        self.execution_id = ""
        self.endings: Endings | None = None
        """Collects the operations that have ended, if anything observes them."""
        self.in_hand: Callable[[tuple[str, int, int], str], bool] | None = None
        """Returns whether an attempt past its deadline is still being run, by its key and the name of its
        task. If so it gets another deadline."""

        # Without a loop, which would take a call for each of them.
        self._answers = self._askers = self._asks = self._cancelled_tasks = self._child_ids = None
        self._children = self._inherited = self._maps = self._patches = self._released = None
        self._resets = self._signal_ids = self._tags = self._updates = None

    def made(self, name: str) -> Any:
        """Return a field of `_EMPTY` without making it; None if it was never read and so is empty."""
        return getattr(self, f"_{name}")

    @classmethod
    def of(cls, history: Iterable[Event]) -> ExecutionState:
        """Return the state after a whole history. Raises WireError if the history is impossible."""
        state = cls()
        for event in history:
            state.apply(event)
        return state

    def summary(self) -> Summary:
        """Return the summary of the state."""
        busy = self.in_flight > 0 or self.condition == "continued"
        planned = self._next_planned() if self._wakes else None
        first = self.deadlines.first() if self.tasks and self.deadlines.open else None
        if first is None or (planned is not None and planned <= first[0]):
            return self.condition, busy, planned, False
        return self.condition, busy, first[0], True

    def _next_planned(self) -> int | None:
        """Return the time of the next timer or retry (milliseconds since the epoch); None for never."""
        wakes = self._wakes
        while wakes:
            at, seq = wakes[0]
            task = self.tasks.get(seq)
            if self.timers.get(seq) == at or (task is not None and task.retry_at == at):
                return at
            if at == self._moved_end(seq):
                return at
            heappop(wakes)
        return None

    def _end(self, seq: int) -> int:
        """Return the planned end of an open duration (milliseconds since the epoch)."""
        at = self.timers.get(seq)
        return at if at is not None else self.tasks[seq].retry_at or 0

    def _moved_end(self, seq: int) -> int | None:
        """Return the earlier end of a duration that was moved because the clock was set back, or None."""
        moved = self.durations.moved.get(seq)
        return None if moved is None else self._end(seq) - moved

    def due(self, now: int, steady_since: int | None = None) -> Event | None:
        """Return the next event that is due at the time `now`: a timer that fires, a retry, or the loss
        of an attempt that was not reported. None if there is none.

        Since `steady_since` the clock has not jumped; None if that is not known. Times are milliseconds
        since the epoch.
        """
        while self.tasks and (first := self.deadlines.first()) is not None and first[0] <= now:
            at, seq = first
            planned = self._next_planned()
            if planned is not None and planned <= at:
                if (event := self._planned(now, steady_since)) is not None:
                    return event
                continue
            task = self.tasks[seq]
            key = (self.execution_id, seq, task.attempt)
            if self.in_hand is None or not self.in_hand(key, task.name):
                failure = not_reported(task.name, task.attempt)
                lost = events.TaskFailed(max(now, self.now), seq, task.attempt, failure)
                return admit(self, lost)
            self.expect(seq, now)
        return self._planned(now, steady_since)

    def expect(self, seq: int, at: int) -> None:
        """Set the deadline for the report of a task's attempt that is dispatched at the time `at`."""
        if self.limits is not None:
            limits = self.limits.of((task := self.tasks[seq]).worker)
            if not (task.timeout is limits.longest is None):
                wait_for_report(self, seq, at, limits.within(task.timeout))

    def _planned(self, now: int, steady_since: int | None) -> Event | None:
        """Return the event of the next timer or retry that is due, or None."""
        durations, steady = self.durations, now if steady_since is None else steady_since
        while (at := self._next_planned()) is not None and at <= now:
            _, seq = next(iter(self._wakes))
            if at == self._end(seq) or durations.is_moved(seq, now, steady):
                break
            # The clock was set forward again, so the duration ends as planned at first.
            durations.keep_end(seq)
        else:
            return None
        if seq in self.timers:
            return events.TimerFired(max(now, self.now), seq)
        return events.TaskRetryStarted(max(now, self.now), seq, self.tasks[seq].attempt)

    def family(self) -> dict[int, OpenChild]:
        """Return the open children, those of earlier runs included."""
        return {**self.inherited, **self.children}

    def generation(self) -> str:
        """Return a text that differs between all runs of an execution, also after a reset."""
        last = max((run for run, _ in self.resets), default=0)
        return f"{self.seed}.{last}" if last else f"{self.seed}"

    def secret(self, seq: int) -> str:
        """Return the secret in the token of promise number `seq`, which nobody can guess."""
        if self.key:
            return sha256(f"{self.key}:{seq}".encode()).hexdigest()[:32]
        # Older histories have no key.
        return sha256(f"promise:{self.seed}:{seq}".encode()).hexdigest()[:24]

    def apply(self, event: Event) -> None:
        """Apply an event to the state. Raises WireError if the event cannot follow those before."""
        if self.length == 0 and type(event) is not events.ExecutionStarted:
            raise WireError(f"a history begins with ExecutionStarted, not with {event!r}")
        if self.endings is not None:
            self.endings.note(self, event)
        handler = self._HANDLERS.get(type(event))
        if handler is not None:
            try:
                handler(self, event)
            except KeyError as error:
                raise WireError(
                    f"event {self.length + 1} of the history, {event!r}, is about the unknown "
                    f"operation {error}"
                ) from error
        at = getattr(event, "at", 0)
        if at > self.now:
            self.now = at
        self.length += 1

    def _started(self, event: events.ExecutionStarted) -> None:
        if self.length:
            raise WireError("ExecutionStarted twice in one history")
        self.condition = "running"
        self.seed, self.key, self.started_at = event.seed, event.key, event.at
        if event.tags:
            self.tags = dict(event.tags)
        self.headers = event.headers
        self.worker = event.worker
        self.cancelled_by = event.cancelled
        if event.askers:
            self.askers = dict.fromkeys(event.askers, "result")
        self.cancel_requested = event.cancel is not None
        if event.children or event.updates or event.signals:
            take_over(self, event)
        if event.delay:
            self.open_timer(BEGIN, event.at + event.delay, event.at)
        elif event.start_at is not None and (event.start_at > event.at or event.attempt > 1):
            self.open_timer(BEGIN, event.start_at, None)
        self._timeout = event.timeout
        self.within = event.timeout
        if event.deadline is not None:
            self.within = max(0, event.deadline - event.at)
            self.open_timer(DEADLINE, event.deadline, event.at)
        if event.limit is not None:
            self.own_slot = OwnSlot(event.limit)
        if BEGIN not in self.timers:
            self.begin(event.at)

    def has_begun(self) -> bool:
        """Return whether the code may run: its start time has come, and it has the slot that it needs."""
        return BEGIN not in self.timers and not (self.own_slot is not None and self.own_slot.waits)

    def begin(self, at: int) -> None:
        """Begin the code at the time `at`, or wait for the slot that it needs. Starts the timeout."""
        if (self.own_slot is None or self.own_slot.begin()) and self._timeout is not None:
            self.open_timer(DEADLINE, at + self._timeout, at)

    def _plan(self, at: int, seq: int) -> None:
        self._wakes = self._wakes or []
        heappush(self._wakes, (at, seq))

    def open_timer(self, seq: int, fire_at: int, began: int | None) -> None:
        """Open a timer. `began` is None for one that is meant for the time `fire_at` of the clock."""
        self.timers[seq] = fire_at
        if began is not None:
            begin_duration(self, seq, began)
        self._plan(fire_at, seq)
        if len(self._wakes) > 64 + 2 * (len(self.timers) + len(self.tasks)):
            # Stale entries must not pile up: each heartbeat of a promise moves its timer.
            retries = (seq for seq, task in self.tasks.items() if task.retry_at is not None)
            moved = self.durations.moved
            self._wakes = [(self._end(n) - moved.get(n, 0), n) for n in (*self.timers, *retries)]
            self._wakes += [(self._end(n), n) for n in moved]
            heapify(self._wakes)

    def _task_scheduled(self, event: events.TaskScheduled) -> None:
        if self.condition != "running":
            raise self._follows_the_end(event)
        self.tasks[event.seq] = OpenTask(event, self.now)
        if event.part_of:
            self.maps = count_started(self.maps, event)
        if event.limit is not None:
            self.slots_of().ask(event.seq, event.limit)
            return
        self.in_flight += 1
        limits = self.limits
        if limits is not None and not (event.timeout is limits.longest is limits.others is None):
            self.expect(event.seq, event.begun or self.now)

    def slots_of(self) -> Slots:
        """Return the slots of the run, made at the first call."""
        slots = self.slots = self.slots or Slots()
        return slots

    def _give_back(self, task: OpenTask) -> None:
        if task.limit is not None and not self.closed:
            self.slots_of().give_back(task.limit)

    def _task_ended(self, event: events.TaskCompleted | events.TaskFailed) -> None:
        seq = event.seq
        if (cancelled := self._cancelled_tasks) and seq in cancelled:
            del cancelled[seq]
            return
        task = self.tasks.pop(seq)
        if task.retry_at is None:
            self.in_flight -= 1
            if task.limit is not None:
                self._give_back(task)
        else:
            self.durations.end(seq)
        if task.part_of:
            count_ended(self.maps, task.part_of, event)
        if self.deadlines.open:
            self.deadlines.drop(seq)
        if self._released:
            self._released.pop(seq, None)

    def _task_retry_scheduled(self, event: events.TaskRetryScheduled) -> None:
        task = self.tasks[event.seq]
        task.attempt, task.retry_at, task.since = event.attempt, event.retry_at, event.at
        self.deadlines.drop(event.seq)
        if event.heartbeat is not None:
            task.heartbeat = event.heartbeat
        self.in_flight -= 1
        self._give_back(task)
        self.released.pop(event.seq, None)
        begin_duration(self, event.seq, event.at)
        self._plan(event.retry_at, event.seq)

    def _task_retry_started(self, event: events.TaskRetryStarted) -> None:
        task = self.tasks[event.seq]
        if task.retry_at is not None:
            task.retry_at = None
            self.durations.end(event.seq)
            if task.limit is not None:
                task.waits, task.since = True, event.at
                self.slots_of().ask(event.seq, task.limit)
                return
            self.in_flight += 1
        task.since = event.at
        self.released.pop(event.seq, None)
        self.expect(event.seq, max(event.at, self.now))

    def _clock_set_back(self, event: events.ClockSetBack) -> None:
        durations = self.durations
        for seq in durations.begun_after(event.at):
            durations.move(seq, event.at, event.by)
            self._plan(self._end(seq) - durations.moved[seq], seq)
        self.deadlines.clock_set_back(event.at)

    def _task_released(self, event: events.TaskReleased) -> None:
        self.released[event.seq] = None
        self.deadlines.drop(event.seq)
        if event.heartbeat is not None:
            self.tasks[event.seq].heartbeat = event.heartbeat

    def _task_cancelled(self, event: events.TaskCancelled) -> None:
        task = self.tasks.pop(event.seq)
        self.durations.end(event.seq)
        self.deadlines.drop(event.seq)
        self.released.pop(event.seq, None)
        if task.part_of:
            count_ended(self.maps, task.part_of, event)
        if task.waits and task.limit is not None:
            self.slots_of().withdraw(event.seq, task.limit)
        elif task.retry_at is None:
            self.in_flight -= 1
            self._give_back(task)
            self.cancelled_tasks[event.seq] = task.attempt

    def _signal_received(self, event: events.SignalReceived | events.SignalUnhandled) -> None:
        if event.id:
            self.signal_ids[event.id] = None

    def _cancel_requested(self, event: events.CancelRequested) -> None:
        self.cancel_requested, self.cancelled_by = True, event.id or self.cancelled_by

    def wait_for_promise(self, seq: int) -> None:
        """Set the timer of a promise to the time at which the promise ends without a value."""
        due = self.promises[seq].due
        if due is not None and due != self.timers.get(seq):
            self.open_timer(seq, due, self.promises[seq].since)

    def hear(self, message: events.PromiseHeartbeat, now: int | None = None) -> None:
        """Take the heartbeat of an open promise, as of the time `now` if that is given: the sender has
        another clock.
        """
        self.promises.hear(message, now)
        self.wait_for_promise(message.seq)

    def miss_no_heartbeat(self, now: int) -> None:
        """Begin the heartbeat timeouts of all promises again at `now`, since no heartbeat could arrive."""
        for seq in self.promises.miss_none(now):
            self.wait_for_promise(seq)

    def _sent(self, event: events.StartSent | events.CompletionSent) -> None:
        self.check_open(event)
        if isinstance(event, events.StartSent) and event.name == LIMIT:
            self.slots_of().known[event.id] = None

    def _patch_marked(self, event: events.PatchMarked) -> None:
        self.patches[event.name] = None

    def _tags_set(self, event: events.TagsSet) -> None:
        self.tags = merge_tags(self.tags, event.tags)

    def check_open(self, event: Event) -> None:
        """Raise WireError if the workflow has ended before the event."""
        if self.condition != "running":
            raise self._follows_the_end(event)

    def _follows_the_end(self, event: Event) -> WireError:
        return WireError(
            f"event {self.length + 1} of the history, {event!r}, follows the end of its workflow"
        )

    def _timer_started(self, event: events.TimerStarted) -> None:
        if self.condition != "running":
            raise self._follows_the_end(event)
        began = None if event.wait is None else event.fire_at - event.wait
        self.open_timer(event.seq, event.fire_at, began)

    def _timer_ended(self, event: events.TimerFired | events.TimerCancelled) -> None:
        del self.timers[event.seq]
        self.durations.end(event.seq)

    def _timer_fired(self, event: events.TimerFired) -> None:
        if event.seq in self.promises:
            open_operations.promise_ended(self, event)
            return
        self._timer_ended(event)
        if event.seq == BEGIN:
            self.begin(event.at)

    def _closed(self, event: Event) -> None:
        if self.closed:
            raise WireError(f"event {self.length + 1} of the history, {event!r}, ends it twice")
        self.condition = _CONDITION[type(event)]
        self.closed, self.end = True, event
        self.promises.close()
        self.left_timers = tuple(self.timers)
        if DEADLINE in self.timers:
            self.deadline = self.timers[DEADLINE]
            self.deadline_moved = self.durations.moved.get(DEADLINE, 0)
        for seq in self.left_timers:
            self.durations.end(seq)
        self.timers.clear()
        if self.condition in ("terminated", "continued"):
            self.left_tasks = tuple(seq for seq, task in self.tasks.items() if task.in_flight)
            self.tasks.clear()
            self.deadlines.clear()
            self.durations.clear()
            self.released.clear()
            self.in_flight = 0
        elif self.slots is not None:
            self.tasks = {seq: task for seq, task in self.tasks.items() if not task.waits}

    _HANDLERS: ClassVar[dict[type[Event], Callable[[ExecutionState, Any], None]]] = {
        events.ExecutionStarted: _started,
        events.ExecutionReset: reset_run,
        events.TaskScheduled: _task_scheduled,
        events.TaskCompleted: _task_ended,
        events.TaskFailed: _task_ended,
        events.TaskRetryScheduled: _task_retry_scheduled,
        events.TaskRetryStarted: _task_retry_started,
        events.TaskReleased: _task_released,
        events.ClockSetBack: _clock_set_back,
        events.TaskCancelled: _task_cancelled,
        events.SignalReceived: _signal_received,
        events.SignalUnhandled: _signal_received,
        events.UpdateAccepted: open_operations.update_accepted,
        events.UpdateCompleted: open_operations.update_ended,
        events.UpdateFailed: open_operations.update_ended,
        events.UpdateRefused: open_operations.update_refused,
        events.CancelRequested: _cancel_requested,
        events.PromiseCreated: open_operations.promise_created,
        events.PromiseCompleted: open_operations.promise_ended,
        events.PromiseFailed: open_operations.promise_ended,
        events.ChildStarted: open_operations.child_started,
        events.StartSent: _sent,
        events.CompletionSent: _sent,
        events.ChildCancelled: open_operations.child_cancelled,
        events.ChildCompleted: open_operations.child_ended,
        events.ChildFailed: open_operations.child_ended,
        events.AskSent: open_operations.take_sent,
        events.AskAnswered: open_operations.take_answer,
        events.AskFailed: open_operations.take_answer,
        events.ResultAsked: open_operations.take_asker,
        events.SlotsGranted: take_slots,
        events.PatchMarked: _patch_marked,
        events.TagsSet: _tags_set,
        events.ContinuedAsNew: _closed,
        events.TimerStarted: _timer_started,
        events.TimerFired: _timer_fired,
        events.TimerCancelled: _timer_ended,
        events.ExecutionCompleted: _closed,
        events.ExecutionFailed: _closed,
        events.ExecutionCancelled: _closed,
        events.ExecutionTerminated: _closed,
    }


def _made_later(slot: str, make: Callable[[], Any]) -> property:
    """Return a property that makes an empty field when it is first read. A waiting execution uses one or two
    of them; all together take 1.5 KiB. With a `__getattr__` all other fields would take longer to read.
    """

    def get(state: ExecutionState) -> Any:
        value = getattr(state, slot)
        if value is None:
            setattr(state, slot, value := make())
        return value

    return property(get, lambda state, value: setattr(state, slot, value))


for _name, _make in _EMPTY.items():
    setattr(ExecutionState, _name, _made_later(f"_{_name}", _make))

"""Keep the slots that an execution and its tasks have of limits, and send messages to these limits.

Each limit is an execution of its own. A message to it has the present numbers, never a change, so that a
duplicate has no effect. The slots that it grants are counted from the start of the run, for the same
reason.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.core import commands, events
from mini_workflow.core.limit import LIMIT, check_declared, declared_plan, limit_id
from mini_workflow.core.payload import Payload
from mini_workflow.core.timing import BEGIN, moment_text

if TYPE_CHECKING:
    from mini_workflow.core.recorder import Recorder
    from mini_workflow.core.state import ExecutionState

SLOTS_SIGNAL: Final = "slots"
"""The name of the signal by which an execution reports to a limit the slots that it holds and waits for."""

_OWN: Final = "/own"
"""The end of the name under which an execution reports the slot that it needs itself."""

Place = tuple[str, str, int]
"""The name of a limit, the key, and the priority."""


def place_of(limit: dict[str, Any]) -> Place:
    """Return the place of a recorded `limit`. Raises KeyError if the record is damaged."""
    return limit["name"], limit.get("key", ""), limit.get("priority", 0)


class Line:
    """The slots of a run at one place: the numbers of the waiting operations, in order; the number of slots
    that it holds; and the number that was granted in all.
    """

    __slots__ = ("granted", "held", "waiting")

    def __init__(self) -> None:
        self.waiting: OrderedDict[int, None] = OrderedDict()
        self.held = 0
        self.granted = 0


class Slots:
    """The slots of one run, as a part of its state."""

    __slots__ = ("_begun", "changed", "known", "lines", "used")

    def __init__(self) -> None:
        self.lines: dict[Place, Line] = {}
        self.changed: dict[Place, None] = {}
        """The places that have changed since their limit was sent a report."""
        self.used: dict[str, None] = {}
        """The names of the limits that know this run."""
        self.known: dict[str, None] = {}
        """The ids of the executions of limits that the run has started."""
        self._begun: list[int] = []

    def ask(self, seq: int, limit: dict[str, Any]) -> None:
        """Add an operation that waits for a slot."""
        self._line(limit).waiting[seq] = None

    def withdraw(self, seq: int, limit: dict[str, Any]) -> None:
        """Remove a waiting operation."""
        self._line(limit).waiting.pop(seq, None)

    def hold(self, limit: dict[str, Any]) -> None:
        """Hold a slot without a grant, for an attempt that continues from the run before."""
        self._line(limit).held += 1

    def keep(self, limit: dict[str, Any]) -> None:
        """Hold the slot that the limit has granted to the run before. The limit knows that already."""
        self.hold(limit)
        self.lines[place_of(limit)].granted = 1
        self.changed.clear()

    def give_back(self, limit: dict[str, Any]) -> None:
        """Give back the slot of an operation."""
        line = self._line(limit)
        line.held = max(0, line.held - 1)

    def is_new(self, message: events.SlotsGranted) -> bool:
        """Return whether the message grants slots that were not granted before."""
        for key, priority, total in message.granted:
            line = self.lines.get((message.limit, key, priority))
            if line is not None and total > line.granted:
                return True
        return False

    def begun(self) -> list[int]:
        """Return the operations that have got a slot since the last call."""
        begun, self._begun = self._begun, []
        return begun

    def settle(self, *, sent: bool) -> None:
        """Drop the commands that a replay repeats, and the reports too if they were `sent`."""
        self._begun = []
        if sent:
            self.changed.clear()

    def take(self, event: events.SlotsGranted) -> list[int]:
        """Take granted slots, and return the operations that get one. Surplus slots go back to the limit."""
        found: list[int] = []
        for key, priority, total in event.granted:
            place = (event.limit, key, priority)
            line = self.lines.get(place)
            if line is None or total <= line.granted:
                continue
            new, line.granted = total - line.granted, total
            granted = [
                line.waiting.popitem(last=False)[0] for _ in range(min(new, len(line.waiting)))
            ]
            line.held += len(granted)
            found += granted
            if len(granted) < new:
                self.changed[place] = None
        self._begun += found
        return found

    def begin_anew(self) -> None:
        """Forget all slots, for a reset run that the limits do not know."""
        self.lines.clear()
        self.changed.clear()
        self.used.clear()

    def _line(self, limit: dict[str, Any]) -> Line:
        place = place_of(limit)
        line = self.lines.get(place)
        if line is None:
            line = self.lines[place] = Line()
        self.changed[place] = None
        self.used[place[0]] = None
        return line


def take_slots(state: ExecutionState, event: events.SlotsGranted) -> None:
    """Begin the operations, or the code of the execution, to which a limit has granted slots."""
    own = state.own_slot
    if own is not None and is_own(event):
        if own.granted(event):
            state.begin(event.at)
        return
    for seq in state.slots_of().take(event):
        task = state.tasks[seq]
        task.waits, task.since = False, event.at
        state.in_flight += 1
        state.expect(seq, max(event.at, state.now))


def is_own(event: events.SlotsGranted) -> bool:
    """Return whether it is the slot of the execution itself, and not those of its tasks."""
    return event.sender.endswith(_OWN)


def slots_by_name(execution_id: str, state: ExecutionState) -> Iterator[tuple[str, Slots]]:
    """Iterate over the slots of the tasks and of the execution itself, each with its name at the limits."""
    if state.slots is not None:
        yield f"{execution_id}/{state.generation()}", state.slots
    if (own := state.own_slot) is not None:
        yield f"{execution_id}/{own.run or state.generation()}{_OWN}", own.slots


def is_granted(state: ExecutionState, message: events.SlotsGranted) -> bool:
    """Return whether the message grants slots to this run that were not granted before."""
    name = message.sender.partition("/")[2]
    named = ((own.partition("/")[2], slots) for own, slots in slots_by_name("", state))
    return any(name == own and slots.is_new(message) for own, slots in named)


# Messages to the limits


def see_to_limit(recorder: Recorder, limit: str, what: str = "ctx.task()") -> None:
    """Start the execution of a limit, unless the run has done so. Raises UsageError, which names the call
    `what`, if no such limit is declared.
    """
    name, slots = limit_id(limit), recorder.state.slots
    if slots is not None and name in slots.known:
        return
    check_unless_recorded(recorder, limit, what, events.StartSent, {"id": name})
    given: list[Any] = [[limit], {}]
    arguments = recorder.codec.for_execution(name).encode(given, "arguments")
    seq = recorder.seq = recorder.seq + 1
    recorder.emit(events.StartSent(seq, LIMIT, name, arguments))


def check_unless_recorded(
    recorder: Recorder, limit: str, what: str, kind: type[events.Event], fields: dict[str, object]
) -> None:
    """Raise UsageError if no such limit is declared, unless the history has an event of that kind with those
    fields next: then the limit was declared. A refused call has left no event, and is refused again.
    """
    recorded = recorder.recorded
    if recorded is None or not recorded.is_next(kind, fields):
        check_declared(limit, what)


def tell_limits(execution_id: str, state: ExecutionState) -> list[commands.SendMessage]:
    """Return the reports to the limits about changed places, which count as sent from then on."""
    found: list[commands.SendMessage] = []
    for sender, slots in slots_by_name(execution_id, state):
        if slots.changed:
            changed, slots.changed = slots.changed, {}
            found += _reports(sender, slots, execution_id, state, changed)
    return found


def tell_again(
    execution_id: str, state: ExecutionState, now: int, limit: str = "", sender: str = ""
) -> list[commands.SendMessage]:
    """Return complete reports to all limits or to that one, for all slots or those known as `sender`, where
    a message may be lost. A limit answers with its grants, if the run does not know them.
    """
    found: list[commands.SendMessage] = []
    if not state.closed:
        for name, slots in slots_by_name(execution_id, state):
            if sender in ("", name):
                places = [place for place in slots.lines if limit in ("", place[0])]
                found += _reports(name, slots, execution_id, state, places, f"/again/{now}")
    return found


def leave_limits(
    execution_id: str, state: ExecutionState, *, goes_on: bool = False
) -> Iterator[commands.SendMessage]:
    """Return the messages to the limits about the end of a run. It gives back all slots, except the own slot
    of an execution that goes on with another run.
    """
    for sender, slots in slots_by_name(execution_id, state):
        if not (goes_on and sender.endswith(_OWN)):
            yield from (left(name, sender, execution_id, state.now) for name in slots.used)


def left(
    limit: str, sender: str, execution_id: str, at: int, again: str = ""
) -> commands.SendMessage:
    """Return the message to a limit about the end of a run, at the time `at` (milliseconds)."""
    value = {"from": execution_id, "as": sender}
    return _message(limit, f"{sender}/left/{limit}{again}", at, value)


def _reports(
    sender: str,
    slots: Slots,
    execution_id: str,
    state: ExecutionState,
    places: Iterable[Place],
    again: str = "",
) -> Iterator[commands.SendMessage]:
    by_limit: dict[str, list[list[Any]]] = {}
    for place in places:
        name, key, priority = place
        line = slots.lines[place]
        report = [key, priority, len(line.waiting), line.granted, line.held]
        by_limit.setdefault(name, []).append(report)
    for name, lines in by_limit.items():
        value: dict[str, Any] = {"from": execution_id, "as": sender}
        value |= {"at": state.length, "lines": lines}
        if (plan := declared_plan(name)) is not None:
            value["plan"] = plan
        yield _message(name, f"{sender}/slots/{name}/{state.length}{again}", state.now, value)


def _message(name: str, key: str, at: int, value: dict[str, Any]) -> commands.SendMessage:
    signal = events.SignalReceived(at, SLOTS_SIGNAL, Payload(tree=value), key)
    return commands.SendMessage(limit_id(name), signal, key)


def askers(first: events.ExecutionStarted, history: Iterable[events.Event]) -> dict[str, str]:
    """Return the runs in the history of a limit, with the ids of their executions. Some may have ended."""
    found: dict[str, str] = {}
    arguments = first.arguments.tree[0]
    if len(arguments) > 1:
        found = {run: about[0] for run, about in arguments[1]["runs"].items()}
    for event in history:
        if isinstance(event, events.SignalReceived) and event.name == SLOTS_SIGNAL:
            value = event.value.tree
            if "lines" in value:
                found[value["as"]] = value["from"]
            else:
                found.pop(value["as"], None)
    return found


def send_slots(
    recorder: Recorder, target: str, limit: str, sender: str, granted: list[list[Any]]
) -> None:
    """Grant slots to a run of another execution, once this turn is committed. For the workflow of a limit."""
    if recorder.may_start():
        seq = recorder.seq = recorder.seq + 1
        recorder.emit(events.SlotsSent(seq, target, limit, sender, granted))


OWN: Final = 0
"""The number of the operation that waits for the own slot. Operations of code are numbered from 1."""


class OwnSlot:
    """The slot that an execution itself needs, as a part of the state of its run."""

    __slots__ = ("_waits", "limit", "run", "slots")

    def __init__(self, limit: dict[str, Any]) -> None:
        self.slots = Slots()
        self.limit = {name: value for name, value in limit.items() if name != "held"}
        self.run: str = limit.get("held", "")
        """The generation of the earlier run that was granted the slot; empty if it was this run."""
        self._waits: bool | None = None

    @property
    def waits(self) -> bool:
        """Whether the execution waits for the slot."""
        return self._waits is True

    def begin(self) -> bool:
        """Return whether the code may begin now. If not, ask for the slot."""
        if self.run:
            self.slots.keep(self.limit)
            self._waits = False
        elif self._waits is None:
            self.slots.ask(OWN, self.limit)
            self._waits = True
        return not self._waits

    def granted(self, event: events.SlotsGranted) -> bool:
        """Take a grant, and return whether it has ended the wait for the slot."""
        if not (self.slots.take(event) and self._waits):
            return False
        self._waits = False
        return True

    def begin_anew(self) -> None:
        """Ask for the slot under the name of a reset run. Code that has begun cannot wait and holds a slot
        without a grant; the slot of the run before is given back.
        """
        self.slots.begin_anew()
        self.run = ""
        if self._waits:
            self.slots.ask(OWN, self.limit)
        elif self._waits is not None:
            self.slots.hold(self.limit)

    def handed_on(self, generation: str) -> dict[str, Any]:
        """Return the `limit` in the first event of the next run, which continues with the slot."""
        return {**self.limit, "held": self.run or generation}


def start_of_code(state: ExecutionState) -> str:
    """Return the begin of code that has not begun, as a clause: a time, or the limit that it waits for."""
    if (begins := state.timers.get(BEGIN)) is not None:
        return f"begins at {moment_text(begins)}"
    name = "" if state.own_slot is None else state.own_slot.limit["name"]
    return f"waits for a slot of limit {name!r}"

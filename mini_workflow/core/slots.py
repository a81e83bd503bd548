"""Keep the slots that an execution and its tasks have of limits, and send messages to these limits.

Each limit is an execution of its own. It is told how things stand, never what has changed: so a message
that comes twice, or that is sent again, says nothing new. What it grants is counted from the start of
the run, for the same reason.
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

STANDING: Final = "slots"
"""The name of the signal by which a limit is told how an execution stands."""

_OWN: Final = "/own"
"""How the name ends under which an execution has told a limit of the slot that it needs itself."""

Place = tuple[str, str, int]
"""The name of a limit, the key, and the priority."""


def place_of(limit: dict[str, Any]) -> Place:
    """Return where a task waits, as it is recorded. Raises KeyError if it is damaged."""
    return limit["name"], limit.get("key", ""), limit.get("priority", 0)


class Line:
    """The slots of a run at one place: the operations that wait, in order, by their number; how many slots
    it holds; and how many it has been granted in all.
    """

    __slots__ = ("granted", "held", "waiting")

    def __init__(self) -> None:
        self.waiting: OrderedDict[int, None] = OrderedDict()
        self.held = 0
        self.granted = 0


class Slots:
    """The slots of one run. Part of its state: the same history gives the same."""

    __slots__ = ("_begun", "changed", "known", "lines", "used")

    def __init__(self) -> None:
        self.lines: dict[Place, Line] = {}
        self.changed: dict[Place, None] = {}
        """Of which places the limit has not been told since they changed."""
        self.used: dict[str, None] = {}
        """The limits that know of this run."""
        self.known: dict[str, None] = {}
        """The executions of limits that the run has seen to."""
        self._begun: list[int] = []

    def ask(self, seq: int, limit: dict[str, Any]) -> None:
        """Have an operation wait for a slot."""
        self._line(limit).waiting[seq] = None

    def withdraw(self, seq: int, limit: dict[str, Any]) -> None:
        """Have an operation wait no longer."""
        self._line(limit).waiting.pop(seq, None)

    def hold(self, limit: dict[str, Any]) -> None:
        """Hold a slot that nobody has granted: for an attempt that goes on from the run before."""
        self._line(limit).held += 1

    def keep(self, limit: dict[str, Any]) -> None:
        """Hold the slot that the limit has granted to the run before, as the limit knows."""
        self.hold(limit)
        self.lines[place_of(limit)].granted = 1
        self.changed.clear()

    def give_back(self, limit: dict[str, Any]) -> None:
        """Give back the slot of an operation."""
        line = self._line(limit)
        line.held = max(0, line.held - 1)

    def is_new(self, message: events.SlotsGranted) -> bool:
        """Return whether anything is granted that was not before."""
        for key, priority, total in message.granted:
            line = self.lines.get((message.limit, key, priority))
            if line is not None and total > line.granted:
                return True
        return False

    def begun(self) -> list[int]:
        """Return the operations that have got a slot since this was asked last."""
        begun, self._begun = self._begun, []
        return begun

    def settle(self, *, told: bool) -> None:
        """Note that all which has happened was acted upon, and that the limits were `told` of it."""
        self._begun = []
        if told:
            self.changed.clear()

    def take(self, event: events.SlotsGranted) -> list[int]:
        """Return the operations that have got a slot. What nobody waits for any more goes back."""
        found: list[int] = []
        for key, priority, total in event.granted:
            place = (event.limit, key, priority)
            line = self.lines.get(place)
            if line is None or total <= line.granted:
                continue
            new, line.granted = total - line.granted, total
            taken = [
                line.waiting.popitem(last=False)[0] for _ in range(min(new, len(line.waiting)))
            ]
            line.held += len(taken)
            found += taken
            if len(taken) < new:
                self.changed[place] = None
        self._begun += found
        return found

    def begin_anew(self) -> None:
        """Forget all: another run goes on, which the limits do not know."""
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
    """Have the operations begin that are granted slots, or the code of the execution."""
    own = state.own_slot
    if own is not None and event.sender.endswith(_OWN):
        if own.granted(event):
            state.begin(event.at)
        return
    for seq in state.slots_of().take(event):
        task = state.tasks[seq]
        task.waits, task.since = False, event.at
        state.in_flight += 1
        state.expect(seq, max(event.at, state.now))


def slots_by_name(execution_id: str, state: ExecutionState) -> Iterator[tuple[str, Slots]]:
    """Return what the run has of limits, and under which name it has told them."""
    if state.slots is not None:
        yield f"{execution_id}/{state.generation()}", state.slots
    if (own := state.own_slot) is not None:
        yield f"{execution_id}/{own.run or state.generation()}{_OWN}", own.slots


def is_granted(state: ExecutionState, message: events.SlotsGranted) -> bool:
    """Return whether slots are granted to this run that it does not know of."""
    name = message.sender.partition("/")[2]
    named = ((one.partition("/")[2], slots) for one, slots in slots_by_name("", state))
    return any(name == one and slots.is_new(message) for one, slots in named)


# What is said to the limits


def see_to_limit(recorder: Recorder, limit: str, what: str = "ctx.task()") -> None:
    """See to it that the execution of a limit is there, before it is asked by `what`. Raises UsageError if
    there is no such limit.
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
    """Raise UsageError if there is no such limit, unless an event of that kind with those fields is what the
    history has next: then it was there. What was refused is in no history, and is refused again.
    """
    recorded = recorder.recorded
    if recorded is None or not recorded.is_next(kind, fields):
        check_declared(limit, what)


def tell_limits(execution_id: str, state: ExecutionState) -> list[commands.SendMessage]:
    """Return what limits are to be told of what has changed; that is told then."""
    found: list[commands.SendMessage] = []
    for sender, slots in slots_by_name(execution_id, state):
        if slots.changed:
            changed, slots.changed = slots.changed, {}
            found += _standing(sender, slots, execution_id, state, changed)
    return found


def tell_again(
    execution_id: str, state: ExecutionState, now: int, limit: str = "", sender: str = ""
) -> list[commands.SendMessage]:
    """Return what limits, or that one, are told of all once more, or of what they know by that name, where
    a message may be lost: they answer it by what they have granted, if the run does not know it.
    """
    found: list[commands.SendMessage] = []
    if not state.closed:
        for name, slots in slots_by_name(execution_id, state):
            if sender in ("", name):
                places = [place for place in slots.lines if limit in ("", place[0])]
                found += _standing(name, slots, execution_id, state, places, f"/again/{now}")
    return found


def leave_limits(
    execution_id: str, state: ExecutionState, *, goes_on: bool = False
) -> Iterator[commands.SendMessage]:
    """Return what limits are told of the end of a run: it gives all back, but for the slot of an execution
    that goes on with another run.
    """
    for sender, slots in slots_by_name(execution_id, state):
        if not (goes_on and sender.endswith(_OWN)):
            yield from (left(name, sender, execution_id, state.now) for name in slots.used)


def left(
    limit: str, sender: str, execution_id: str, at: int, again: str = ""
) -> commands.SendMessage:
    """Return what a limit is told of the end of a run."""
    value = {"from": execution_id, "as": sender}
    return _message(limit, f"{sender}/left/{limit}{again}", at, value)


def _standing(
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
        stands = [key, priority, len(line.waiting), line.granted, line.held]
        by_limit.setdefault(name, []).append(stands)
    for name, lines in by_limit.items():
        value: dict[str, Any] = {"from": execution_id, "as": sender}
        value |= {"at": state.length, "lines": lines}
        if (plan := declared_plan(name)) is not None:
            value["plan"] = plan
        yield _message(name, f"{sender}/slots/{name}/{state.length}{again}", state.now, value)


def _message(name: str, key: str, at: int, value: dict[str, Any]) -> commands.SendMessage:
    signal = events.SignalReceived(at, STANDING, Payload(tree=value), key)
    return commands.SendMessage(limit_id(name), signal, key)


def askers(first: events.ExecutionStarted, history: Iterable[events.Event]) -> dict[str, str]:
    """Return the runs that a limit knows by its history: the ids of their executions. Some have left."""
    found: dict[str, str] = {}
    arguments = first.arguments.tree[0]
    if len(arguments) > 1:
        found = {run: about[0] for run, about in arguments[1]["runs"].items()}
    for event in history:
        if isinstance(event, events.SignalReceived) and event.name == STANDING:
            value = event.value.tree
            if "lines" in value:
                found[value["as"]] = value["from"]
            else:
                found.pop(value["as"], None)
    return found


def send_slots(
    recorder: Recorder, target: str, limit: str, sender: str, granted: list[list[Any]]
) -> None:
    """Grant slots to a run of another execution, once this turn is committed; as the workflow of a limit
    does.
    """
    if recorder.may_start():
        seq = recorder.seq = recorder.seq + 1
        recorder.emit(events.SlotsSent(seq, target, limit, sender, granted))


OWN: Final = 0
"""The number of the operation that waits for it. Operations of code are numbered from 1."""


class OwnSlot:
    """The slot of an execution. Part of the state of its run."""

    __slots__ = ("_waits", "limit", "run", "slots")

    def __init__(self, limit: dict[str, Any]) -> None:
        self.slots = Slots()
        self.limit = {name: value for name, value in limit.items() if name != "held"}
        self.run: str = limit.get("held", "")
        """The generation of the run that has got it; empty if that is the one that runs now."""
        self._waits: bool | None = None

    @property
    def waits(self) -> bool:
        """Whether it is waited for."""
        return self._waits is True

    def begin(self) -> bool:
        """Return whether the code may begin now; else it is asked for."""
        if self.run:
            self.slots.keep(self.limit)
            self._waits = False
        elif self._waits is None:
            self.slots.ask(OWN, self.limit)
            self._waits = True
        return not self._waits

    def granted(self, event: events.SlotsGranted) -> bool:
        """Return whether it is there, and was not before."""
        if not (self.slots.take(event) and self._waits):
            return False
        self._waits = False
        return True

    def begin_anew(self) -> None:
        """Have it under another name, for a run that goes on from the events of another one: what that has
        held is given back, and code that has begun cannot wait.
        """
        self.slots.begin_anew()
        self.run = ""
        if self._waits:
            self.slots.ask(OWN, self.limit)
        elif self._waits is not None:
            self.slots.hold(self.limit)

    def handed_on(self, generation: str) -> dict[str, Any]:
        """Return what the first event of the next run says of it, which goes on with it."""
        return {**self.limit, "held": self.run or generation}


def start_of_code(state: ExecutionState) -> str:
    """Return when the code of an execution begins that has not begun, as a clause."""
    if (begins := state.timers.get(BEGIN)) is not None:
        return f"begins at {moment_text(begins)}"
    name = "" if state.own_slot is None else state.own_slot.limit["name"]
    return f"waits for a slot of limit {name!r}"

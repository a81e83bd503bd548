"""Runs a workflow in memory against the core: the world outside is a seed and a clock.

Task bodies run when the driver says so, messages arrive in the order that a random generator
chooses, and the run in memory can be dropped at any time and revived from the history as text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mini_workflow.codecs import StandardCodec
from mini_workflow.core import commands, events, wire
from mini_workflow.core.decide import Decision, decide
from mini_workflow.core.events import Event, Message, Tick
from mini_workflow.core.failure import Failure
from mini_workflow.core.history import History
from mini_workflow.core.payload import Payload
from mini_workflow.core.recorded import python_version
from mini_workflow.core.replay import replay
from mini_workflow.core.run import Inline, Run
from mini_workflow.core.timing import UNTIMED, Timing
from mini_workflow.testing.simulation.shapes import choose
from mini_workflow.workflow import Workflow
from tests.laws.shapes import entries_of

CODEC = StandardCodec()
START = 1_700_000_000_000
SEED = 7


def define(handler: Any, name: str | None = None) -> Workflow[Any, Any]:
    """A workflow that is not entered into the registry."""
    return Workflow(name or handler.__name__, handler)


def inline_runner(codec: Any) -> Inline:
    """Runs inline tasks as an engine would."""

    def run_inline(
        execution_id: str,
        seq: int,
        name: str,
        payload: bytes,
        written: Any = None,
        headers: Any = None,
    ) -> Payload | Failure:
        function, args, kwargs = codec.restore(payload)
        try:
            encoded: Payload = codec.encode(function(*args, **kwargs), "result")
        except Exception as error:
            failure: Failure = codec.encode_failure(error)
            return failure
        return encoded

    return run_inline


def started(
    definition: Workflow[Any, Any],
    args: Sequence[Any] = (),
    *,
    at: int = START,
    seed: int = SEED,
    behaviour: int = 0,
    timing: Timing = UNTIMED,
    headers: dict[str, str] | None = None,
) -> events.ExecutionStarted:
    """The first event of an execution."""
    arguments = CODEC.encode([list(args), {}], "arguments")
    return events.ExecutionStarted(
        *(at, definition.name, arguments, seed, python_version()),
        behaviour=behaviour,
        headers=headers,
        **timing.to_plain(),
    )


DRIVERS: list[Driver] = []
"""Those of the running test; they are closed behind it."""


class Driver:
    """One execution with everything around it."""

    def __init__(
        self,
        definition: Any,
        *args: Any,
        execution_id: str = "execution-1",
        choices: random.Random | None = None,
        evictions: float = 0.0,
        duplicates: float = 0.0,
        codec: Any = CODEC,
        seed: int = SEED,
        behaviour: int = 0,
    ) -> None:
        self.definition = definition if isinstance(definition, Workflow) else define(definition)
        self.execution_id = execution_id
        self.choices = choices
        self.evictions = evictions
        self.duplicates = duplicates
        self.codec = codec
        self.now = START
        self.events: list[Event] = []
        self.messages: list[Message] = []
        """All that has been delivered, in order."""
        self.dispatched: list[commands.RunTask] = []
        self.commands: list[commands.Command] = []
        self.told: list[Message] = []
        self.bodies: list[tuple[int, int]] = []
        """(seq, attempt) of each task body that ran."""
        self.decision: Decision | None = None
        self.run: Run | None = None
        self.entries = entries_of(self.definition.name)
        DRIVERS.append(self)
        shape = choose("ordered").get(self.definition.name)
        timing = UNTIMED if shape is None else shape.timing
        about = None if shape is None or shape.headers is None else dict(shape.headers)
        self.deliver(
            started(
                self.definition,
                args,
                seed=seed,
                behaviour=behaviour,
                timing=timing,
                headers=about,
            )
        )

    # What happened

    @property
    def history(self) -> History:
        return History(self.events)

    @property
    def lines(self) -> list[str]:
        return self.history.to_lines()

    @property
    def closed(self) -> bool:
        return self.decision is not None and self.decision.condition not in ("new", "running")

    @property
    def closing(self) -> Event:
        return next(event for event in self.events if type(event) in events.CLOSING)

    def result(self) -> Any:
        """The workflow's result. Fails if it has not completed."""
        closing = self.closing
        assert isinstance(closing, events.ExecutionCompleted), closing
        return self.codec.decode(closing.result)

    def failure(self) -> Failure:
        closing = self.closing
        assert isinstance(closing, events.ExecutionFailed), closing
        return closing.failure

    def recorded(self, *kinds: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    # What happens

    def alive(self) -> Run:
        """The run in memory, revived from the text of its history if it is not there."""
        if self.run is None:
            history = History.from_lines(self.lines)
            self.run = replay(
                self.definition, self.execution_id, history, self.codec, inline_runner(self.codec)
            )
        return self.run

    def deliver(self, *messages: Message, check: bool = True) -> Decision:
        """One turn, with its commit and its dispatch."""
        self.messages.extend(messages)
        decision = decide(self.alive(), messages)
        self.decision = decision
        if check and decision.fault is not None:
            raise decision.fault
        self.events.extend(decision.events)
        for command in decision.commands:
            self.commands.append(command)
            if isinstance(command, commands.RunTask):
                self.dispatched.append(command)
        return decision

    def evict(self) -> None:
        """Drop the run from memory in good order."""
        if self.run is not None:
            self.run.close()
            self.run = None

    def crash(self) -> None:
        """Lose the run, as a process that dies does; only the history and the world remain."""
        self.evict()

    def perform(self, command: commands.RunTask) -> Message:
        """Run the body of an attempt; the message that it leads to."""
        self.dispatched.remove(command)
        self.bodies.append((command.seq, command.attempt))
        function, args, kwargs = self.codec.restore(command.payload)
        self.now += 1
        try:
            value = function(*args, **kwargs)
            payload = self.codec.encode(value, "result")
        except Exception as error:
            failure = self.codec.encode_failure(error)
            return events.TaskFailed(self.now, command.seq, command.attempt, failure)
        return events.TaskCompleted(self.now, command.seq, command.attempt, payload)

    def tick(self, by: float | None = None) -> Decision:
        """Let time pass: `by` seconds, or until the next timer or retry."""
        if by is None:
            assert self.decision is not None
            assert self.decision.wake_at is not None, "nothing waits for the time"
            self.now = max(self.now, self.decision.wake_at)
        else:
            self.now += round(by * 1000)
        return self.deliver(Tick(self.now))

    def step(self) -> None:
        """Something happens outside, chosen by `choices`; in order without it."""
        assert self.decision is not None
        can_wait = self.decision.wake_at is not None
        entry = self.entries[0](self) if self.entries and not self.closed else None
        options = len(self.dispatched) + (entry is not None) + can_wait
        assert options, f"nothing can happen any more: {self.decision}"
        if self.choices is None:
            choice = 0
        else:
            choice = self.choices.randrange(options)
            if self.choices.random() < self.evictions:
                self.evict()
        message: Message
        if choice < len(self.dispatched):
            message = self.perform(self.dispatched[choice])
        elif choice == len(self.dispatched) and entry is not None:
            del self.entries[0]
            message = entry
        else:
            assert self.decision.wake_at is not None
            self.now = max(self.now + 1, self.decision.wake_at)
            message = Tick(self.now)
        self.deliver(message)
        self.told.append(message)
        if self.choices is not None and self.choices.random() < self.duplicates:
            again = self.deliver(self.choices.choice(self.told))
            assert again.events == ()

    def finish(self, limit: int = 10_000) -> Driver:
        """Go on until the workflow has closed and nothing is in flight."""
        assert self.decision is not None
        for _ in range(limit):
            if self.closed and not self.dispatched:
                return self
            self.step()
        raise AssertionError(f"no end after {limit} steps: {self.history!r}")


def run(handler: Any, *args: Any, **options: Any) -> Driver:
    """Run a workflow to its end."""
    return Driver(handler, *args, **options).finish()


def turns(recorded: Iterable[Event]) -> list[list[Event]]:
    """The history cut before each incoming event."""
    cut: list[list[Event]] = []
    for event in recorded:
        if type(event) in events.INCOMING:
            cut.append([])
        cut[-1].append(event)
    return cut


def replayed(
    driver: Driver, upto: int | None = None, definition: Any = None
) -> tuple[Decision, Run]:
    """What a fresh run, revived from the first `upto` events as text, says next; not closed yet."""
    lines = [wire.encode(event) for event in driver.events[:upto]]
    definition = driver.definition if definition is None else definition
    revived = replay(
        definition,
        driver.execution_id,
        History.from_lines(lines),
        driver.codec,
        inline_runner(driver.codec),
    )
    return decide(revived, []), revived


def check_replays(driver: Driver) -> None:
    """Every prefix of the history, also one that ends within a turn, replays to what followed."""
    recorded = driver.events
    for upto in range(1, len(recorded) + 1):
        decision, revived = replayed(driver, upto)
        try:
            assert decision.fault is None, (upto, decision.fault)
            end = upto
            while end < len(recorded) and type(recorded[end]) in events.RECORDED:
                end += 1
            assert list(decision.events) == recorded[upto:end], (upto, driver.history)
        finally:
            revived.close()


def chosen(seed: int) -> random.Random:
    """The world as a seed has it."""
    return random.Random(f"world:{seed}")


Shape = Callable[..., Any]

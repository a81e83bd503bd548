"""Begin an execution with events of another one, for a client."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mini_workflow.core import events, wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.comparison import Mismatch, mismatch_of
from mini_workflow.core.events import Event
from mini_workflow.core.fork import cut_of, fork, patched
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import replace
from mini_workflow.core.replay import repeat
from mini_workflow.core.reset import Reset, started_of
from mini_workflow.core.run import Definition, Run
from mini_workflow.core.seed import ENTROPY_BITS, seed_and_key
from mini_workflow.core.state import ExecutionState
from mini_workflow.core.tags import tags_as_text
from mini_workflow.core.validation import check_id, check_reason
from mini_workflow.engine.open_promises import OpenPromise, open_promises_of
from mini_workflow.engine.replies import existing
from mini_workflow.engine.requests import Beginning, Start
from mini_workflow.engine.runs import first_head
from mini_workflow.engine.transport import CheckedStore, Transport
from mini_workflow.engine.turn_data import lines_to_keep
from mini_workflow.engine.watchdog import Watchdog
from mini_workflow.errors import MiniWorkflowError, NonDeterminismError, TurnTimeout, UsageError
from mini_workflow.loop.running import Halt

_SHARED: int = 80
"""Characters of an execution's id that the ids of its children begin with."""


class Forks:
    """Makes forks for a client, and finds open promises. Any thread."""

    def __init__(
        self,
        transport: Transport,
        store: CheckedStore,
        codec: Codec,
        definitions: Callable[[str], Definition],
    ) -> None:
        self._transport = transport
        self._store = store
        self._codec = codec
        self._definitions = definitions

    def make(
        self,
        source: str,
        before: str | int | None,
        at: int | None,
        id: str | None,  # noqa: A002
        patch: Mapping[str | int, Any],
        by: str = "",
    ) -> str:
        """Create the execution, and return its id. Raises what `Execution.fork` raises."""
        check_reason("", by)
        history = self._history(source)
        kept = cut_of(history, before, at)
        name = f"{source[: _SHARED - 14]}.fork-{secrets.token_hex(4)}" if id is None else id
        check_id(name)
        if name[:_SHARED] == source[:_SHARED]:
            raise UsageError(
                f"fork(id={name!r}): children are named after the first {_SHARED} characters of an id. Give "
                "an id whose first characters differ from those of the other execution"
            )
        prefix = history[:kept]
        if patch:
            prefix = patched(
                prefix, patch, lambda seq, value: self._encode(source, prefix, seq, value)
            )
        now = self._transport.now()
        _, key = seed_and_key(secrets.randbits(ENTROPY_BITS))
        request_id = secrets.token_hex(8)
        made = fork(
            prefix,
            source=source,
            execution_id=name,
            at=now,
            request_id=request_id,
            key=key,
            codec=self._codec,
            asked_by=by,
        )
        started = started_of(made.history)
        self._check(name, started.workflow, made.history, patch=bool(patch))
        request = start_of_fork(name, made, now)
        request.fresh = id is None
        self._transport.start([request])
        request.reply.wait()
        return name

    def open_promises(self, execution_id: str) -> list[OpenPromise]:
        """Return the promises that wait, with their tokens. Raises ExecutionNotFound."""
        check_id(execution_id)
        return open_promises_of(existing(execution_id, self._store.load(execution_id)), self._codec)

    def _history(self, execution_id: str) -> list[Event]:
        check_id(execution_id)
        existing(execution_id, self._store.head(execution_id))
        return [wire.decode(line) for line in self._store.history(execution_id)]

    def _encode(self, source: str, prefix: Sequence[Event], seq: int, value: Any) -> Payload:
        """Encode another result of an operation."""
        children = (e.id for e in prefix if isinstance(e, events.ChildStarted) and e.seq == seq)
        codec = self._codec.for_execution(next(children, source))
        return codec.encode(value, "result")

    def _check(self, name: str, workflow: str, history: Sequence[Event], *, patch: bool) -> None:
        """Run the code through the events. Raises NonDeterminismError unless it fits them."""
        run = Run(self._definitions(workflow), name, self._codec)
        watchdog = Watchdog()
        try:
            watchdog.begin(run)
            repeat(run, history)
        except (Halt, KeyboardInterrupt):
            run.loop.fault = run.loop.fault or TurnTimeout("the code was interrupted")
        finally:
            watchdog.end()
            fault = run.fault
            run.close()
            watchdog.close()
        # That an inline task comes next is no fault of the code: it has not been run yet.
        if fault is not None and type(fault) is not UsageError:
            raise _refusal(fault, patch=patch) from fault


def start_of_fork(name: str, made: Reset, now: int) -> Start:
    """Return the request to create the fork `name`, with the history and the messages of `made`."""
    started = started_of(made.history)
    tags = tags_as_text(ExecutionState.of(made.history).tags)
    head = replace(first_head(name, started), started_at=now, tags=tags, busy=True)
    lines = tuple(map(wire.encode, made.history))
    fork = Beginning(head, lines, lines_to_keep(made.messages, head))
    return Start(name, started.workflow, started.arguments, fork=fork)


def _refusal(fault: MiniWorkflowError, *, patch: bool) -> NonDeterminismError:
    why = "with the other results the code" if patch else "today's code"
    sides = mismatch_of(fault) or Mismatch()
    return NonDeterminismError(
        f"fork(): {why} does not fit the events before the cut: {fault}. Cut before the first of them that "
        "does not fit, or fix the code",
        **asdict(sides),
    )

"""Messages: the signals, queries and updates of one run, and their handlers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any

from mini_workflow.core import events, handlers
from mini_workflow.core.calls import required_arguments, takes
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.handlers import ANY, Handler
from mini_workflow.core.payload import Payload
from mini_workflow.core.recorder import Recorder
from mini_workflow.core.slots import start_of_code
from mini_workflow.core.validation import check_name
from mini_workflow.errors import (
    ExecutionClosed,
    NotAllowedInWorkflow,
    SerializationError,
    UnknownHandler,
    UsageError,
)
from mini_workflow.loop.running import Halt


class Messages:
    """The messages of one run. Signals wait in order until the code receives them, each once."""

    __slots__ = (
        "_abort",
        "_arrivals",
        "_handlers",
        "_queries",
        "_queues",
        "_recorder",
        "_signal_handlers",
        "_unbegun",
        "_updates",
        "_waiting",
        "cut",
        "ended",
    )

    def __init__(self, recorder: Recorder, abort: Callable[[BaseException], None]) -> None:
        """`abort` fails the execution with the exception of a signal handler, which nobody awaits."""
        self._recorder = recorder
        self._abort = abort
        self._queues: dict[str, asyncio.Queue[tuple[int, events.SignalReceived]]] = {}
        self._waiting: dict[str, int] = {}
        """The names of the signals that the code awaits, with the number of the waits."""
        self._signal_handlers: dict[str, Handler] = {}
        self._queries: dict[str, Handler] = {}
        self._updates: dict[str, tuple[Handler, Handler | None]] = {}
        self._handlers: dict[asyncio.Task[Any], str] = {}
        self._arrivals = 0
        self._unbegun: dict[asyncio.Task[Any], tuple[int, events.SignalReceived]] = {}
        """The signals whose handler has not made its first step, with their number in order of arrival."""
        self.ended: str | None = None
        """The end of the workflow function in words, such as "completed". Nothing is handled after it."""
        self.cut: list[str] = []
        """The ids of the updates that were being handled at that time, and so have failed."""

    def listening(self) -> bool:
        """Return whether a message from outside could make the workflow go on."""
        return bool(self._waiting or self._signal_handlers or self._updates)

    # Signals

    async def receive(self, name: str) -> Any:
        """Return the next signal of that name."""
        check_name("signal", name)
        queue = self._queue(name)
        while True:
            self._waiting[name] = self._waiting.get(name, 0) + 1
            try:
                _, event = await queue.get()
            finally:
                self._waiting[name] -= 1
                if not self._waiting[name]:
                    del self._waiting[name]
            try:
                return self._recorder.codec.decode_ordered(event.value)
            except SerializationError as error:
                self._recorder.unreadable(event.name, error)
                if self._recorder.loop.fault is not None:
                    raise Halt from error

    async def stream(self, name: str) -> AsyncIterator[Any]:
        """Iterate over all signals of that name, without end."""
        while True:
            yield await self.receive(name)

    def on_signal(self, name: str, handler: Handler) -> None:
        """Handle each signal of that name in order, also those that wait. Raises UsageError."""
        handlers.check_signal_handler(name, handler)
        self._signal_handlers[name] = handler
        for number, event in self._kept(name):
            self._handle_signal(handlers.of_name(name, handler, event.name), number, event)

    def _kept(self, name: str) -> list[tuple[int, events.SignalReceived]]:
        """Take the waiting signals of that name; for ANY, those of all names that the code does not await."""
        names = [name]
        if name == ANY:
            names = [queued for queued in self._queues if queued not in self._waiting]
        found: list[tuple[int, events.SignalReceived]] = []
        for kept in names:
            queue = self._queue(kept)
            while not queue.empty():
                found.append(queue.get_nowait())
        return sorted(found, key=lambda entry: entry[0])

    def signal_received(self, event: events.SignalReceived) -> None:
        """Hand a signal to its handler, or keep it."""
        self._arrivals += 1
        handler = self._signal_handlers.get(event.name)
        if handler is None and ANY in self._signal_handlers and event.name not in self._waiting:
            handler = partial(self._signal_handlers[ANY], event.name)
        if handler is None or self.ended is not None:
            self._queue(event.name).put_nowait((self._arrivals, event))
        else:
            self._handle_signal(handler, self._arrivals, event)

    def unreceived(self) -> list[events.SignalReceived]:
        """Return the signals that nobody has received, in order of arrival."""
        left = list(self._unbegun.values())
        for queue in self._queues.values():
            left.extend(queue._queue)  # type: ignore[attr-defined]
        return [event for _, event in sorted(left, key=lambda entry: entry[0])]

    def all_finished(self) -> bool:
        """Return whether no handler of a signal or an update is at work, besides the calling one."""
        asking = asyncio.current_task(self._recorder.loop)
        return all(task.done() or task is asking for task in self._handlers)

    def unfinished(self) -> list[str]:
        """Return the messages that are being handled, in words."""
        return [
            what
            for task, what in self._handlers.items()
            if not task.done() and task not in self._unbegun
        ]

    def _queue(self, name: str) -> asyncio.Queue[tuple[int, events.SignalReceived]]:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = asyncio.Queue()
        return queue

    def _handle_signal(self, handler: Handler, number: int, event: events.SignalReceived) -> None:
        try:
            value = self._recorder.codec.decode_ordered(event.value)
        except SerializationError as error:
            self._recorder.unreadable(event.name, error)
            return
        task = self._start(f"signal {event.name!r}", self._run_signal(handler, value, event))
        self._unbegun[task] = (number, event)

    async def _run_signal(self, handler: Handler, value: Any, event: events.SignalReceived) -> None:
        self._unbegun.pop(asyncio.current_task(), None)  # type: ignore[arg-type]
        try:
            with self._recorder.around_handler("signal", event):
                await handlers.call(handler, value)
        except (Halt, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException as error:
            self._abort(error)

    # Queries

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """Return the handlers of messages by their kind (signal, query or update) and name."""
        found: dict[tuple[str, str], Handler] = {}
        found |= {("signal", name): handler for name, handler in self._signal_handlers.items()}
        found |= {("query", name): handler for name, handler in self._queries.items()}
        found |= {("update", name): handler for name, (handler, _) in self._updates.items()}
        return found

    def on_query(self, name: str, handler: Handler) -> None:
        """Answer queries of that name. Raises UsageError."""
        handlers.check_handler("query", name, handler)
        self._queries[name] = handler

    def answer(self, name: str, arguments: Payload) -> Payload:
        """Return the encoded answer to a query. Raises UnknownHandler, NotAllowedInWorkflow, any exception of
        the handler, or the run's fault: a run that has stopped half-way answers no queries.
        """
        recorder = self._recorder
        fault = recorder.loop.fault
        # A UsageError says that an inline task comes next, which a replay does not run: no fault of the code.
        if fault is not None and type(fault) is not UsageError:
            raise fault
        args, kwargs = recorder.codec.decode_ordered(arguments)
        recorder.reading = f"the handler of query {name!r}"
        try:
            with recorder.loop.inside():
                # In a context of its own, so that the context variables that it sets do not remain.
                answer = Context().run(self._ask, name, args, kwargs)
                return recorder.codec.encode(answer, f"answer to query {name!r}")
        finally:
            recorder.reading = None

    def _ask(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        handler = self._queries.get(name)
        if handler is None and ANY in self._queries:
            handler = partial(self._queries[ANY], name)
        if handler is None:
            raise UnknownHandler(handlers.unknown("query", name, self._queries))
        handlers.check_arguments(f"query {name!r}", handler, args, kwargs)
        with self._recorder.around_handler("query", name):
            answer = handlers.look(f"the handler of query {name!r}", handler, args, kwargs)
        if inspect.iscoroutine(answer):
            answer.close()
            raise UsageError(
                f"the handler of query {name!r} is asynchronous; a query only reads the "
                "workflow's variables: make it a plain function, or use an update"
            )
        return answer

    # Updates

    def on_update(self, name: str, handler: Handler, validator: Handler | None) -> None:
        """Handle updates of that name, unless the validator raises. Raises UsageError."""
        handlers.check_handler("update", name, handler)
        if validator is not None:
            handlers.check_handler("update", name, validator)
            count = required_arguments(handler)
            if count is not None and not takes(validator, count):
                raise UsageError(
                    f"{validator!r} cannot validate update {name!r}: it is called with the arguments "
                    f"of the handler, so it has to take {count}"
                )
        self._updates[name] = (handler, validator)

    def refusal(self, request: events.UpdateRequested) -> Failure | None:
        """Return the failure with which the workflow refuses an update now; None if it accepts it.

        The call leaves the run unchanged, unless the run's loop is `touched` afterwards.
        """
        recorder = self._recorder
        what = recorder.reading = f"the validator of update {request.name!r}"
        try:
            with recorder.loop.inside():
                args, kwargs = recorder.codec.decode_ordered(request.arguments)
                # In a context of its own, so that the context variables that it sets do not remain.
                Context().run(self._validate, request.name, args, kwargs)
        except Exception as error:
            return recorder.codec.encode_failure(error)
        finally:
            recorder.reading = None
        if recorder.loop.touched:
            return recorder.codec.encode_failure(
                NotAllowedInWorkflow(f"{what} tried to change the workflow; it may only read")
            )
        return None

    def _validate(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        if self.ended is not None:
            raise ExecutionClosed(
                f"execution {self._recorder.execution_id!r} {self.ended} before the update arrived",
                execution_id=self._recorder.execution_id,
            )
        if not (state := self._recorder.state).has_begun():
            raise UnknownHandler(
                f"execution {self._recorder.execution_id!r} has not begun: its code, which handles "
                f"updates, {start_of_code(state)}"
            )
        found = self._update_handlers(name)
        if found is None:
            raise UnknownHandler(handlers.unknown("update", name, self._updates))
        handler, validator = found
        handlers.check_arguments(f"update {name!r}", handler, args, kwargs)
        if validator is not None:
            answer = handlers.look(f"the validator of update {name!r}", validator, args, kwargs)
            if inspect.iscoroutine(answer):
                answer.close()
                raise UsageError(f"the validator of update {name!r} must be a plain function")

    def _update_handlers(self, name: str) -> tuple[Handler, Handler | None] | None:
        """Return the handler and the validator of an update of that name; None if there are none."""
        found = self._updates.get(name)
        if found is None and ANY in self._updates:
            handler, validator = self._updates[ANY]
            found = partial(handler, name), None if validator is None else partial(validator, name)
        return found

    def update_accepted(self, event: events.UpdateAccepted) -> None:
        """Hand an accepted update to its handler."""
        args, kwargs = self._recorder.codec.decode_ordered(event.arguments)
        found = self._update_handlers(event.name)
        if found is None:
            error = UnknownHandler(handlers.unknown("update", event.name, self._updates))
            failure = self._recorder.codec.encode_failure(error)
            self._recorder.emit(events.UpdateFailed(event.id, failure))
            return
        self._start(f"update {event.name!r}", self._run_update(found[0], event, args, kwargs))

    async def _run_update(
        self,
        handler: Handler,
        accepted: events.UpdateAccepted,
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> None:
        ended: Event
        try:
            with self._recorder.around_handler("update", accepted):
                result = await handlers.call(handler, *args, **kwargs)
            ended = events.UpdateCompleted(
                accepted.id, self._recorder.codec.encode(result, "result of the update")
            )
        except (Halt, KeyboardInterrupt):
            raise
        except asyncio.CancelledError:
            closed: Exception = RuntimeError(
                f"the handler of update {accepted.name!r} was cancelled by the workflow's own code"
            )
            if self.ended is not None:
                self.cut.append(accepted.id)
                closed = ExecutionClosed(
                    f"execution {self._recorder.execution_id!r} {self.ended} before the update was "
                    "done",
                    execution_id=self._recorder.execution_id,
                )
            self._recorder.emit(
                events.UpdateFailed(accepted.id, self._recorder.codec.encode_failure(closed))
            )
            raise
        except BaseException as error:
            if self._recorder.dead:
                raise
            ended = events.UpdateFailed(accepted.id, self._recorder.codec.encode_failure(error))
        self._recorder.emit(ended)

    def _start(self, what: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[Any]:
        # Outside of the workflow's code the current context is that of the engine's thread.
        context = Context() if asyncio.current_task(self._recorder.loop) is None else None
        task = self._recorder.loop.create_task(work, name=what, context=context)
        self._handlers[task] = what
        task.add_done_callback(lambda done: self._handlers.pop(done, None) and None)
        return task

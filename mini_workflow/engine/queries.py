"""Send queries for clients, and answer them for the engine. A query changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mini_workflow.core import events
from mini_workflow.core.codec import Codec
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload
from mini_workflow.core.validation import check_id, check_name
from mini_workflow.engine.replies import existing
from mini_workflow.engine.requests import Ask
from mini_workflow.engine.transport import Transport
from mini_workflow.errors import TurnTimeout, UsageError
from mini_workflow.loop.running import Halt

if TYPE_CHECKING:
    from mini_workflow.core.run import Run
    from mini_workflow.engine.cache import Cache
    from mini_workflow.engine.turn import Turns
    from mini_workflow.engine.watchdog import Watchdog
    from mini_workflow.ports.queue import FencedStore


T = TypeVar("T")


class Queries:
    """Answers queries to executions of any status, whichever process runs them."""

    def __init__(self, turns: Turns, cache: Cache, watchdog: Watchdog) -> None:
        self._turns = turns
        self._cache = cache
        self._watchdog = watchdog

    def answer(self, request: Ask) -> None:
        """Answer a query, or fail its reply with the reason."""
        name = request.execution_id
        try:
            run = existing(name, self._turns.look(name))
            try:
                request.reply.give(self._ask(run, request))
            finally:
                if run.loop.touched:
                    self._cache.drop(
                        name
                    )  # it may have changed variables, which a replay would not
                self._turns.let_go(run)
        except (Exception, KeyboardInterrupt) as error:
            request.reply.fail(error)

    def _ask(self, run: Run, request: Ask) -> Payload:
        watchdog = self._watchdog
        try:
            watchdog.begin(run)
            try:
                return run.messages.answer(request.name, request.arguments)
            finally:
                watchdog.end()
        except Halt:
            watchdog.end()
            fault, run.loop.fault = run.loop.fault, None
            raise fault or TurnTimeout(
                f"query {request.name!r} of execution {request.execution_id!r} took too long: have its "
                "handler return a value that is at hand"
            ) from None


class FencedQueries:
    """Answers queries by runs in memory that are as in the store, or else by replayed runs."""

    def __init__(self, store: FencedStore, turns: Turns, cache: Cache, watchdog: Watchdog) -> None:
        self._store = store
        self._turns = turns
        self._cache = cache
        self._queries = Queries(turns, cache, watchdog)

    def ask(self, request: Ask) -> None:
        """Answer a query, or fail its reply with the reason."""
        self._refresh(request.execution_id)
        self._queries.answer(request)

    def refusal(self, execution_id: str, request: events.UpdateRequested) -> Failure | None:
        """Return the failure with which an update would be refused now. None if it would be accepted or was
        accepted, and if the execution is blocked: no code of it runs then.

        Raises ExecutionNotFound, or the fault that keeps its code from going on.
        """
        self._refresh(execution_id)
        head = self._store.head(execution_id)
        if head is not None and head.status == "blocked":
            return None

        def refusal(run: Run) -> Failure | None:
            if request.id in run.state.updates or run.state.closed:
                return None
            if run.fault is not None and type(run.fault) is not UsageError:
                raise run.fault
            return self._turns.watched(run, lambda: run.messages.refusal(request))

        return self._look(execution_id, refusal)

    def is_open(self, execution_id: str, seq: int, secret: str) -> bool:
        """Return whether a promise can be completed by that secret. Raises ExecutionNotFound."""
        self._refresh(execution_id)
        return self._look(
            execution_id,
            lambda run: seq in run.state.promises and run.state.secret(seq) == secret,
        )

    def _look(self, name: str, look: Callable[[Run], T]) -> T:
        run = existing(name, self._turns.look(name))
        try:
            return look(run)
        finally:
            if run.loop.touched:
                self._cache.drop(name)
            self._turns.let_go(run)

    def _refresh(self, name: str) -> None:
        """Drop the run in memory unless it is the same as in the store."""
        meta = self._store.meta(name) if self._store.is_current(name) else None
        if meta is None:
            self._cache.drop(name)
        else:
            self._cache.drop_unless(name, meta.length)


class QueryClient:
    """Sends queries through a transport. Callable from any thread."""

    def __init__(self, transport: Transport, codec: Codec) -> None:
        self._transport = transport
        self._codec = codec

    def ask(
        self, execution_id: str, name: str, args: Any, kwargs: Any, *, for_people: bool = False
    ) -> Any:
        """Return the answer to a query: see `Execution.query`. `for_people` asks for values to look at,
        without their classes.
        """
        check_id(execution_id)
        check_name("query", name)
        codec = self._codec.for_execution(execution_id)
        arguments = codec.encode_arguments(args, kwargs)
        answer = self._transport.ask(Ask(execution_id, name, arguments))
        return codec.show(answer) if for_people else codec.decode(answer)

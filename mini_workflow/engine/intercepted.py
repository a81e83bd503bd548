"""Wrap a transport in interceptors, and tell them of committed turns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from mini_workflow.core import events, wire
from mini_workflow.core.headers import check_headers
from mini_workflow.core.records import replace
from mini_workflow.engine.requests import Ask, Post, Request, Resume, Start, Update
from mini_workflow.engine.transport import Transport
from mini_workflow.engine.turn import Turn
from mini_workflow.errors import StoreError, WireError
from mini_workflow.interceptors import ClientCall, Committed, Interceptors
from mini_workflow.ports import Reader

log = logging.getLogger("mini_workflow.interceptors")

T = TypeVar("T")

_KINDS: dict[type[Any], str] = {
    events.SignalReceived: "signal",
    events.CancelRequested: "cancel",
    events.ExecutionTerminated: "terminate",
    events.PauseRequested: "pause",
    events.DeletionRequested: "delete",
}


def with_interceptors(transport: Transport, interceptors: Interceptors) -> Transport:
    """Return the transport, with interceptors around it if there are any."""
    if not interceptors:
        return transport
    return cast("Transport", InterceptedTransport(transport, interceptors))


class InterceptedTransport:
    """A transport with interceptors around its calls; all else is the other transport's own."""

    def __init__(self, transport: Transport, interceptors: Interceptors) -> None:
        self._transport = transport
        self._interceptors = interceptors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def start(self, requests: Sequence[Start]) -> None:
        """See `Transport.start`: comes back when all are answered."""
        if not requests:
            return
        first = requests[0]
        name = "" if first.message is None else first.message.name
        kind = "start" if first.fork is None else "fork"
        call = ClientCall(kind, first.execution_id, first.workflow, name, len(requests))
        call.headers |= first.headers or {}
        with self._interceptors.around_call(call):
            headers = check_headers(call.headers)
            for request in requests:
                request.headers = headers
                if request.message is not None:
                    request.message = replace(request.message, headers=headers)
            self._transport.start(requests)
            for request in requests:
                request.reply.wait()

    def ask(self, request: Request[T], timeout: float | None = None) -> T:
        """See `Transport.ask`."""
        asked: Any = request
        if isinstance(asked, Update) and asked.known:
            return self._transport.ask(request, timeout)
        call = _call_of(asked)
        with self._interceptors.around_call(call):
            if call.headers:
                _put(asked, check_headers(call.headers))
            return self._transport.ask(request, timeout)

    def post(self, requests: Sequence[Post]) -> None:
        """See `Transport.post`."""
        if not requests:
            return
        call = _call_of(requests[0])
        call.count = len(requests)
        with self._interceptors.around_call(call):
            self._transport.post(requests)


def _call_of(request: Any) -> ClientCall:
    name = request.execution_id
    if isinstance(request, Update):
        return ClientCall("update", name, name=request.name)
    if isinstance(request, Ask):
        return ClientCall("query", name, name=request.name)
    if isinstance(request, Resume):
        return ClientCall("resume", name)
    message: Any = request.message
    if type(message).__name__.startswith("Promise"):
        return ClientCall("promise", name)
    if isinstance(message, events.ResetRequested):
        return ClientCall(message.how, name)
    return ClientCall(_KINDS[type(message)], name, name=getattr(message, "name", ""))


def _put(request: Any, headers: dict[str, str] | None) -> None:
    if isinstance(request, Update):
        request.headers = headers
    elif isinstance(request, Post) and isinstance(request.message, events.SignalReceived):
        request.message = replace(request.message, headers=headers)


def telling(interceptors: Interceptors, store: Reader) -> Callable[[Turn], None] | None:
    """Return what tells interceptors of a committed turn of an execution in the store; None if none of them
    hears of it.
    """
    if not interceptors.hear:
        return None

    def tell(turn: Turn) -> None:
        blocks = turn.head.status == "blocked" and turn.commit.head is not None
        if turn.decision is not None or turn.closing is not None or blocks:
            try:
                interceptors.committed(committed_of(turn, store))
            except StoreError as error:
                log.error(
                    "[%s] interceptors are not told of a commit, because the store failed: %s",
                    turn.head.execution_id,
                    error,
                )

    return tell


def committed_of(turn: Turn, store: Reader) -> Committed:
    """Return what interceptors hear of a turn. Raises StoreError."""
    head, live, decision, closing = turn.head, turn.live, turn.decision, turn.closing
    endings = None if live is None else live.run.state.endings
    started = _stored(head.execution_id, store) if live is None else live.run.started
    taken = () if decision is None else decision.events
    if closing is not None and not any(event is closing for event in taken):
        taken = (*taken, closing)
    begun = head.started_at if started is None else started.at
    if endings is not None and endings.reset_at is not None:
        begun = endings.reset_at
    return Committed(
        head.execution_id,
        head.workflow,
        head.run if started is None else started.run,
        head.status,
        taken,
        dict((None if started is None else started.headers) or {}),
        head.started_at,
        begun,
        (head.closed_at or begun) if live is None else live.run.state.now,
        () if endings is None else endings.take(),
        0 if started is None else started.rerun,
        (head.blocked_kind or "") if head.status == "blocked" else "",
    )


def _stored(execution_id: str, store: Reader) -> events.ExecutionStarted | None:
    """Return the first event of a run that is not in memory; None if it cannot be read."""
    stored = store.load(execution_id)
    try:
        first = wire.decode(stored.events[0]) if stored is not None and stored.events else None
    except WireError:  # which is why the run is not in memory
        return None
    return first if isinstance(first, events.ExecutionStarted) else None

"""Answer direct requests of clients to the orchestrator."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any

from mini_workflow.core import events, wire
from mini_workflow.core.payload import Payload
from mini_workflow.core.validation import check_id
from mini_workflow.engine.delivery import OfAnotherVersion
from mini_workflow.engine.queries import FencedQueries
from mini_workflow.engine.requests import Ask
from mini_workflow.errors import WireError
from mini_workflow.ports.queue import FencedStore
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.stores.sqs.envelopes import dump, parse
from mini_workflow.stores.sqs.messages import SqsMessage

log = logging.getLogger("mini_workflow.runtimes.aws")


class QueryHandler:
    """Answers queries, has updates validated, and tells whether a promise is open.

    It writes no history. An accepted update goes to the queue, as do all messages that change a history.
    """

    def __init__(
        self,
        parts: Container,
        queries: FencedQueries,
        store: FencedStore,
        claim: Callable[[str], object],
    ) -> None:
        self._parts = parts
        self._claim = claim
        self._queries = queries
        self._store = store

    def answer(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return the answer, as an envelope. Raises SignatureInvalid or WireError if the event is not one of
        the engine's.
        """
        kind, name = event["mini_workflow"], event.get("execution_id")
        if not isinstance(name, str):
            raise WireError(f"a query about no execution: {str(event)[:200]}")
        check_id(name)
        envelopes = self._parts.envelopes
        content = parse(envelopes.open(event, ("ask", name, kind)))
        try:
            self._claim(name)
            plain = getattr(self, f"_{kind}")(name, content)
        except OfAnotherVersion as other:
            return self._parts.versions.hand_over(other.version, event)
        except Exception as error:
            codec = self._parts.codec.for_execution(name)
            plain = {"failure": codec.encode_failure(error).to_plain()}
        return envelopes.seal(dump(plain), ("answer", name, kind))

    def _query(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        request = Ask(name, content["name"], Payload(tree=content["arguments"]))
        self._queries.ask(request)
        return {"value": request.reply.wait(0).tree}

    def _update(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        request = wire.decode(content["request"])
        if not isinstance(request, events.UpdateRequested):
            raise WireError("a query with something else than an update")
        refusal = self._queries.refusal(name, request)
        if refusal is not None:
            return {"refusal": refusal.to_plain()}
        key = f"update/{name}/{request.id}/{secrets.token_hex(8)}"
        self._parts.post.send([SqsMessage(name, "messages", content["request"], key)])
        return {"accepted": True}

    def _promise(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        is_open = self._queries.is_open(name, content["seq"], content["secret"])
        meta, head = self._store.meta(name), self._store.head(name)
        assert meta is not None
        assert head is not None
        # A value that comes behind the end is kept for a retry; the caller is told that it has ended.
        is_open = is_open and head.closed_at is None
        return {"open": is_open, "length": meta.length, "run": head.run}

"""CallStore: the calls of failed attempts, for the attempts that follow.

A call is code: the orchestrator that captured it and the worker that runs it have the same version. A
newer orchestrator captures another call for the next attempt. So the first call is kept, as the worker
got it, with its version.
"""

from __future__ import annotations

import logging
from base64 import b64decode
from typing import Any, Final

from mini_workflow.core.records import replace
from mini_workflow.errors import SignatureInvalid, WireError
from mini_workflow.ports import TaskRequest
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.sqs.envelopes import PAYLOADS, Envelopes, dump, parse

log = logging.getLogger("mini_workflow.runtimes.aws")

CALLS: Final = PAYLOADS + "calls/"


class CallStore:
    """A store of calls, which are signed like all content between functions."""

    def __init__(self, bucket: Bucket, envelopes: Envelopes) -> None:
        self._bucket = bucket
        self._envelopes = envelopes

    def keep(self, envelope: dict[str, Any]) -> None:
        """Keep the envelope that a worker was invoked with. Raises StoreUnavailable."""
        key = f"{CALLS}{envelope['execution_id']}/{envelope['seq']}"
        self._bucket.put(key, dump(envelope).encode())

    def find(self, request: TaskRequest) -> tuple[str, TaskRequest] | None:
        """Return the version of the earlier attempts, and the request with their call; None if unknown.

        Raises StoreUnavailable.
        """
        try:
            plain = self._read(request.execution_id, request.seq)
            if plain is None:
                return None
            if plain["name"] != request.name:
                raise WireError(f"it belongs to task {plain['name']!r}")
            call = b64decode(plain["payload"])
            version = plain["version"]
        except (WireError, SignatureInvalid, KeyError, ValueError) as error:
            log.warning(
                "[%s] the call of task %r cannot be read, and is captured anew: %s",
                request.execution_id,
                request.name,
                error,
            )
            return None
        return version, replace(request, payload=call, is_async=plain.get("is_async", False))

    def version(self, execution_id: str, seq: int) -> str:
        """Return the version of the kept call of a task; empty if there is none that can be read.

        Raises StoreUnavailable.
        """
        try:
            plain = self._read(execution_id, seq)
            return "" if plain is None else plain.get("version") or ""
        except (WireError, SignatureInvalid, KeyError, ValueError):
            return ""

    def _read(self, execution_id: str, seq: int) -> dict[str, Any] | None:
        """Return the kept content of a task, or None."""
        found = self._bucket.get(f"{CALLS}{execution_id}/{seq}")
        if found is None:
            return None
        envelope = parse(found.body.decode())
        return parse(
            self._envelopes.open(envelope, purpose_of(execution_id, seq, envelope["attempt"]))
        )


def version_of(function: str) -> str:
    """Return the version at the end of a function's name or ARN; empty if there is none."""
    parts = function.split(":")  # a name, or an ARN of seven parts, before it
    return parts[-1] if len(parts) in (2, 8) and parts[-1].isdecimal() else ""


def purpose_of(execution_id: str, seq: int, attempt: int) -> tuple[str, ...]:
    """Return the purpose of an envelope with a task."""
    return ("task", execution_id, str(seq), str(attempt))

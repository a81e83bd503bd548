"""CallStore: the calls of attempts that have failed, for the attempts that follow.

A call is code: what captured it, and the worker that runs it, are of one version. When the code of an
orchestrator has changed, the call that it captures for another attempt is another one. So the first is
kept, as the worker was handed it, with the version that it is for.
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
    """Keeps and finds calls. They are signed, as everything that crosses from function to function."""

    def __init__(self, bucket: Bucket, envelopes: Envelopes) -> None:
        self._bucket = bucket
        self._envelopes = envelopes

    def keep(self, envelope: dict[str, Any]) -> None:
        """Keep what a worker was invoked with. Raises StoreUnavailable."""
        key = f"{CALLS}{envelope['execution_id']}/{envelope['seq']}"
        self._bucket.put(key, dump(envelope).encode())

    def find(self, request: TaskRequest) -> tuple[str, TaskRequest] | None:
        """Return the version that the attempts before were run by, and the request with the call that
        they ran; None if that is not known. Raises StoreUnavailable.
        """
        try:
            plain = self._read(request.execution_id, request.seq)
            if plain is None:
                return None
            if plain["name"] != request.name:
                raise WireError(f"it is of task {plain['name']!r}")
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
        """Return the version that the call of a task is kept for; empty if none is, or it cannot be
        read, so that none will be taken. Raises StoreUnavailable.
        """
        try:
            plain = self._read(execution_id, seq)
            return "" if plain is None else plain.get("version") or ""
        except (WireError, SignatureInvalid, KeyError, ValueError):
            return ""

    def _read(self, execution_id: str, seq: int) -> dict[str, Any] | None:
        """Return what is kept of a task, or None."""
        found = self._bucket.get(f"{CALLS}{execution_id}/{seq}")
        if found is None:
            return None
        envelope = parse(found.body.decode())
        return parse(
            self._envelopes.open(envelope, purpose_of(execution_id, seq, envelope["attempt"]))
        )


def version_of(function: str) -> str:
    """Return the version that the name of a function ends with; empty if it names none."""
    parts = function.split(":")  # a name, or an ARN of seven parts, before it
    return parts[-1] if len(parts) in (2, 8) and parts[-1].isdecimal() else ""


def purpose_of(execution_id: str, seq: int, attempt: int) -> tuple[str, ...]:
    """Return what an envelope with a task is for."""
    return ("task", execution_id, str(seq), str(attempt))

"""Keep outcomes of attempts in the bucket while their messages cannot be sent."""

from __future__ import annotations

import logging
from typing import Final

from mini_workflow.errors import SignatureInvalid, WireError
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.sqs.envelopes import PAYLOADS
from mini_workflow.stores.sqs.messages import Lost, Post, SqsMessage

log = logging.getLogger("mini_workflow.runtimes.aws")

KEPT: Final = PAYLOADS + "outcomes/"


class Outcomes:
    """A store of outcomes whose messages could not be sent, by attempt.

    A worker that cannot send an outcome writes it here before it ends. The orchestrator that gets the
    report of a lost attempt looks here first, so that a completed attempt is not repeated.
    """

    def __init__(self, bucket: Bucket, post: Post) -> None:
        self._bucket = bucket
        self._post = post

    def keep(self, seq: int, attempt: int, message: SqsMessage) -> None:
        """Keep the message with an outcome. Raises StoreUnavailable."""
        key = _key(message.execution_id, seq, attempt)
        self._bucket.put(key, self._post.write(message).encode())

    def find(self, execution_id: str, seq: int, attempt: int) -> SqsMessage | None:
        """Return the kept message of an attempt, or None. Raises StoreUnavailable."""
        key = _key(execution_id, seq, attempt)
        found = self._bucket.get(key)
        if found is None:
            return None
        try:
            message = self._post.read(found.body.decode())
            if isinstance(message, Lost) or message.execution_id != execution_id:
                raise WireError("not a message to this execution")
        except (WireError, SignatureInvalid, UnicodeDecodeError) as error:
            log.error("[%s] the outcome in %r cannot be read: %s", execution_id, key, error)
            return None
        return message


def _key(execution_id: str, seq: int, attempt: int) -> str:
    return f"{KEPT}{execution_id}/{seq}/{attempt}"

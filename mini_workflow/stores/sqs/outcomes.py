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
    """Keeps the message with the outcome of an attempt, as it was to be sent, under its name.

    A worker that cannot send writes it there before it ends, or is ended. Whoever hears that the
    attempt is lost looks there first: so what is done is not done again.
    """

    def __init__(self, bucket: Bucket, post: Post) -> None:
        self._bucket = bucket
        self._post = post

    def keep(self, seq: int, attempt: int, mail: SqsMessage) -> None:
        """Write it. Raises StoreUnavailable."""
        self._bucket.put(_key(mail.execution_id, seq, attempt), self._post.write(mail).encode())

    def find(self, execution_id: str, seq: int, attempt: int) -> SqsMessage | None:
        """Return what is kept of an attempt, or None. Raises StoreUnavailable."""
        key = _key(execution_id, seq, attempt)
        found = self._bucket.get(key)
        if found is None:
            return None
        try:
            mail = self._post.read(found.body.decode())
            if isinstance(mail, Lost) or mail.execution_id != execution_id:
                raise WireError("not a message to this execution")
        except (WireError, SignatureInvalid, UnicodeDecodeError) as error:
            log.error("[%s] the outcome in %r cannot be read: %s", execution_id, key, error)
            return None
        return mail


def _key(execution_id: str, seq: int, attempt: int) -> str:
    return f"{KEPT}{execution_id}/{seq}/{attempt}"

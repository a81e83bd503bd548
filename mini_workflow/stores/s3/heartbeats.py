"""Keep heartbeats in a bucket: an object for each task."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, cast

from mini_workflow.ports.heartbeats import Heartbeat
from mini_workflow.stores.aws.clients import Clients
from mini_workflow.stores.s3.bucket import Bucket

_FIELDS = frozenset(("attempt", "at", "details"))


class S3Heartbeats:
    """Implements `HeartbeatStore`. All keys begin with a `prefix`, below which objects expire.

    Heartbeats of attempts that are over stay until then.
    """

    def __init__(self, bucket: Bucket, clients: Clients, prefix: str) -> None:
        self._bucket = bucket
        self._clients = clients
        self._prefix = prefix

    def keep(self, beats: Sequence[Heartbeat], over: Collection[tuple[str, int, int]]) -> None:
        """See `HeartbeatStore.keep`. If two processes run attempts of one task, the last write counts."""
        for beat in beats:
            plain = {"attempt": beat.attempt, "at": beat.at, "details": beat.details}
            self._bucket.put(self._key(beat.execution_id, beat.seq), json.dumps(plain).encode())

    def last(self, execution_id: str, seqs: Sequence[int]) -> list[Heartbeat]:
        """See `HeartbeatStore.last`."""
        keys = [self._key(execution_id, seq) for seq in seqs]
        found = zip(seqs, self._clients.all(self._bucket.get, keys), strict=True)
        beats = [_read(execution_id, seq, one.body) for seq, one in found if one is not None]
        return [beat for beat in beats if beat is not None]

    def details(self, execution_id: str, seq: int) -> str | None:
        """Return the last details of a task's heartbeats, as JSON text; None if there are none."""
        found = self._bucket.get(self._key(execution_id, seq))
        if found is None:
            return None
        beat = _read(execution_id, seq, found.body)
        # Older versions wrote the details alone.
        return found.body.decode() if beat is None else beat.details

    def _key(self, execution_id: str, seq: int) -> str:
        return f"{self._prefix}{execution_id}/{seq}"


def _read(execution_id: str, seq: int, body: bytes) -> Heartbeat | None:
    try:
        plain: Any = json.loads(body)
    except ValueError:
        return None
    if not isinstance(plain, dict) or cast("dict[str, Any]", plain).keys() != _FIELDS:
        return None
    found = cast("dict[str, Any]", plain)
    return Heartbeat(execution_id, seq, found["attempt"], found["at"], found["details"])

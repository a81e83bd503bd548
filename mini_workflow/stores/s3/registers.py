"""Registers: a place for each execution, written only if it is unchanged; and those in a bucket."""

from __future__ import annotations

from typing import Final, Protocol

from mini_workflow.stores.aws.limits import HEADER_BYTES
from mini_workflow.stores.s3 import execution_object as form
from mini_workflow.stores.s3 import tombstone
from mini_workflow.stores.s3.bucket import Bucket, Object
from mini_workflow.stores.s3.execution_object import ExecutionObject
from mini_workflow.stores.s3.tombstone import TAG, Tombstone

ROOT: Final = "executions/"
"""The beginning of the keys of all objects of executions."""


class Registers(Protocol):
    """The registers of executions: each holds an object, or the tombstone of a deleted execution.

    A write gives the etag of the content that it replaces, and takes effect only if that is still there.
    Each write has another `writer`, by which a retried write recognizes its first try.
    """

    def get(self, execution_id: str) -> ExecutionObject | Tombstone | None:
        """Return the whole content, or None."""
        ...

    def look(self, execution_id: str) -> ExecutionObject | Tombstone | None:
        """Return the content without its lines, where that costs less."""
        ...

    def changed(self, execution_id: str, etag: str) -> bool:
        """Return whether the content has another etag by now."""
        ...

    def write(
        self, execution_id: str, value: ExecutionObject | Tombstone, events: int, etag: str | None
    ) -> str | None:
        """Write over the content with this etag, or into an empty register for None.

        The last `events` lines of an object's tail are new. Returns the new etag, or None if the
        register has other content.
        """
        ...

    def compact(self, execution_id: str, etag: str) -> None:
        """Remove earlier writes than that with this etag: their events are sealed, or not needed."""
        ...


class BucketRegisters:
    """Registers in a bucket: an object for each, which is written anew with each turn."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def get(self, execution_id: str) -> ExecutionObject | Tombstone | None:
        """See `Registers.get`."""
        found = self._bucket.get(_key(execution_id))
        if found is None:
            return None
        return _stone(found) or form.decode(found.body, found.etag)

    def look(self, execution_id: str) -> ExecutionObject | Tombstone | None:
        """See `Registers.look`."""
        found = self._bucket.get(_key(execution_id), first=HEADER_BYTES)
        if found is None:
            return None
        try:
            header = _stone(found) or form.decode_header(found.body)
        except ValueError:
            header = None  # the header is longer
        return header or self.get(execution_id)

    def changed(self, execution_id: str, etag: str) -> bool:
        """See `Registers.changed`."""
        return self._bucket.changed(_key(execution_id), etag)

    def write(
        self, execution_id: str, value: ExecutionObject | Tombstone, events: int, etag: str | None
    ) -> str | None:
        """See `Registers.write`."""
        key = _key(execution_id)
        if isinstance(value, Tombstone):
            assert etag is not None
            return self._bucket.replace(key, tombstone.encode(value), etag, TAG)
        body = form.encode(value)
        if etag is None:
            return self._bucket.create(key, body)
        return self._bucket.replace(key, body, etag)

    def compact(self, execution_id: str, etag: str) -> None:
        """See `Registers.compact`. Does nothing, since each write replaces the one before."""


def _key(execution_id: str) -> str:
    return f"{ROOT}{execution_id}.json"


def _stone(found: Object) -> Tombstone | None:
    return tombstone.decode(found.body, found.etag)

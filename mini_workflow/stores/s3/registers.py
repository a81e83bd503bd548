"""Registers: one for each execution, which is written only if nobody else has, and those in a bucket."""

from __future__ import annotations

from typing import Final, Protocol

from mini_workflow.stores.aws.limits import HEADER_BYTES
from mini_workflow.stores.s3 import execution_object as form
from mini_workflow.stores.s3 import tombstone
from mini_workflow.stores.s3.bucket import Bucket, Object
from mini_workflow.stores.s3.execution_object import ExecutionObject
from mini_workflow.stores.s3.tombstone import TAG, Tombstone

ROOT: Final = "executions/"
"""What the keys of all objects begin with that belong to executions."""


class Registers(Protocol):
    """The register of each execution: its object, or the tombstone of one that was deleted.

    A write says by an etag what it is written over, and takes effect only if that still stands there.
    One whose answer was lost, and that boto3 has tried again, is known by its writer, another one with
    each write.
    """

    def get(self, execution_id: str) -> ExecutionObject | Tombstone | None:
        """Return what stands there, whole, or None."""
        ...

    def look(self, execution_id: str) -> ExecutionObject | Tombstone | None:
        """Return the same without the lines, where that costs less."""
        ...

    def changed(self, execution_id: str, etag: str) -> bool:
        """Return whether something else stands there by now."""
        ...

    def write(
        self, execution_id: str, value: ExecutionObject | Tombstone, events: int, etag: str | None
    ) -> str | None:
        """Write over what has this etag; over nothing for None. The last so many `events` of an object's
        tail are new. Returns the new etag, or None if something else stands there.
        """
        ...

    def compact(self, execution_id: str, etag: str) -> None:
        """Remove what only led to what has this etag: all earlier events are sealed, or not needed."""
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
            header = None  # it is longer
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
        """See `Registers.compact`: each write has taken the place of the one before."""


def _key(execution_id: str) -> str:
    return f"{ROOT}{execution_id}.json"


def _stone(found: Object) -> Tombstone | None:
    return tombstone.decode(found.body, found.etag)

"""Bucket: objects on S3, with conditional writes that may be retried."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final

from mini_workflow.core.records import frozen
from mini_workflow.errors import StoreUnavailable
from mini_workflow.stores.aws.clients import Clients, code_of, translate_errors

CONFLICTS: Final = 8
"""How often a write is tried that S3 answers with ConditionalRequestConflict, since another write of the
same key was under way. Our own bound."""

LOST: Final = ("PreconditionFailed", "412", "NoSuchKey", "404")
"""The answers of S3 if the object is not the one that a conditional write expects."""

CONFLICT: Final = ("ConditionalRequestConflict", "409")


@frozen
class Object:
    """An object's content and its ETag, quotes included."""

    body: bytes
    etag: str


class Bucket:
    """The objects below a prefix. Every method raises StoreUnavailable if a call of S3 fails."""

    def __init__(
        self,
        clients: Clients,
        name: Callable[[], str],
        prefix: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clients = clients
        self._name = name
        self._prefix = prefix
        self._sleep = sleep

    def get(self, key: str, *, first: int | None = None) -> Object | None:
        """Return the object, or its first bytes only; None if there is none."""
        options = {} if first is None else {"Range": f"bytes=0-{first - 1}"}
        return self._get(key, options)

    def changed(self, key: str, etag: str) -> bool:
        """Return whether the object has another ETag, or is gone."""
        try:
            self._get(key, {"IfNoneMatch": etag})
        except _NotModified:
            return False
        return True

    def put(self, key: str, body: bytes) -> None:
        """Write an object, in the place of any other."""
        with translate_errors(self._doing("writing", key)):
            self._s3.put_object(Bucket=self._name(), Key=self._prefix + key, Body=body)

    def create(self, key: str, body: bytes) -> str | None:
        """Write an object unless there is one. Return its ETag, or None if there is another object.

        `body` must differ from objects that others write there, or mean the same.
        """
        return self._put_if(key, body, {"IfNoneMatch": "*"})

    def replace(self, key: str, body: bytes, etag: str, tag: str = "") -> str | None:
        """Write over the object with this ETag. Return the new ETag, or None if another object is there.

        The new object has this `tag` ("name=value"), or none.
        """
        return self._put_if(key, body, {"IfMatch": etag, **({"Tagging": tag} if tag else {})})

    def delete(self, key: str) -> None:
        """Remove the object. Harmless if there is none."""
        with translate_errors(self._doing("deleting", key)):
            self._s3.delete_object(Bucket=self._name(), Key=self._prefix + key)

    def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return keys below a prefix, in order, beginning behind `after`."""
        found: list[str] = []
        start = self._prefix + (after or prefix)
        while len(found) < limit:
            with translate_errors(self._doing("listing", prefix)):
                page = self._s3.list_objects_v2(
                    Bucket=self._name(),
                    Prefix=self._prefix + prefix,
                    StartAfter=start,
                    MaxKeys=min(1_000, limit - len(found)),
                )
            keys = [item["Key"] for item in page.get("Contents", ())]
            found += [key[len(self._prefix) :] for key in keys]
            if not page.get("IsTruncated") or not keys:
                break
            start = keys[-1]
        return found

    def folders(self, prefix: str) -> list[str]:
        """Return the first 1,000 prefixes below a prefix, in order, each up to and with its next slash."""
        with translate_errors(self._doing("listing", prefix)):
            page = self._s3.list_objects_v2(
                Bucket=self._name(), Prefix=self._prefix + prefix, Delimiter="/"
            )
        return [each["Prefix"][len(self._prefix) :] for each in page.get("CommonPrefixes", ())]

    @property
    def _s3(self) -> Any:
        return self._clients.get("s3")

    def _doing(self, what: str, key: str) -> str:
        return f"{what} {self._prefix + key!r} in bucket {self._name()!r}"

    def _get(self, key: str, options: dict[str, Any]) -> Object | None:
        with translate_errors(self._doing("reading", key)):
            try:
                answer = self._s3.get_object(Bucket=self._name(), Key=self._prefix + key, **options)
                return Object(answer["Body"].read(), answer["ETag"])
            except Exception as error:
                code = code_of(error)
                if code in ("NoSuchKey", "404"):
                    return None
                if code in ("NotModified", "304"):
                    raise _NotModified from None
                raise

    def _put_if(self, key: str, body: bytes, condition: dict[str, str]) -> str | None:
        unconfirmed = False
        for attempt in range(CONFLICTS):
            with translate_errors(self._doing("writing", key)):
                try:
                    answer = self._s3.put_object(
                        Bucket=self._name(), Key=self._prefix + key, Body=body, **condition
                    )
                    return answer["ETag"]
                except Exception as error:
                    code = code_of(error)
                    if code not in CONFLICT and code not in LOST:
                        raise
                    unconfirmed = code in CONFLICT
            if not unconfirmed:
                # It may be our own: boto3 tries a write again whose answer was lost.
                found = self.get(key)
                return found.etag if found is not None and found.body == body else None
            self._sleep(random.uniform(0.01, 0.05 * 2 ** min(attempt, 4)))
        raise StoreUnavailable(
            f"{self._doing('writing', key)}: other writes were under way {CONFLICTS} times: try again"
        )


class _NotModified(Exception):
    """The object has the ETag that was asked about."""

"""Streams in a bucket: whatever call fails, and whoever writes beside, each chunk is there once."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from mini_workflow.core.streams import StreamWrite
from mini_workflow.errors import StoreUnavailable
from mini_workflow.ports import Commit
from mini_workflow.ports.queue import NO_EFFECTS, NO_WAKEUPS, PendingEffects
from mini_workflow.stores.aws.clients import Clients
from mini_workflow.stores.cached import CachedStore
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.s3.heartbeats import S3Heartbeats
from mini_workflow.stores.s3.object_store import ObjectStore
from mini_workflow.stores.s3.store import S3Store
from mini_workflow.stores.s3.streams import BATCH, S3Streams
from mini_workflow.testing.contracts.backend import creation, head


class Objects:
    """S3, as far as a bucket needs it, in memory. A call may fail, before it is done or after."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.fails_at: int | None = None
        self.after = False
        self.meanwhile: Any = None

    def __call__(self, service: str) -> Objects:
        return self

    def _call(self, name: str, done: Any) -> Any:
        self.calls.append(name)
        fails = len(self.calls) == self.fails_at
        if fails and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        elif fails and not self.after:
            raise StoreUnavailable("it fails, as the test wants it")
        answer = done()
        if fails and self.after:
            raise StoreUnavailable("the answer is lost, as the test wants it")
        return answer

    def get_object(self, *, Key: str, **_: Any) -> Any:  # noqa: N803 - boto3's own
        def get() -> Any:
            if Key not in self.objects:
                raise Missing("NoSuchKey")
            return {"Body": Body(self.objects[Key]), "ETag": str(hash(self.objects[Key]))}

        return self._call("get", get)

    def put_object(self, *, Key: str, Body: bytes, **condition: Any) -> Any:  # noqa: N803
        def put() -> Any:
            if condition.get("IfNoneMatch") and Key in self.objects:
                raise Missing("PreconditionFailed")
            self.objects[Key] = Body
            return {"ETag": str(hash(Body))}

        return self._call("put", put)

    def delete_object(self, *, Key: str, **_: Any) -> Any:  # noqa: N803
        def deleted() -> Any:
            self.objects.pop(Key, None)
            return {}

        return self._call("delete", deleted)

    def list_objects_v2(self, *, Prefix: str = "", Delimiter: str = "", **more: Any) -> Any:  # noqa: N803
        def listed() -> Any:
            start = more.get("StartAfter", "")
            keys = [key for key in sorted(self.objects) if key.startswith(Prefix) and key > start]
            if Delimiter:
                ends = [len(Prefix) + key[len(Prefix) :].find("/") + 1 for key in keys]
                found = sorted({key[:end] for key, end in zip(keys, ends, strict=True)})
                return {"CommonPrefixes": [{"Prefix": one} for one in found]}
            page = keys[: more.get("MaxKeys", 1_000)]
            return {
                "Contents": [{"Key": key} for key in page],
                "IsTruncated": len(page) < len(keys),
            }

        return self._call("list", listed)


class Missing(Exception):
    """What boto3 raises."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


class Body:
    """What boto3 answers."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self) -> bytes:
        return self._data


def opened(objects: Objects) -> S3Streams:
    clients = Clients(objects)
    bucket = Bucket(clients, lambda: "b", "")
    histories = ObjectStore(bucket, clients)
    if not objects.objects:
        S3Store(histories, lambda messages: None).commit([creation("a")])
    objects.calls.clear()
    beats = S3Heartbeats(bucket, clients, "heartbeats/")
    return S3Streams(bucket, clients, histories, beats)


def writes(first: int, count: int, source: int = 1) -> list[StreamWrite]:
    return [
        StreamWrite("a", "s", source, 1, n, f"{source}.{n}") for n in range(first, first + count)
    ]


def bodies(objects: Objects) -> list[str]:
    objects.fails_at = None
    page = opened(objects).read("a", "s", 0, 10_000)
    assert [chunk.offset for chunk in page.chunks] == list(range(1, len(page.chunks) + 1))
    return [chunk.body for chunk in page.chunks]


def tried(streams: S3Streams, batch: list[StreamWrite]) -> None:
    """As a buffer does: until it is done."""
    while True:
        try:
            answers = streams.append(batch)
        except StoreUnavailable:
            continue
        assert set(answers) <= {"kept", "known"}
        return


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_any_call_may_fail(after: bool) -> None:
    for n in count(1):
        objects = Objects()
        streams = opened(objects)
        objects.fails_at, objects.after = n, after
        for first in (1, 4, 7):
            tried(streams, writes(first, 3))
        if len(objects.calls) < n:
            assert n > 5
            return
        assert bodies(objects) == [f"1.{n}" for n in range(1, 10)]


def test_another_writer_may_come_in_at_any_call() -> None:
    for n in range(1, 6):
        objects = Objects()
        one, other = opened(objects), opened(objects)
        objects.fails_at = n
        objects.meanwhile = lambda other=other: tried(other, writes(1, 2, source=2))
        for first in (1, 3):
            tried(one, writes(first, 2))
        assert objects.meanwhile is None
        tried(other, writes(1, 3, source=2))
        found = bodies(objects)
        assert sorted(found) == sorted([*(f"1.{n}" for n in range(1, 5)), "2.1", "2.2", "2.3"])
        for source in ("1", "2"):
            own = [body for body in found if body.startswith(source)]
            assert own == sorted(own)


def test_reading_along_asks_for_the_next_batch_alone() -> None:
    """Whoever reads along costs two reads of objects a look, and no listing."""
    objects = Objects()
    writer, reader = opened(objects), opened(objects)
    after = 0
    for first in (1, 4, 7):
        writer.append(writes(first, 3))
        objects.calls.clear()
        page = reader.read("a", "s", after, 100)
        after = page.chunks[-1].offset
        assert [chunk.body for chunk in page.chunks] == [f"1.{first + n}" for n in range(3)]
        assert objects.calls == ["get"] * 3
        objects.calls.clear()
        assert reader.read("a", "s", after, 100).chunks == []
        assert objects.calls == ["get"] * 2


def test_a_stream_is_over_only_with_what_the_last_turn_has_written() -> None:
    """It is written while somebody reads: at any of the reader's calls."""
    for n in range(1, 6):
        objects = Objects()
        writer, reader = opened(objects), opened(objects)
        clients = Clients(objects)
        store = CachedStore(ObjectStore(Bucket(clients, lambda: "b", ""), clients), 10)
        assert store.load("a") is not None
        end = Commit("a", 1, head=head("a", status="completed", closed_at=2_000))
        left = PendingEffects(chunks=tuple(writes(1, 2)))
        assert store.commit(end, left, NO_WAKEUPS, 0)

        def finish(store: Any = store, writer: S3Streams = writer) -> None:
            writer.append(writes(1, 2))
            assert store.commit(Commit("a", 1, head=None), NO_EFFECTS, NO_WAKEUPS, 0)

        objects.calls.clear()
        objects.fails_at, objects.meanwhile = n, finish
        page = reader.read("a", "s", 0, 100)
        if objects.meanwhile is not None:
            assert not page.over
            assert n > 3
            return
        assert len(page.chunks) == 2 or not page.over
        assert reader.read("a", "s", 0, 100).over


def test_a_batch_has_a_bound() -> None:
    objects = Objects()
    opened(objects).append(writes(1, BATCH + 1))
    assert len([key for key in objects.objects if "streams" in key]) == 2
    assert len(bodies(objects)) == BATCH + 1

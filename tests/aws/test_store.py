"""ObjectStore on S3 and on DynamoDB keep the contracts of a Store that anybody may write to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

import pytest

from mini_workflow.ports import Clock, Commit, QueuedMessage
from mini_workflow.stores.aws.clients import Clients
from mini_workflow.stores.dynamodb.registers import TableRegisters
from mini_workflow.stores.dynamodb.table import Table, TableMarkers
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.s3.heartbeats import S3Heartbeats
from mini_workflow.stores.s3.object_store import ObjectStore
from mini_workflow.stores.s3.store import S3Store
from mini_workflow.stores.s3.streams import S3Streams
from mini_workflow.testing.contracts.backend import Opened, StoreCase, creation
from mini_workflow.testing.contracts.deletion import DeletionContract
from mini_workflow.testing.contracts.runs import RunsContract
from mini_workflow.testing.contracts.store import ListingContract, StoreContract
from mini_workflow.testing.contracts.streams import StreamContract
from tests.aws.cloud import BUCKET, EmulatedCloud
from tests.aws.emulator.server import Server


class OpenedStore:
    """A store on the bucket of the emulator, with clients of its own."""

    def __init__(self, clients: Clients, prefix: str, table: str | None = None) -> None:
        self.posted: list[QueuedMessage] = []
        self._clients = clients
        bucket = Bucket(clients, lambda: BUCKET, prefix)
        objects = ObjectStore(bucket, clients)
        if table is not None:
            items = Table(clients, lambda: table, prefix)
            objects = ObjectStore(
                bucket,
                clients,
                registers=TableRegisters(items, bucket),
                markers=TableMarkers(items),
            )
        self.store = S3Store(objects, self._post)
        self.streams = S3Streams(
            bucket, clients, objects, S3Heartbeats(bucket, clients, "heartbeats/")
        )

    def _post(self, messages: Sequence[QueuedMessage]) -> None:
        self.posted += messages

    def close(self) -> None:
        self._clients.close()


class OnS3(StoreCase):
    @pytest.fixture(autouse=True)
    def _bucket(self, aws: Server) -> None:
        self.aws = aws
        self.prefix = f"{uuid4().hex}/"
        s3 = aws.client("s3")
        with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket=BUCKET)

    def open_store(self, name: str, clock: Clock) -> Opened:
        return OpenedStore(Clients(self.aws.client), self.prefix)

    def damage(self, text: str) -> None:
        s3 = self.aws.client("s3")
        damaged = text[:-1].encode() + b"\xff"
        for found in s3.list_objects_v2(Bucket=BUCKET, Prefix=self.prefix).get("Contents", ()):
            body = s3.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read()
            changed = re.sub(re.escape(text.encode()) + b'(?=")', lambda _: damaged, body)
            if changed != body:
                s3.put_object(Bucket=BUCKET, Key=found["Key"], Body=changed)


class OnDynamoDB(OnS3):
    @pytest.fixture(autouse=True)
    def _table(self, aws: Server) -> None:
        self.cloud = EmulatedCloud(aws)
        self.cloud.create_table()

    def open_store(self, name: str, clock: Clock) -> Opened:
        return OpenedStore(Clients(self.aws.client), self.prefix, self.cloud.name)

    def damage(self, text: str) -> None:
        """An item has no bytes that are no text: another text takes the place."""
        dynamodb = self.aws.client("dynamodb")
        for item in dynamodb.scan(TableName=self.cloud.name)["Items"]:
            body = item.get("body", {}).get("S", "")
            changed = body.replace(f'"{text}"', f'"{text[:-1]}\ufffd"')
            if changed != body:
                item["body"] = {"S": changed}
                dynamodb.put_item(TableName=self.cloud.name, Item=item)


class TestStore(OnS3, StoreContract): ...


class TestTable(OnDynamoDB, StoreContract): ...


class TestTableListing(OnDynamoDB, ListingContract):
    unanswered = frozenset({"parent", "id_prefix", "closed_after", "order"})


class TestTableRuns(OnDynamoDB, RunsContract): ...


class TestTableDeletion(OnDynamoDB, DeletionContract): ...


class TestListing(OnS3, ListingContract):
    unanswered = frozenset({"parent", "id_prefix", "closed_after", "order"})


class TestRuns(OnS3, RunsContract): ...


class TestStreams(OnS3, StreamContract): ...


class TestDeletion(OnS3, DeletionContract): ...


class TestOutbox(OnS3):
    def test_messages_are_posted_once_their_commit_is_written(self) -> None:
        opened = self.open_store("one", self.clock)
        assert isinstance(opened, OpenedStore)
        message = QueuedMessage("b", "{}", "key")
        first = creation("a")
        lost = Commit("a", 7, ("{}",), outbox=(message,))
        won = Commit("a", 1, ("{}",), outbox=(message,))
        assert opened.store.commit([first, lost]) == [True, False]
        assert opened.posted == []
        assert opened.store.commit([won]) == [True]
        assert opened.posted == [message]
        opened.close()

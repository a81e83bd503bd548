"""The executions on S3 keep the contracts of a queued backend, and cost the calls that are stated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from mini_workflow.ports.queue import FencedStore
from mini_workflow.stores.aws.clients import Clients
from mini_workflow.stores.cached import CachedStore
from mini_workflow.stores.dynamodb.registers import TableRegisters
from mini_workflow.stores.dynamodb.table import Table, TableMarkers
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.s3.object_store import ObjectStore
from mini_workflow.stores.s3.store import S3Store
from mini_workflow.testing.contracts.fenced_deletion import FencedDeletionContract
from mini_workflow.testing.contracts.fenced_store import FencedStoreContract
from tests.aws.cloud import BUCKET, Cloud, EmulatedCloud
from tests.aws.in_process import InProcessCloud
from tests.paths import ROOT

GUIDE = ROOT / "docs" / "writing-a-backend.md"

ROUND_TRIPS = {
    "create": 2,
    "create, the id is taken": 4,
    "meta, from memory": 0,
    "load, from memory": 0,
    "meta, cold": 1,
    "meta, of nothing": 1,
    "commit": 1,
    "commit, refused": 2,
    "is_current, True": 1,
    "is_current, False": 1,
    "done and forget": 0,
    "commit, another status": 3,
}

ROUND_TRIPS_OF_A_TABLE = {**ROUND_TRIPS, "create, the id is taken": 3, "commit, refused": 1}


class OnS3(FencedStoreContract):
    ROUND_TRIPS = ROUND_TRIPS

    emulated = False
    write = "s3.PutObject"

    @pytest.fixture(autouse=True)
    def _cloud(self, request: pytest.FixtureRequest) -> Iterator[None]:
        aws = request.getfixturevalue("aws") if self.emulated else None
        self.cloud: Cloud = InProcessCloud() if aws is None else EmulatedCloud(aws)
        self.clients = Clients(self.cloud.client)
        self.documents = self.open_documents()
        yield
        self.clients.close()
        self.cloud.close()

    def open_documents(self) -> ObjectStore:
        bucket = Bucket(self.clients, lambda: BUCKET, f"{self.cloud.name}/")
        return ObjectStore(bucket, self.clients)

    def open_store(self) -> FencedStore:
        return CachedStore(self.documents, 100)

    def open_reader(self) -> S3Store:
        return S3Store(self.documents, lambda messages: None)

    @contextmanager
    def failing(self, *, after: bool) -> Iterator[None]:
        """The writes of executions, not those of their markers, which come before."""
        last = [""]

        def fail_before(call: str, request: Any) -> None:
            last[0] = self.place_of(request)
            if call == self.write and not after:
                raise EndpointConnectionError(endpoint_url=request.url)

        def fail_after(call: str, response: Any) -> None:
            if call == self.write and self.is_execution(last[0]):
                raise ReadTimeoutError(endpoint_url=last[0])

        self.cloud.hooks.append(fail_before)
        if after:
            self.cloud.after.append(fail_after)
        try:
            yield
        finally:
            self.cloud.hooks.clear()
            self.cloud.after.clear()

    def place_of(self, request: Any) -> str:
        """What a request writes to."""
        return urlsplit(request.url).path

    def is_execution(self, place: str) -> bool:
        """Whether that is an execution, and no marker."""
        return place.endswith(".json")

    def calls(self) -> int:
        return sum(self.cloud.calls.values())


class TestInProcess(OnS3, FencedDeletionContract): ...


class TestOnTheEmulator(OnS3, FencedDeletionContract):
    emulated = True


class OnDynamoDB(OnS3):
    ROUND_TRIPS = ROUND_TRIPS_OF_A_TABLE

    write = "dynamodb.PutItem"

    def open_documents(self) -> ObjectStore:
        self.cloud.create_table()
        table = Table(self.clients, lambda: self.cloud.name, f"{self.cloud.name}/")
        bucket = Bucket(self.clients, lambda: BUCKET, f"{self.cloud.name}/")
        return ObjectStore(
            bucket,
            self.clients,
            registers=TableRegisters(table, bucket),
            markers=TableMarkers(table),
        )

    def place_of(self, request: Any) -> str:
        if request.headers["X-Amz-Target"].endswith(b"PutItem"):
            return str(json.loads(request.body)["Item"]["id"]["S"])
        return ""

    def is_execution(self, place: str) -> bool:
        return "/execution/" in place


class TestTableInProcess(OnDynamoDB, FencedDeletionContract): ...


class TestTableOnTheEmulator(OnDynamoDB, FencedDeletionContract):
    emulated = True


def test_the_guide_has_these_figures() -> None:
    rows = "\n".join(f"| {name} | {count} |" for name, count in ROUND_TRIPS.items())
    assert f"| operation | calls |\n| --- | ---: |\n{rows}\n" in GUIDE.read_text(encoding="utf-8")

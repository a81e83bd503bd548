"""The executions on S3 keep the contracts of a queued backend, and cost the calls that are stated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from mini_workflow.ports.queue import FencedStore
from mini_workflow.stores.aws_clients import Clients
from mini_workflow.stores.cached import CachedStore
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
    "standing, from memory": 0,
    "load, from memory": 0,
    "standing, cold": 1,
    "standing, of nothing": 1,
    "commit": 1,
    "commit, refused": 2,
    "is_current, True": 1,
    "is_current, False": 1,
    "done and forget": 0,
    "commit, another status": 3,
}


class OnS3(FencedStoreContract):
    ROUND_TRIPS = ROUND_TRIPS

    emulated = False

    @pytest.fixture(autouse=True)
    def _cloud(self, request: pytest.FixtureRequest) -> Iterator[None]:
        aws = request.getfixturevalue("aws") if self.emulated else None
        self.cloud: Cloud = InProcessCloud() if aws is None else EmulatedCloud(aws)
        self.clients = Clients(self.cloud.client)
        self.documents = ObjectStore(
            Bucket(self.clients, lambda: BUCKET, f"{self.cloud.name}/"), self.clients
        )
        yield
        self.clients.close()
        self.cloud.close()

    def open_store(self) -> FencedStore:
        return CachedStore(self.documents, 100)

    def open_reader(self) -> S3Store:
        return S3Store(self.documents, lambda messages: None)

    @contextmanager
    def failing(self, *, after: bool) -> Iterator[None]:
        """The writes of executions, not those of their markers, which come before."""
        last = [""]

        def fail_before(call: str, request: Any) -> None:
            last[0] = urlsplit(request.url).path
            if call == "s3.PutObject" and not after:
                raise EndpointConnectionError(endpoint_url=request.url)

        def fail_after(call: str, response: Any) -> None:
            if call == "s3.PutObject" and last[0].endswith(".json"):
                raise ReadTimeoutError(endpoint_url=last[0])

        self.cloud.hooks.append(fail_before)
        if after:
            self.cloud.after.append(fail_after)
        try:
            yield
        finally:
            self.cloud.hooks.clear()
            self.cloud.after.clear()

    def calls(self) -> int:
        return sum(self.cloud.calls.values())


class TestInProcess(OnS3, FencedDeletionContract): ...


class TestOnTheEmulator(OnS3, FencedDeletionContract):
    emulated = True


def test_the_guide_has_these_figures() -> None:
    rows = "\n".join(f"| {name} | {count} |" for name, count in ROUND_TRIPS.items())
    assert f"| operation | calls |\n| --- | ---: |\n{rows}\n" in GUIDE.read_text(encoding="utf-8")

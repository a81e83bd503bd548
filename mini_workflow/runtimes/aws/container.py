"""Make the parts that the functions of an engine share, each when it is first needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal

from mini_workflow.codecs.payload_codecs import Codecs
from mini_workflow.codecs.signing import Signer
from mini_workflow.codecs.standard import DEFAULT_VALUE_LIMIT, StandardCodec, with_codecs
from mini_workflow.errors import SettingMissing, UsageError
from mini_workflow.interceptors import NO_INTERCEPTORS, Interceptors
from mini_workflow.runtimes.aws.signing_keys import SigningKeys
from mini_workflow.runtimes.aws.versions import VersionRouting
from mini_workflow.settings import (
    BUCKET_NAME,
    MEANING,
    OBJECT_PREFIX,
    QUEUE_URL,
    TABLE_NAME,
    Settings,
)
from mini_workflow.stores.aws.clients import Clients
from mini_workflow.stores.aws.limits import CLAIM_OVER, MAXIMUM_DELAY
from mini_workflow.stores.dynamodb.registers import TableRegisters
from mini_workflow.stores.dynamodb.table import Table, TableMarkers
from mini_workflow.stores.s3.bucket import Bucket
from mini_workflow.stores.s3.heartbeats import S3Heartbeats
from mini_workflow.stores.s3.object_store import ObjectStore
from mini_workflow.stores.s3.store import S3Store
from mini_workflow.stores.s3.streams import STREAMS, S3Streams
from mini_workflow.stores.sqs.backlog import Backlog
from mini_workflow.stores.sqs.call_store import CALLS, CallStore
from mini_workflow.stores.sqs.dispatch import HEARTBEATS, AWSDispatch
from mini_workflow.stores.sqs.envelopes import CLAIMS, Envelopes
from mini_workflow.stores.sqs.messages import Post
from mini_workflow.stores.sqs.outcomes import KEPT, Outcomes
from mini_workflow.stores.system_clock import SystemClock

if TYPE_CHECKING:
    from mini_workflow.ports import Clock


StoreName = Literal["s3", "dynamodb"]
"""The places where the histories of an engine on AWS may be."""


class Container:
    """The parts of an engine on AWS. No setting is read and no client is made before it is used.

    `queued` is the number of seconds up to which a timer waits in the delay queue, and
    `claim_over` the number of bytes above which content goes to the bucket. The other arguments are those of
    AWSRuntime.
    """

    def __init__(
        self,
        settings: Settings,
        clients: Clients,
        clock: Clock | None = None,
        queued: int = MAXIMUM_DELAY,
        claim_over: int = CLAIM_OVER,
        value_limit: int = DEFAULT_VALUE_LIMIT,
        codec: Codecs | None = None,
        *,
        keep_runs: bool = True,
        interceptors: Interceptors = NO_INTERCEPTORS,
        store: StoreName | None = None,
    ) -> None:
        self.interceptors = interceptors
        self.settings = settings
        self.clients = clients
        self.clock: Clock = clock or SystemClock()
        self.sleep: Callable[[float], None] = time.sleep
        self.threaded = True
        self._queued = queued
        self._claim_over = claim_over
        self._keep_runs = keep_runs
        self._store_name = store
        keys = SigningKeys(settings, clients)
        self.signer = Signer(keys.read, keys.renewed)
        self.codec = with_codecs(StandardCodec(self.signer, value_limit=value_limit), codec)

    @cached_property
    def bucket(self) -> Bucket:
        """The bucket with histories and payloads."""
        prefix = self.settings.get(OBJECT_PREFIX)
        return Bucket(self.clients, lambda: self.settings.get(BUCKET_NAME), prefix)

    @cached_property
    def envelopes(self) -> Envelopes:
        """The part that signs and opens messages."""
        return Envelopes(self.signer, self.bucket, self._claim_over)

    @cached_property
    def post(self) -> Post:
        """The way to the queue of events."""
        return Post(self.clients, lambda: self.settings.get(QUEUE_URL), self.envelopes)

    @cached_property
    def backlog(self) -> Backlog:
        """The counts of messages in the queue of events, by which executions are behind."""
        url = partial(self.settings.get, QUEUE_URL)
        return Backlog(self.clients, url, self.bucket, self.clock.now)

    @cached_property
    def outcomes(self) -> Outcomes:
        """The outcomes that workers could not send."""
        return Outcomes(self.bucket, self.post)

    @cached_property
    def calls(self) -> CallStore:
        """The calls of attempts that have failed."""
        return CallStore(self.bucket, self.envelopes)

    @cached_property
    def histories(self) -> ObjectStore:
        """The executions in the bucket, or in the table."""
        bucket, table = self.bucket, self._table()
        return ObjectStore(
            bucket,
            self.clients,
            self.versions.own,
            (CLAIMS, CALLS, KEPT, STREAMS),
            keep_runs=self._keep_runs,
            registers=None if table is None else TableRegisters(table, bucket),
            markers=None if table is None else TableMarkers(table),
        )

    def _table(self) -> Table | None:
        """Return the table with the histories, or None if they are in the bucket. Raises SettingMissing or
        UsageError if the option `store` asks for the other place.
        """
        name = self.settings.get(TABLE_NAME)
        if name and self._store_name == "s3":
            raise UsageError(
                f"store='s3': this engine has its histories in the table {name!r} ({TABLE_NAME}), and "
                "not in the bucket; leave out store"
            )
        if not name and self._store_name == "dynamodb":
            raise SettingMissing(
                f"store='dynamodb' needs the environment variable {TABLE_NAME}: it holds "
                f'{MEANING[TABLE_NAME]}. Give the component {{"store": "dynamodb"}}, which makes the '
                "table and sets it"
            )
        if not name:
            return None
        return Table(self.clients, lambda: name, self.settings.get(OBJECT_PREFIX))

    @cached_property
    def versions(self) -> VersionRouting:
        """The routing of executions to versions of the orchestrator."""
        return VersionRouting(self.clients, self.settings, self.clock.now)

    @cached_property
    def dispatch(self) -> AWSDispatch:
        """The way to workers, other executions and timers."""
        return AWSDispatch(
            self.clients,
            self.settings,
            self.post,
            self.envelopes,
            self.bucket,
            self.clock.now,
            self.calls,
            self._queued,
        )

    @cached_property
    def streams(self) -> S3Streams:
        """The streams of executions."""
        beats = S3Heartbeats(self.bucket, self.clients, HEARTBEATS)
        return S3Streams(self.bucket, self.clients, self.histories, beats)

    @cached_property
    def store(self) -> S3Store:
        """The executions as of the last write, for clients."""
        return S3Store(self.histories, self.dispatch.post)

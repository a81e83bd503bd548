"""SQS, Lambda and the scheduler keep the contracts of a `Dispatch`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from mini_workflow import AWSRuntime
from mini_workflow.ports import TaskRequest
from mini_workflow.ports.queue import Dispatch
from mini_workflow.runtimes.aws.worker import Worker
from mini_workflow.stores.sqs.messages import SqsMessage
from mini_workflow.testing.contracts.dispatch import DispatchContract, WakeupContract
from tests.aws.cloud import Cloud, EmulatedCloud
from tests.aws.in_process import InProcessCloud
from tests.aws.world import World, registry_of
from tests.waiting import WAIT, eventually


class OnSQS(DispatchContract):
    """Messages through the queue of events. Invocations of the worker end in this process."""

    emulated = False

    @pytest.fixture(autouse=True)
    def _cloud(self, request: pytest.FixtureRequest) -> Iterator[None]:
        aws = request.getfixturevalue("aws") if self.emulated else None
        self.cloud: Cloud = InProcessCloud() if aws is None else EmulatedCloud(aws)
        self.opened: list[AWSRuntime] = []
        self.invoked: list[Any] = []
        self.cloud.worker = lambda event, context: self.invoked.append(event)
        yield
        for runtime in self.opened:
            runtime.close()
        self.cloud.close()

    def _open(self) -> AWSRuntime:
        runtime = self.cloud.runtime()
        self.opened.append(runtime)
        return runtime

    def open_dispatch(self) -> Dispatch:
        return self._open()._parts.dispatch

    def received(self, number: int) -> list[tuple[str, str]]:
        post, stop = self._open()._parts.post, threading.Event()
        given_up = threading.Timer(WAIT, self._give_up, (stop,))
        given_up.start()
        found: list[tuple[str, str]] = []
        try:
            while len(found) < number:
                records = self.cloud.receive(stop)
                assert records, f"only {len(found)} of {number} messages have come"
                mails = [post.read(record["body"]) for record in records]
                found += [(m.execution_id, m.content) for m in mails if isinstance(m, SqsMessage)]
                self.cloud.finish(records, set())
        finally:
            given_up.cancel()
        return found

    def _give_up(self, stop: threading.Event) -> None:
        stop.set()
        self.cloud.interrupt()

    def requests(self, number: int) -> list[TaskRequest]:
        worker = Worker(self._open()._parts)

        def look() -> list[TaskRequest] | None:
            found = {one.key: one for one, _ in map(worker.request_of, list(self.invoked))}
            return list(found.values()) if len(found) >= number else None

        return eventually(look)

    @contextmanager
    def failing(self, *, after: bool) -> Iterator[None]:
        def fail_before(call: str, request: Any) -> None:
            raise EndpointConnectionError(endpoint_url=request.url)

        def fail_after(call: str, response: Any) -> None:
            raise ReadTimeoutError(endpoint_url=call)

        hooks: list[Callable[[str, Any], None]] = self.cloud.after if after else self.cloud.hooks
        hooks.append(fail_after if after else fail_before)
        try:
            yield
        finally:
            hooks.clear()


class TestInProcess(OnSQS): ...


class TestOnTheEmulator(OnSQS):
    emulated = True


class TestWakeups(WakeupContract):
    """Delayed messages and schedules, on a clock that stands still."""

    @pytest.fixture(autouse=True)
    def _world(self) -> Iterator[None]:
        with World(registry_of()) as self.world:
            yield

    def open_dispatch(self) -> Dispatch:
        return self.world.process()._parts.dispatch

    def now(self) -> int:
        return self.world.clock.now()

    def woken(self, until: int) -> list[tuple[str, int]]:
        services = self.world.services
        while not services.queue and (due := services.next()) is not None and due <= until:
            services.notify()
        if not services.queue:
            self.world.clock.set(max(until, self.now()))
        messages, services.queue = services.queue, []
        mails = [self.world.client._parts.post.read(message.body) for message in messages]
        assert all(isinstance(mail, SqsMessage) and mail.kind == "wake" for mail in mails)
        return [(m.execution_id, int(m.content)) for m in mails if isinstance(m, SqsMessage)]

"""Interceptors and headers in worker processes, and where they stand around several calls."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import pytest

from mini_workflow import (
    ClientCall,
    Context,
    Interceptor,
    LocalClient,
    LocalRuntime,
    UsageError,
    workflow,
)
from mini_workflow.interceptors import Around
from tests.unit.local import intercepting
from tests.waiting import WAIT


def test_worker_processes_have_headers_and_interceptors(tmp_path: Path) -> None:
    around = [intercepting.Tenants()]
    with LocalRuntime(tmp_path / "state.db", workers=1, interceptors=around) as runtime:
        started = runtime.start_execution(intercepting.order, headers={"tenant": "t-ü"})
        found = started.result(WAIT)
    assert [entry[:2] for entry in found] == [("t-ü", "t-ü")] * 3
    assert [entry[2] == os.getpid() for entry in found] == [False, False, True]


class Holding(Interceptor):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        self.lock = Lock()


def test_interceptors_that_cannot_be_copied_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"interceptors=.*worker processes need a copy"):
        LocalRuntime(tmp_path / "state.db", workers=1, interceptors=[Holding()])
    with LocalRuntime(tmp_path / "state.db", interceptors=[Holding()]):
        pass


@workflow("intercepted.waits")
async def waits(ctx: Context) -> str:
    ctx.on_query("tenant", lambda: ctx.headers.get("tenant"))
    ctx.on_signal("other", lambda value: None)
    await ctx.wait_for_signal("go")
    return ctx.headers["tenant"]


class Calls(Interceptor):
    """Notes the calls of a client, and has each start belong to a tenant."""

    def __init__(self) -> None:
        self.kinds: list[tuple[str, str, int]] = []

    @contextmanager
    def around_call(self, call: ClientCall) -> Generator[None]:
        self.kinds.append((call.kind, call.execution_id, call.count))
        call.headers["tenant"] = "t-1"
        yield


def test_every_call_of_a_client_is_gone_around(tmp_path: Path) -> None:
    calls = Calls()
    path = tmp_path / "state.db"
    with LocalRuntime(path), LocalClient(path, interceptors=[calls]) as client:
        one = client.start_execution(waits, id="a")
        client.start_executions(waits, [(), ()], ids=["b", "c"])
        assert one.query("tenant") == "t-1"
        one.signal("go")
        assert one.result(WAIT) == "t-1"
        one.restart()
        client.get_execution("b").terminate("enough")
        client.get_execution("c").pause("for a while")
        client.get_execution("c").resume()
        client.get_execution("c").cancel("enough")
        client.signal_with_start(waits, id="d", signal="go")
    assert calls.kinds == [
        ("start", "a", 1),
        ("start", "b", 2),
        ("query", "a", 1),
        ("signal", "a", 1),
        ("restart", "a", 1),
        ("terminate", "b", 1),
        ("pause", "c", 1),
        ("resume", "c", 1),
        ("cancel", "c", 1),
        ("start", "d", 1),
    ]


class Headed(Interceptor):
    """Gives headers that are none."""

    @contextmanager
    def around_call(self, call: ClientCall) -> Generator[None]:
        call.headers["no name"] = "x"
        yield


def test_headers_of_an_interceptor_are_checked(tmp_path: Path) -> None:
    with LocalRuntime(tmp_path / "state.db", interceptors=[Headed()]) as runtime:
        with pytest.raises(UsageError, match="'no name' cannot be the name of a header"):
            runtime.start_execution(waits, id="a")
        assert runtime.list_executions() == []


def test_what_was_entered_is_left_when_the_next_one_refuses() -> None:
    left: list[str] = []

    @contextmanager
    def noting(name: str) -> Generator[None]:
        try:
            yield
        finally:
            left.append(name)

    @contextmanager
    def refusing() -> Generator[None]:
        raise PermissionError("no")
        yield

    with pytest.raises(PermissionError), Around([noting("a"), noting("b"), refusing()]):
        raise AssertionError("entered")
    assert left == ["b", "a"]

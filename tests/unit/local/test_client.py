"""LocalClient: the executions of a file, seen and steered by a process that runs none of them."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import (
    Context,
    ExecutionAlreadyExists,
    ExecutionBlocked,
    ExecutionClosed,
    ExecutionNotFound,
    InvalidArguments,
    LocalClient,
    LocalRuntime,
    PromiseNotOpen,
    RuntimeClosed,
    StoreUnavailable,
    UnknownHandler,
    UsageError,
    workflow,
)
from mini_workflow.core import events
from tests.unit.local.child import Child
from tests.waiting import WAIT

ran: list[str] = []


@workflow("client.talk")
async def talk(ctx: Context, greeting: str = "hello") -> list[object]:
    heard: list[object] = []

    def hear(word: str) -> int:
        heard.append(word)
        return len(heard)

    def polite(word: str) -> None:
        if word == "damn":
            raise ValueError("be polite")

    ctx.on_update("say", hear, validator=polite)
    ctx.on_query("heard", lambda: list(heard))
    first = await ctx.task(lambda: greeting, name="first")
    heard.append(first)
    async for word in ctx.signals("word"):
        if word is None:
            return heard
        heard.append(word)
    return heard


@workflow("client.promised")
async def promised(ctx: Context) -> object:
    promise = ctx.promise("it")
    ctx.on_query("token", lambda: promise.token)
    return await promise


@workflow("client.inline")
async def inline(ctx: Context) -> str:
    ctx.on_query("state", lambda: "begun")
    await ctx.task(lambda: ran.append("inline"), inline=True)
    return "done"


@workflow("client.blocked")
async def blocks(ctx: Context) -> str:
    await ctx.wait_for_signal("go")
    await asyncio.Event().wait()
    return "never"


@pytest.fixture
def client(path: Path) -> Iterator[LocalClient]:
    with LocalClient(path) as client:
        yield client


def test_a_client_runs_nothing(client: LocalClient) -> None:
    execution = client.start_execution(talk, id="t")
    assert not client.is_served()
    assert [type(event) for event in execution.history()] == [events.ExecutionStarted]
    with pytest.raises(TimeoutError):
        execution.result(timeout=0.1)


def test_a_runtime_takes_up_what_a_client_has_left(path: Path, client: LocalClient) -> None:
    execution = client.start_execution(talk, "hi", id="t")
    execution.signal("word", 1)
    client.signal_with_start(talk, "hi", id="t", signal="word", value=2)
    client.signal_with_start(talk, "hi", id="u", signal="word", value=None)
    execution.signal("word", None)
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("t").result(timeout=WAIT) == ["hi", 1, 2]
        assert runtime.get_execution("u").result(timeout=WAIT) == ["hi"]
    assert execution.result() == ["hi", 1, 2]


def test_a_runtime_that_is_open_is_woken(path: Path, client: LocalClient) -> None:
    with LocalRuntime(path):
        assert client.is_served()
        # Without the ring it would be seen after a third of the lease only.
        started = client.start_executions(talk, [("a",), ("b",)], ids=["a", "b"])
        for execution in started:
            assert execution.update("say", "x", timeout=WAIT) in (1, 2)
            execution.signal("word", None)
        assert [sorted(map(str, e.result(timeout=WAIT))) for e in started] == [
            ["a", "x"],
            ["b", "x"],
        ]
    assert not client.is_served()


def test_starting_twice_is_starting_once(path: Path, client: LocalClient) -> None:
    client.start_execution(talk, "hi", id="t")
    client.start_execution(talk, "hi", id="t")
    with pytest.raises(ExecutionAlreadyExists):
        client.start_execution(talk, "other", id="t")
    with pytest.raises(ExecutionAlreadyExists):
        client.start_execution(promised, id="t")
    with pytest.raises(InvalidArguments):
        client.start_execution(talk, 1, 2, 3)
    assert [one.id for one in client.list_executions()] == ["t"]


def test_updates(path: Path, client: LocalClient) -> None:
    with LocalRuntime(path):
        execution = client.start_execution(talk, id="t")
        with pytest.raises(ValueError, match="be polite"):
            execution.update("say", "damn", timeout=WAIT)
        with pytest.raises(UnknownHandler):
            execution.update("shout", "x", timeout=WAIT)
        answer = execution.update("say", "x", id="once", timeout=WAIT)
        assert execution.update("say", "x", id="once", timeout=WAIT) == answer
        assert asyncio.run(_ended(client))[-1] == "x"


async def _ended(client: LocalClient) -> list[object]:
    execution = client.get_execution("t")
    execution.signal("word", None)
    return sorted(await execution, key=str)


def test_queries_replay_here(client: LocalClient, path: Path) -> None:
    execution = client.start_execution(talk, id="t")
    with LocalRuntime(path) as runtime:
        served = runtime.get_execution("t")
        served.signal("word", "x")
        while served.query("heard") != ["hello", "x"]:
            pass
    assert execution.query("heard") == ["hello", "x"]
    with pytest.raises(UnknownHandler, match="heard"):
        execution.query("colour")


def test_a_query_runs_no_inline_task(client: LocalClient) -> None:
    execution = client.start_execution(inline, id="i")
    assert execution.query("state") == "begun"
    assert ran == []


def test_promises_are_checked_before_they_are_sent(path: Path, client: LocalClient) -> None:
    execution = client.start_execution(promised, id="p")
    with LocalRuntime(path):
        while len(execution.history()) < 2:
            pass
    token = execution.query("token")
    with pytest.raises(PromiseNotOpen):
        client.complete_promise(token + "0", 1)
    with pytest.raises(PromiseNotOpen):
        client.complete_promise(token.replace("p", "q", 1), 1)
    client.complete_promise(token, 1)
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("p").result(timeout=WAIT) == 1
    with pytest.raises(ExecutionClosed):
        client.complete_promise(token, 1)


def test_what_is_closed_or_not_there_is_refused(path: Path, client: LocalClient) -> None:
    execution = client.start_execution(talk, id="t")
    execution.terminate("enough")
    with LocalRuntime(path) as runtime, pytest.raises(Exception, match="enough"):
        runtime.get_execution("t").result(timeout=WAIT)
    for send in (
        lambda: execution.signal("x"),
        execution.cancel,
        execution.terminate,
        execution.resume,
        lambda: execution.update("say", "x"),
    ):
        with pytest.raises(ExecutionClosed):
            send()
    with pytest.raises(ExecutionNotFound):
        client.get_execution("nope")


def test_blocked_and_resumed(path: Path, client: LocalClient) -> None:
    with LocalRuntime(path):
        execution = client.start_execution(blocks, id="b")
        execution.signal("go")
        with pytest.raises(ExecutionBlocked):
            execution.result(timeout=WAIT)
    recording = execution.recording()
    assert [type(message) for message in recording.parked] == [events.SignalReceived]
    before = len(execution.history())
    execution.resume()
    with LocalRuntime(path) as runtime, pytest.raises(ExecutionBlocked):
        runtime.get_execution("b").result(timeout=WAIT)
    assert len(execution.history()) == before


def test_a_reader_changes_nothing(path: Path, client: LocalClient) -> None:
    client.start_execution(talk, id="t")
    with LocalClient(path, read_only=True) as reader:
        execution = reader.get_execution("t")
        assert execution.describe().workflow == "client.talk"
        assert len(execution.timeline()) == 1
        for send in (
            lambda: reader.start_execution(talk),
            lambda: execution.signal("x"),
            lambda: execution.update("say", "x"),
            execution.resume,
        ):
            with pytest.raises(UsageError, match="read_only"):
                send()
        with pytest.raises(Exception, match="readonly"):
            reader._backend.mailbox.post("t", "{}", "k")
    with pytest.raises(RuntimeClosed):
        reader.list_executions()


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="there is no store"):
        LocalClient(tmp_path / "none.db", read_only=True)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreUnavailable, match="there is no store"):
        LocalClient(tmp_path / "empty.db", read_only=True)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE x (y)").connection.close()
    with pytest.raises(Exception, match="another program"):
        LocalClient(tmp_path / "other.db", read_only=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty.db", "other.db"]


def test_a_client_that_dies_between_its_steps_loses_nothing(path: Path) -> None:
    """It holds a lease while it puts an execution in: its death frees that at once."""
    with Child(
        """
        client = LocalClient(path)
        client._backend.leases.release = lambda: (say("committed"), hear())
        client.start_execution(flows.answer, id="a")
        """,
        path,
    ) as child:
        child.expect("committed")
        child.kill()
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("a").result(timeout=WAIT) == 42


def test_pages_fit_together(client: LocalClient) -> None:
    client.start_executions(talk, [()] * 5, ids=[f"t{n}" for n in range(5)])
    first, after = client.list_page(size=2)
    client.start_execution(talk, id="new")
    second, following = client.list_page(size=3, after=after)
    assert [one.id for one in (*first, *second)] == ["t4", "t3", "t2", "t1", "t0"]
    assert following is None
    with pytest.raises(UsageError):
        client.list_page(after="x")


def test_an_execution_that_is_deleted_meanwhile_keeps_no_other_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"
    with LocalRuntime(path) as runtime, LocalClient(path) as client:
        gone = runtime.start_execution(talk, id="gone")
        gone.terminate()
        store = client._file._store
        lookup = store.lookup

        def look_and_delete(names: Any) -> Any:
            found = lookup(names)
            gone.delete()
            return found

        monkeypatch.setattr(store, "lookup", look_and_delete)
        with pytest.raises(ExecutionNotFound, match="'gone'"):
            client.start_executions(talk, [("a",), ("b",)], ids=["gone", "new"])
        assert client.get_execution("new").describe().workflow == "client.talk"

"""110: what goes around calls, workflows and tasks. 111: headers that go along with an execution."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from mini_workflow import (
    ChildFailed,
    ClientCall,
    Committed,
    Context,
    CurrentTask,
    ExecutionFailed,
    Interceptor,
    RetryPolicy,
    SentCall,
    UsageError,
    WorkflowCall,
    current_task,
    current_workflow,
    workflow,
)
from mini_workflow.core import events
from tests.behaviours.stage import DAY, Stage
from tests.waiting import WAIT, eventually

TENANT = {"tenant": "t-7", "trace": "4bf92f35"}


def tenant_of_task() -> str:
    return current_task().headers["tenant"]


async def tenant_of_async_task() -> str:
    return current_task().headers["tenant"]


@workflow("interceptors.child")
async def child(ctx: Context) -> list[str]:
    return [ctx.headers["tenant"], await ctx.task(tenant_of_task)]


@workflow("interceptors.order")
async def order(ctx: Context, run: int = 1) -> list[Any]:
    heard: list[str] = []
    ctx.on_signal("note", heard.append)
    ctx.on_query("heard", lambda: list(heard))
    ctx.on_update("change", lambda value: f"{value} changed")
    found: list[Any] = [ctx.headers["tenant"]]
    found.append(await ctx.task(tenant_of_task))
    found.append(await ctx.task(tenant_of_async_task))
    found.append(await ctx.task(tenant_of_task, inline=True))
    found.append(await ctx.child(child))
    ctx.start(child, id=f"{ctx.info.execution_id}.detached.{run}", notify="closed")
    await ctx.wait_for_signal("closed")
    if run == 1:
        await ctx.wait_for(lambda: len(heard) == 1)
        ctx.continue_as_new(2)
    await ctx.wait_for_signal("go")
    return found


SEEN: dict[str, list[Any]] = {}
LOCK = threading.Lock()


class Recording(Interceptor):
    """Notes what it goes around. It may be copied: what it has seen stands outside of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def note(self, *what: Any) -> None:
        with LOCK:
            SEEN.setdefault(self.name, []).append(what)

    @contextmanager
    def around_call(self, call: ClientCall) -> Generator[None]:
        self.note("call", call.kind, call.name or call.workflow)
        call.headers.setdefault("via", self.name)
        yield

    @contextmanager
    def around_workflow(self, call: WorkflowCall) -> Generator[None]:
        if not call.replaying:
            self.note("begin", call.kind, call.name, call.headers.get("via"))
        yield
        if not call.replaying:
            self.note("end", call.kind, call.name)

    def sending(self, call: SentCall) -> None:
        call.headers["via"] = f"{call.kind} {call.name}"

    @contextmanager
    def around_task(self, task: CurrentTask) -> Generator[None]:
        self.note("task", task.name, task.attempt, task.headers["via"])
        yield

    def committed(self, committed: Committed) -> None:
        for event in committed.events:
            self.note("event", committed.execution_id, committed.run, type(event).__name__)


def seen(name: str, kind: str) -> list[tuple[Any, ...]]:
    with LOCK:
        return [what[1:] for what in SEEN.get(name, ()) if what[0] == kind]


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()


def test_111_headers_go_along_with_an_execution(runtime: Stage) -> None:
    """The workflow, its tasks of all kinds, its children, what it starts, and its next run have them."""
    execution = runtime.start(order, id="o-1", headers=TENANT)
    execution.signal("go")
    execution.signal("note", 1)
    tenant = "t-7"
    expected = [tenant, tenant, tenant, tenant, [tenant, tenant]]
    assert execution.result(WAIT) == expected
    assert runtime.get_execution("o-1.detached.2").result(WAIT) == [tenant, tenant]
    started = execution.history()[0]
    assert isinstance(started, events.ExecutionStarted)
    assert started.headers == TENANT
    assert started.run == 2


def test_111_headers_stay_when_a_runtime_is_opened_again(runtime: Stage) -> None:
    """They are recorded: a later runtime, a restart and a fork have them too."""
    execution = runtime.start(waits, id="o-1", headers=TENANT)
    assert execution.query("tenant") == "t-7"
    runtime.reopen()
    execution = runtime.get_execution("o-1")
    execution.signal("go")
    assert execution.result(WAIT) == ["t-7", "t-7"]
    execution.restart()
    execution.signal("go")
    assert execution.result(WAIT) == ["t-7", "t-7"]
    forked = execution.fork(before="tenant_of_task", id="f-1")
    assert forked.result(WAIT) == ["t-7", "t-7"]


@workflow("interceptors.waits")
async def waits(ctx: Context) -> list[str]:
    ctx.on_query("tenant", lambda: ctx.headers["tenant"])
    await ctx.wait_for_signal("go")
    return [ctx.headers["tenant"], await ctx.task(tenant_of_task)]


@workflow("interceptors.has_none")
async def has_none(ctx: Context) -> list[dict[str, str]]:
    return [ctx.headers, await ctx.task(lambda: current_task().headers)]


def test_111_without_headers_there_are_none(runtime: Stage) -> None:
    """Who asks for them gets none."""
    assert runtime.run(has_none) == [{}, {}]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"tenant": 7}, "header 'tenant' has the value '7': give a text"),
        ({"a tenant": "t"}, "'a tenant' cannot be the name of a header"),
        ({"tenant": "line\nline"}, "printable"),
        ({f"h{i}": "x" * 1000 for i in range(5)}, "headers take 5,010 bytes"),
        (["tenant"], "give a mapping"),
    ],
)
def test_111_wrong_headers_start_nothing(runtime: Stage, headers: Any, message: str) -> None:
    """The error names the header at fault."""
    with pytest.raises(UsageError, match=message):
        runtime.start_execution(waits, id="o-1", headers=headers)
    assert runtime.list_executions() == []


def test_111_starts_that_bring_a_message_or_are_many_have_headers(runtime: Stage) -> None:
    """Each way to start has the option."""
    execution = runtime.signal_with_start(waits, id="o-1", signal="go", headers=TENANT)
    assert execution.result(WAIT) == ["t-7", "t-7"]
    many = runtime.start_executions(has_none, [(), ()], headers=TENANT)
    assert [one.result(WAIT) for one in many] == [[TENANT, TENANT], [TENANT, TENANT]]


def test_110_interceptors_go_around_everything(runtime: Stage) -> None:
    """Calls of the client, the workflow's code and its handlers, tasks of all kinds; and they hear of each
    event once. Headers that they add travel on.
    """
    runtime.reopen(interceptors=[Recording("one")])
    execution = runtime.start(order, id="o-1", headers=TENANT)
    assert execution.update("change", 1, timeout=WAIT) == "1 changed"
    execution.signal("go")
    execution.signal("note", 1)
    execution.result(WAIT)
    assert execution.query("heard") == []
    assert seen("one", "call") == [
        ("start", "interceptors.order"),
        ("update", "change"),
        ("signal", "go"),
        ("signal", "note"),
        ("query", "heard"),
    ]
    begun = seen("one", "begin")
    assert begun.count(("workflow", "interceptors.order", "one")) == 2
    assert begun.count(("workflow", "interceptors.child", "child interceptors.child")) == 2
    assert begun.count(("workflow", "interceptors.child", "start interceptors.child")) == 2
    assert ("signal", "note", "one") in begun
    assert ("update", "change", "one") in begun
    assert ("query", "heard", "one") in begun
    ended = seen("one", "end")
    assert (
        ended.count(("workflow", "interceptors.order")) == 1
    )  # the first run ends by an exception
    assert ("signal", "note") in ended
    tasks = [(name, via) for name, _, via in seen("one", "task")]
    assert tasks.count(("tenant_of_task", "one")) == 4
    assert tasks.count(("tenant_of_async_task", "one")) == 2
    assert tasks.count(("tenant_of_task", "child interceptors.child")) == 2
    assert tasks.count(("tenant_of_task", "start interceptors.child")) == 2
    eventually(lambda: ("o-1", 2, "ExecutionCompleted") in seen("one", "event"))
    heard = [kind for name, run, kind in seen("one", "event") if (name, run) == ("o-1", 2)]
    recorded = [type(event).__name__ for event in execution.history()]
    assert [kind for kind in heard if kind != "ExecutionStarted"] == recorded[1:]


@workflow("interceptors.long")
async def long(ctx: Context) -> list[Any]:
    seen = [await ctx.task(str, i) for i in range(2)]
    seen.append(await ctx.wait_for_signal("go"))
    return seen


def test_110_a_replay_is_told_as_one(runtime: Stage) -> None:
    """What happens again in a replay says so; nothing is told twice, and no event is."""
    runtime.reopen(interceptors=[Recording("one")])
    execution = runtime.start(long, id="o-1")
    eventually(lambda: len(execution.history()) >= 5)
    runtime.reopen(interceptors=[Recording("one")])
    execution = runtime.get_execution("o-1")
    execution.signal("go", 1)
    assert execution.result(WAIT) == ["0", "1", 1]
    assert seen("one", "begin") == [("workflow", "interceptors.long", "one")]
    assert seen("one", "end") == [("workflow", "interceptors.long")]
    eventually(lambda: ("o-1", 1, "ExecutionCompleted") in seen("one", "event"))
    kinds = [kind for _, _, kind in seen("one", "event") if kind != "ExecutionStarted"]
    assert kinds == [type(event).__name__ for event in execution.history()][1:]


class Holding(Interceptor):
    """Notes when it is to hand on what it holds back, and what is blocked."""

    def flush(self) -> None:
        SEEN.setdefault("holding", []).append(("flush",))

    def committed(self, committed: Committed) -> None:
        if committed.blocked_by:
            about = (committed.execution_id, committed.blocked_by, committed.headers)
            SEEN.setdefault("holding", []).append(("blocked", *about))


def test_110_what_is_held_back_is_flushed(runtime: Stage) -> None:
    """At the end at the latest."""
    runtime.reopen(interceptors=[Holding()])
    runtime.run(has_none)
    SEEN.clear()
    runtime.reopen()
    assert seen("holding", "flush")


def test_110_a_block_is_heard_of(runtime: Stage) -> None:
    """Also a pause, which no event tells of; with the headers, though no code was run."""
    runtime.reopen(interceptors=[Holding()])
    execution = runtime.start(waits, id="o-1", headers=TENANT)
    execution.pause("for a while")
    eventually(lambda: seen("holding", "blocked"))
    assert seen("holding", "blocked") == [("o-1", "ExecutionPaused", TENANT)]


@workflow("interceptors.gives_headers")
async def gives_headers(ctx: Context) -> list[Any]:
    given = {"tenant": "t-8", "more": "x"}
    found = await ctx.child(has_none, headers=given)
    ctx.start(has_none, id="o-1.start", headers=given, notify="closed")
    await ctx.wait_for_signal("closed")
    try:
        ctx.child(has_none, headers={"big": "x" * 5000})
    except UsageError:
        found.append(await ctx.child(has_none))
    return found


@pytest.mark.parametrize("intercepted", [False, True])
def test_111_headers_are_given_to_one_child_or_start(runtime: Stage, intercepted: bool) -> None:
    """Beside those of the execution; what is wrong starts nothing, and an interceptor sees the result."""
    if intercepted:
        runtime.reopen(interceptors=[Recording("one")])
    execution = runtime.start(gives_headers, id="o-1", headers=TENANT)
    both, own = {**TENANT, "tenant": "t-8", "more": "x"}, dict(TENANT)
    found = [both, both, [own, own]]
    started = [both, both]
    if intercepted:
        via = "child interceptors.has_none"
        found = [both | {"via": via}, both | {"via": via}, [own | {"via": via}] * 2]
        started = [both | {"via": "start interceptors.has_none"}] * 2
    assert execution.result(WAIT) == found
    assert runtime.get_execution("o-1.start").result(WAIT) == started


def test_111_headers_of_schedules_and_debounced_starts(runtime: Stage) -> None:
    """What they start has them."""
    name = runtime.debounce(has_none, key="k", delay=0, headers=TENANT)
    assert runtime.get_execution(name).result(WAIT) == [TENANT, TENANT]
    schedule = runtime.schedules.create("s", has_none, every=DAY, headers=TENANT)
    assert schedule.describe().headers == TENANT
    assert schedule.trigger().result(WAIT) == [TENANT, TENANT]
    schedule.update(headers={"tenant": "t-8"})
    assert schedule.trigger().result(WAIT) == [{"tenant": "t-8"}] * 2
    schedule.update(headers={})
    assert schedule.trigger().result(WAIT) == [{}, {}]
    with pytest.raises(UsageError, match="cannot be the name of a header"):
        runtime.schedules.create("t", has_none, every=DAY, headers={"a tenant": "x"})


class Translating(Interceptor):
    """Raises another exception, or tries to suppress one."""

    @contextmanager
    def around_task(self, task: CurrentTask) -> Generator[None]:
        try:
            yield
        except KeyError as error:
            raise LookupError(f"translated {error}") from error
        except ZeroDivisionError:
            pass


@workflow("interceptors.fails")
async def fails(ctx: Context) -> list[str]:
    def missing() -> None:
        raise KeyError("x")

    async def missing_async() -> None:
        raise KeyError("y")

    found: list[str] = []
    for task in (missing, missing_async, lambda: 1 / 0):
        try:
            await ctx.task(task, retry=RetryPolicy(max_attempts=1))
        except LookupError as error:
            found.append(str(error))
        except ZeroDivisionError as error:
            found.append(f"not suppressed: {error}")
    return found


def test_110_an_interceptor_may_raise_and_cannot_suppress(runtime: Stage) -> None:
    """Another exception takes the place of the first; without one the first goes on."""
    runtime.reopen(interceptors=[Translating()])
    assert runtime.run(fails) == [
        "translated 'x'",
        "translated 'y'",
        "not suppressed: division by zero",
    ]


class Guarding(Interceptor):
    """Refuses what has no tenant, at the call and in the workflow; its task is a part of the history."""

    def __init__(self, *, calls: bool = True) -> None:
        self.calls = calls

    @contextmanager
    def around_call(self, call: ClientCall) -> Generator[None]:
        if self.calls and call.kind == "start" and "tenant" not in call.headers:
            raise PermissionError(f"{call.execution_id} has no tenant")
        yield

    @contextmanager
    def around_workflow(self, call: WorkflowCall) -> Generator[None]:
        if "tenant" not in call.headers:
            raise PermissionError(f"{call.execution_id} has no tenant")
        yield

    def sending(self, call: SentCall) -> None:
        call.headers.pop("tenant", None)


@workflow("interceptors.starts_a_child")
async def starts_a_child(ctx: Context) -> str:
    try:
        await ctx.child(has_none, id=f"{ctx.info.execution_id}.child")
    except ChildFailed as error:
        return str(error.__cause__)
    return "not refused"


def test_110_what_an_interceptor_refuses(runtime: Stage) -> None:
    """A call that is refused starts nothing; code that is refused fails its execution."""
    runtime.reopen(interceptors=[Guarding()])
    with pytest.raises(PermissionError, match="o-1 has no tenant"):
        runtime.start(has_none, id="o-1")
    assert runtime.list_executions() == []
    execution = runtime.start(starts_a_child, id="o-2", headers=TENANT)
    assert execution.result(WAIT) == "o-2.child has no tenant"
    runtime.reopen(interceptors=[Guarding(calls=False)])
    execution = runtime.start(has_none, id="o-3")
    with pytest.raises((PermissionError, ExecutionFailed), match="o-3 has no tenant"):
        execution.result(WAIT)


class Measuring(Interceptor):
    """Does durable work of its own around each workflow."""

    @contextmanager
    def around_workflow(self, call: WorkflowCall) -> Generator[None]:
        if call.kind == "workflow":
            current_workflow().set_tags({"intercepted": "yes"})
        yield


def test_110_code_of_an_interceptor_is_the_workflow_s(runtime: Stage) -> None:
    """What it does in the loop of the workflow is recorded, and replayed like the workflow's own code."""
    runtime.reopen(interceptors=[Measuring()])
    execution = runtime.start(long, id="o-1")
    eventually(lambda: len(execution.history()) >= 6)
    runtime.reopen(interceptors=[Measuring()])
    execution = runtime.get_execution("o-1")
    execution.signal("go", 1)
    assert execution.result(WAIT) == ["0", "1", 1]
    assert execution.describe().tags == {"intercepted": "yes"}


class Breaking(Interceptor):
    """Fails when it hears of a commit."""

    def committed(self, committed: Committed) -> None:
        raise ValueError("broken")


def test_110_what_fails_after_a_commit_is_logged(
    runtime: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """The execution goes on."""
    caplog.set_level(logging.ERROR, "mini_workflow.interceptors")
    runtime.reopen(interceptors=[Breaking()])
    assert runtime.run(has_none) == [{}, {}]
    assert "an interceptor failed" in caplog.text


def test_110_the_first_interceptor_is_the_outermost(runtime: Stage) -> None:
    """What it has set, those behind it see."""
    runtime.reopen(interceptors=[Recording("one"), Recording("two")])
    runtime.run(has_none)
    assert seen("one", "task")[0][2] == "one"
    assert seen("two", "task")[0][2] == "one"


def test_110_what_is_no_interceptor_is_refused(runtime: Stage) -> None:
    """A class, or something else than an interceptor, opens no runtime."""
    for wrong in ([Recording], [object()], [print]):
        with pytest.raises(UsageError, match="whose class derives from mini_workflow"):
            runtime._open_runtime("apart", interceptors=wrong)

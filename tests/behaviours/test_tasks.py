"""1 to 12: tasks, their results, failures, retries and time-outs."""

# ruff: noqa: B023 - that tasks capture loop variables at the call is one of the behaviours

from __future__ import annotations

import asyncio
import dataclasses
import logging
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Self
from uuid import UUID

import pytest

from mini_workflow import (
    Context,
    RetryPolicy,
    TaskTimeout,
    UsageError,
    WorkerLost,
    current_task,
    workflow,
)
from tests.behaviours.stage import (
    LEDGER,
    Background,
    Stage,
    gate,
    go_through,
    note,
    settle,
    watched,
)
from tests.waiting import WAIT

SOON = 1.0
"""Seconds of a timeout that is meant to pass. An attempt that is to be in time needs a small part of
it, on a machine that is busy too."""


def of_kind(execution: Any, kind: str) -> list[Any]:
    return [event for event in execution.history() if type(event).__name__ == kind]


@workflow("behaviours.falsy")
async def falsy(ctx: Context, value: Any) -> list[Any]:
    state = watched(ctx)
    first = await ctx.task(lambda: (note("ran"), value)[1])
    state["waits"] = True
    await ctx.wait_for_signal("go on")
    return [first, await ctx.task(lambda: first)]


@pytest.mark.parametrize("value", [None, 0, "", False, [], {}, b"", 0.0, ()], ids=repr)
def test_01_a_falsy_result_is_a_result(runtime: Stage, value: Any) -> None:
    """None, 0, "" and the like are stored and returned as they are; the task is not run again."""
    execution = runtime.start(falsy, value)
    settle(execution)
    runtime.reopen()
    execution = runtime.again(execution)
    execution.signal("go on")
    result = execution.result(WAIT)
    assert result == [value, value]
    assert [type(each) for each in result] == [type(value)] * 2
    assert LEDGER == ["ran"]


class Size(Enum):
    SMALL = "s"


@dataclass
class Parcel:
    id: UUID
    size: Size
    price: Decimal
    lines: list[tuple[str, int]]
    sent: datetime
    marks: dict[int, set[str]] = field(default_factory=dict)
    inner: Parcel | None = None


PARCEL = Parcel(
    UUID(int=7),
    Size.SMALL,
    Decimal("1.10"),
    [("a", 1), ("b", 2)],
    datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC),
    {1: {"x", "y"}, 2: set()},
    Parcel(UUID(int=8), Size.SMALL, Decimal(0), [], datetime(2026, 1, 1)),
)


@workflow("behaviours.nested_data")
async def nested_data(ctx: Context, parcel: Parcel) -> list[Any]:
    given = await ctx.task(lambda: parcel)
    await ctx.task(lambda: None)
    more = await ctx.task(lambda: {"at": date(2026, 1, 2), "for": timedelta(days=1), (1, 2): b"\0"})
    return [parcel, given, parcel == given, more]


def test_02_nested_data_keeps_its_types(runtime: Stage) -> None:
    """Arguments and results come back equal and of the same types, live and replayed."""
    execution = runtime.start(nested_data, PARCEL)
    for _ in range(2):
        one, two, equal, more = execution.result(WAIT)
        assert one == two == PARCEL
        assert equal is True
        assert type(two.lines[0]) is tuple
        assert two.size is Size.SMALL
        assert more == {"at": date(2026, 1, 2), "for": timedelta(days=1), (1, 2): b"\0"}
        runtime.reopen()
        execution = runtime.again(execution)


class OutOfStock(Exception):
    def __init__(self, item: str, *, left: int) -> None:
        super().__init__(f"{item}: {left} left")
        self.item = item
        self.left = left


def reserve(item: str) -> None:
    note(item)
    try:
        {}[item]
    except KeyError as error:
        raise OutOfStock(item, left=2) from error


@dataclasses.dataclass(frozen=True)
class SlowDown(Exception):
    code: str


class Several(ExceptionGroup[Exception]):
    def __new__(cls, code: str, members: list[Exception]) -> Self:
        return super().__new__(cls, "several", members)

    def __init__(self, code: str, members: list[Exception]) -> None:
        self.code = code


def be_slow(code: str) -> None:
    note(code)
    raise SlowDown(code)


def fail_often() -> None:
    raise Several("s", [SlowDown(str(number)) for number in range(250)])


@workflow("behaviours.frozen")
async def frozen(ctx: Context) -> list[Any]:
    def ask() -> None:
        raise SlowDown("asked")

    ctx.on_query("ask", ask)
    got: list[Any] = []
    try:
        await ctx.task(be_slow, "task", retry=policy(2, retry_on=(SlowDown,)))
    except SlowDown as error:
        got = [error.code, *error.__notes__]
    try:
        await ctx.task(fail_often)
    except* SlowDown as group:
        got.append(len(group.exceptions))
    await ctx.wait_for_signal("go on")
    raise SlowDown(str(got))


def test_03_an_exception_whose_attributes_cannot_be_set(runtime: Stage) -> None:
    """A frozen dataclass is raised, retried, asked for and recorded as any other exception; a
    group of an own class comes with what it holds."""
    execution = runtime.start(frozen)
    with pytest.raises(SlowDown, match="asked"):
        execution.query("ask")
    execution.signal("go on")
    with pytest.raises(SlowDown) as failed:
        execution.result(WAIT)
    assert failed.value.code == "['task', \"task 'be_slow' failed after 2 attempts\", 250]"
    assert LEDGER == ["task", "task"]


@workflow("behaviours.failed_task")
async def failed_task(ctx: Context) -> list[Any]:
    state = watched(ctx)
    got: list[Any] = []
    try:
        await ctx.task(reserve, "pen")
    except OutOfStock as error:
        got = [error.item, error.left, str(error), type(error.__cause__).__name__]
    state["waits"] = True
    await ctx.wait_for_signal("go on")
    return got


def test_03_a_failure_replays_as_the_same_failure(runtime: Stage) -> None:
    """A task's exception arrives as its own type with its fields and its cause, also on replay;
    the task ran once."""
    execution = runtime.start(failed_task)
    settle(execution)
    runtime.reopen()
    execution = runtime.again(execution)
    execution.signal("go on")
    assert execution.result(WAIT) == ["pen", 2, "pen: 2 left", "KeyError"]
    assert LEDGER == ["pen"]


def fail_until(attempt: int) -> int:
    now = current_task().attempt
    note((now, current_task().idempotency_key))
    if now < attempt:
        raise ConnectionError(f"attempt {now}")
    return now


def policy(attempts: int, **options: Any) -> RetryPolicy:
    return RetryPolicy(max_attempts=attempts, initial=0.01, jitter="none", **options)


@workflow("behaviours.retries")
async def retries(ctx: Context, until: int, attempts: int) -> int:
    return await ctx.task(fail_until, until, retry=policy(attempts))


def test_04_fails_twice_then_succeeds(runtime: Stage) -> None:
    """A policy makes attempts 1, 2, 3 with its waits in between; the workflow sees the result."""
    execution = runtime.start(retries, 3, 5, id="retried")
    assert execution.result(WAIT) == 3
    assert [attempt for attempt, _ in LEDGER] == [1, 2, 3]
    assert len({key for _, key in LEDGER}) == 1
    waits = [event.retry_at - event.at for event in of_kind(execution, "TaskRetryScheduled")]
    assert waits == [10, 20]


def test_05_attempts_exhausted(runtime: Stage) -> None:
    """Exactly `max_attempts` attempts, then the last error, which tells how many there were."""
    with pytest.raises(ConnectionError, match="attempt 4") as failed:
        runtime.run(retries, 99, 4)
    assert [attempt for attempt, _ in LEDGER] == [1, 2, 3, 4]
    assert any("4 attempts" in note for note in failed.value.__notes__)


class TooMany(Exception):
    retry_after = 0.03


def ask_politely(kind: str) -> None:
    note(kind)
    raise {"other": ValueError, "polite": TooMany, "listed": ConnectionResetError}[kind](kind)


@workflow("behaviours.choosy")
async def choosy(ctx: Context, kind: str) -> None:
    listed = (ConnectionError, TooMany)
    await ctx.task(ask_politely, kind, retry=policy(3, retry_on=listed))


@pytest.mark.parametrize(
    ("kind", "attempts", "waits"),
    [("other", 1, []), ("listed", 3, [10, 20]), ("polite", 3, [30, 30])],
)
def test_06_what_is_retried(runtime: Stage, kind: str, attempts: int, waits: list[int]) -> None:
    """`retry_on` lists what is tried again, subclasses included; an exception with `retry_after`
    says itself when."""
    execution = runtime.start(choosy, kind)
    with pytest.raises(Exception, match=kind):
        execution.result(WAIT)
    assert [kind] * attempts == LEDGER
    found = of_kind(execution, "TaskRetryScheduled")
    assert [event.retry_at - event.at for event in found] == waits


class Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def refuse(*statuses: int) -> int:
    note(current_task().attempt)
    raise Refused(statuses[current_task().attempt - 1])


@workflow("behaviours.judged")
async def judged(ctx: Context, how: str) -> Any:
    policies: dict[str, dict[str, Any]] = {
        "by a predicate": {"retry_if": lambda error: error.status >= 500},
        "by a predicate that raises": {"retry_if": lambda error: error.nothing},
        "not this one": {"retry_on": (Exception,), "no_retry_on": (Refused,)},
        "not by name": {"no_retry_on": (f"{Refused.__module__}:Refused",)},
    }
    retry = RetryPolicy(max_attempts=5, initial=0.001, **policies[how])
    return await ctx.task(refuse, 503, 502, 404, 503, retry=retry)


@pytest.mark.parametrize(
    ("how", "attempts", "status"),
    [
        ("by a predicate", 3, 404),
        ("by a predicate that raises", 1, 503),
        ("not this one", 1, 503),
        ("not by name", 1, 503),
    ],
)
def test_06_what_a_predicate_refuses(runtime: Stage, how: str, attempts: int, status: int) -> None:
    """`no_retry_on` names what is never tried again; `retry_if` looks at the exception itself,
    where it was raised."""
    with pytest.raises(Refused, match=f"status {status}") as refused:
        runtime.start(judged, how).result(WAIT)
    assert refused.value.status == status
    assert list(range(1, attempts + 1)) == LEDGER
    noted = "retry_if raised" in "".join(getattr(refused.value, "__notes__", ()))
    assert noted == (how == "by a predicate that raises")


@workflow("behaviours.choosy_by_name")
async def choosy_by_name(ctx: Context, kind: str) -> None:
    retry = policy(3, retry_on=("Exception",), no_retry_on=("ValueError", TooMany))
    await ctx.task(ask_politely, kind, retry=retry)


@pytest.mark.parametrize(("kind", "attempts"), [("other", 1), ("listed", 3), ("polite", 1)])
def test_06_what_is_not_retried(runtime: Stage, kind: str, attempts: int) -> None:
    """`no_retry_on` lists what is not tried again, before `retry_on`; both take the bare name of
    a builtin exception."""
    with pytest.raises(Exception, match=kind):
        runtime.run(choosy_by_name, kind)
    assert [kind] * attempts == LEDGER


@workflow("behaviours.misspelt")
async def misspelt(ctx: Context) -> str:
    try:
        policy(3, retry_on=("TooMany",))
    except UsageError as error:
        return str(error)
    return "accepted"


def test_06_a_name_that_matches_nothing_is_refused(runtime: Stage) -> None:
    """A bare name that is no builtin exception is refused, with what to write instead."""
    assert "module:qualname" in runtime.run(misspelt)


def hang(name: str) -> int:
    attempt = current_task().attempt
    note(attempt)
    go_through(f"{name}-{attempt}")
    return attempt


@workflow("behaviours.loses_its_worker")
async def loses_its_worker(ctx: Context, attempts: int | None) -> Any:
    retry = None if attempts is None else policy(attempts)
    return await ctx.task(hang, "lost", retry=retry)


@pytest.mark.parametrize("attempts", [None, 3])
def test_07_a_worker_that_dies(runtime: Stage, attempts: int | None) -> None:
    """An attempt whose worker is gone counts, and another one follows, without any policy too."""
    runtime.reopen(grace=0)
    execution = runtime.start(loses_its_worker, attempts)
    gate("lost-1").wait_until_reached()
    runtime.die()
    runtime.reopen()
    # Where time stands still, it goes on while somebody waits.
    waiting = Background(lambda: runtime.again(execution).result(WAIT))
    gate("lost-2").wait_until_reached()
    gate("lost-1").open()
    gate("lost-2").open()
    assert waiting.get() == 2
    [lost] = of_kind(runtime.again(execution), "TaskRetryScheduled")
    why = "worker function ended" if runtime.posts else "its engine stopped"
    assert why in lost.failure.message
    assert LEDGER == [1, 2]


def test_07_a_worker_that_dies_in_the_only_attempt(runtime: Stage) -> None:
    """With one attempt the death of the worker is the task's failure: WorkerLost."""
    runtime.reopen(grace=0)
    execution = runtime.start(loses_its_worker, 1)
    gate("lost-1").wait_until_reached()
    runtime.die()
    runtime.reopen()
    with pytest.raises(WorkerLost):
        runtime.again(execution).result(WAIT)


@workflow("behaviours.slow_task")
async def slow_task(ctx: Context, attempts: int) -> Any:
    return await ctx.task(hang, "slow", timeout=SOON, retry=policy(attempts))


def test_08_a_timeout_is_per_attempt(runtime: Stage) -> None:
    """An attempt that takes longer than `timeout` fails with TaskTimeout, and is retried as any
    failure; the task fails with the last one."""
    with pytest.raises(TaskTimeout) as failed:
        runtime.run(slow_task, 2)
    assert isinstance(failed.value, TimeoutError)
    assert LEDGER == [1, 2]


async def hang_async() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        note("stopped")


@workflow("behaviours.slow_async")
async def slow_async(ctx: Context) -> None:
    await ctx.task(hang_async, timeout=SOON)


def test_08_an_async_task_that_times_out_is_stopped(runtime: Stage) -> None:
    """The code of an async task is cancelled when its time is over."""
    with pytest.raises(TaskTimeout):
        runtime.run(slow_async)
    assert LEDGER == ["stopped"]


def copies(pages: int) -> Any:
    """Says how far it has come, and then nothing more in its first attempt."""
    task = current_task()
    note([task.attempt, task.last_heartbeat])
    for page in range((task.last_heartbeat or 0) + 1, pages + 1):
        task.heartbeat(page)
        if task.attempt == 1 and page == 2:
            go_through("silent")
    return pages


@workflow("behaviours.copying")
async def copying(ctx: Context, attempts: int) -> Any:
    return await ctx.task(copies, 5, heartbeat_timeout=SOON, retry=policy(attempts))


def test_08_a_missing_heartbeat_ends_the_attempt(runtime: Stage) -> None:
    """An attempt that is silent for longer than `heartbeat_timeout` is over, long before any timeout,
    and the next one knows the details that it gave last."""
    execution = runtime.start(copying, 2)
    waiting = Background(lambda: execution.result(WAIT))
    gate("silent").wait_until_reached()
    assert waiting.get() == 5
    assert LEDGER == [[1, None], [2, 2]]
    gate("silent").open()


def test_08_a_missing_heartbeat_in_the_only_attempt(runtime: Stage) -> None:
    """Without another attempt the task fails with TaskTimeout, which says what was missing."""
    execution = runtime.start(copying, 1)
    with pytest.raises(TaskTimeout, match="heartbeat"):
        execution.result(WAIT)
    gate("silent").open()


def test_09_a_late_result_is_ignored(runtime: Stage) -> None:
    """What a timed-out attempt still returns changes nothing."""
    gate("slow-2").open()
    execution = runtime.start(late_result)
    waiting = Background(lambda: execution.result(WAIT))
    gate("slow-1").wait_until_reached()
    gate("between").wait_until_reached()
    gate("slow-1").open()
    gate("between").open()
    assert waiting.get() == [2, "between", "after"]
    assert len(of_kind(execution, "TaskCompleted")) == 3
    assert LEDGER == [1, 2]


@workflow("behaviours.late_result")
async def late_result(ctx: Context) -> list[Any]:
    first = await ctx.task(hang, "slow", timeout=SOON, retry=policy(2))
    second = await ctx.task(go_through, "between")
    return [first, second, await ctx.task(lambda: "after")]


@workflow("behaviours.wide")
async def wide(ctx: Context, n: int) -> list[int]:
    return await asyncio.gather(*(ctx.task(lambda: i * i) for i in range(n)))


def test_10_two_hundred_tasks_in_call_order(runtime: Stage) -> None:
    """gather gives the results in the order of the calls, whatever order the tasks ended in."""
    assert runtime.run(wide, 200) == [i * i for i in range(200)]


@workflow("behaviours.one_fails")
async def one_fails(ctx: Context, how: str) -> list[Any]:
    def step(i: int) -> int:
        if i == 1:
            raise ValueError("one")
        return i

    futures = [ctx.task(step, i) for i in range(4)]
    waiting = ctx.task(go_through, "one fails")
    if how == "all":
        got = await asyncio.gather(*futures, return_exceptions=True)
        return [str(each) for each in got]
    try:
        if how == "gather":
            await asyncio.gather(waiting, *futures)
        else:
            await ctx.map(step, range(4), concurrency=1)
    except ValueError:
        return ["caught", waiting.cancelled()]
    return ["?"]


@pytest.mark.parametrize(
    ("how", "result"),
    [("all", ["0", "one", "2", "3"]), ("gather", ["caught", False]), ("map", ["caught", False])],
)
def test_10_one_failure(runtime: Stage, how: str, result: list[Any]) -> None:
    """One failure leaves the others as asyncio says: gather raises it and cancels nobody."""
    execution = runtime.start(one_fails, how)
    gate("one fails").wait_until_reached()
    assert execution.result(WAIT) == result


@workflow("behaviours.tolerant_map")
async def tolerant_map(ctx: Context, options: dict[str, Any]) -> list[str]:
    def load(name: str) -> str:
        if name == "b":
            raise FileNotFoundError(f"{name}.csv")
        return name

    files = ["a", "b", "c", "d"]
    called = ctx.map(load, files, concurrency=1, name=lambda name: f"load {name}.csv", **options)
    return [str(result) for result in await called]


@pytest.mark.parametrize(
    ("options", "result"),
    [
        ({"tolerated_failures": 1}, ["a", "b.csv", "c", "d"]),
        ({"min_successful": 2}, ["a", "b.csv", "c", "given up"]),
        ({"min_successful": 4}, None),
    ],
    ids=str,
)
def test_10_a_map_tolerates_failures(
    runtime: Stage, options: dict[str, Any], result: list[str] | None
) -> None:
    """A map names its tasks after their items, and gives the exceptions of as many as it may
    tolerate among its results, in the order of the items.
    """
    execution = runtime.start(tolerant_map, options)
    if result is None:
        with pytest.raises(FileNotFoundError, match=r"b\.csv"):
            execution.result(WAIT)
    else:
        assert [text.partition(":")[0] for text in execution.result(WAIT)] == result
    scheduled = of_kind(execution, "TaskScheduled")
    assert [event.name for event in scheduled][:2] == ["load a.csv", "load b.csv"]


@workflow("behaviours.grouped")
async def grouped(ctx: Context) -> int:
    count = 0
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(await_it(ctx.task(go_through, "grouped")))
            group.create_task(await_it(ctx.task(reserve, "x")))
    except* OutOfStock as caught:
        count = len(caught.exceptions)
    return count


async def await_it(future: Any) -> Any:
    return await future


def test_10_a_task_group_gives_the_others_up(runtime: Stage) -> None:
    """In a TaskGroup the first failure cancels the other tasks."""
    execution = runtime.start(grouped)
    assert execution.result(WAIT) == 1
    assert len(of_kind(execution, "TaskCancelled")) == 1


@workflow("behaviours.unawaited")
async def unawaited(ctx: Context, when: str) -> str:
    futures = [ctx.task(run_through_gate), ctx.task(fail_at_gate, name="forgotten")]
    if when == "before the end":
        await ctx.wait_for(lambda: all(future.done() for future in futures))
    return "done"


def run_through_gate() -> None:
    note("ran")
    go_through("ran")


def fail_at_gate() -> None:
    go_through("unawaited")
    reserve("pen")


@pytest.mark.parametrize("when", ["before the end", "after the end"])
def test_11_never_awaited(runtime: Stage, when: str, caplog: pytest.LogCaptureFixture) -> None:
    """A task that nobody awaits runs all the same, also when the workflow is over; its failure is
    logged with its name."""
    gate("ran").open()
    with caplog.at_level(logging.WARNING, logger="mini_workflow"):
        execution = runtime.start(unawaited, when)
        gate("ran").wait_until_reached()
        gate("unawaited").wait_until_reached()
        if when == "after the end":
            assert execution.result(WAIT) == "done"
        gate("unawaited").open()
        assert execution.result(WAIT) == "done"
        runtime.reopen()
    assert sorted(LEDGER) == ["pen", "ran"]
    assert any("task 'forgotten' failed" in record.getMessage() for record in caplog.records)


@workflow("behaviours.captures")
async def captures(ctx: Context) -> list[Any]:
    futures = []
    for i in range(5):
        label: list[Any] = [i]
        futures.append(ctx.task(lambda: (i, label)))
        label.append("changed afterwards")

    @ctx.task
    def decorated() -> int:
        return i * 10

    i = 99
    return [await asyncio.gather(*futures), await decorated]


def test_12_loop_variables_are_captured_at_the_call(runtime: Stage) -> None:
    """A task sees its captured variables as they were when it was started."""
    assert runtime.run(captures) == [[(i, [i]) for i in range(5)], 40]

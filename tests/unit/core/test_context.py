"""What the context offers beside tasks and timers: map, wait_for, chance, info, logger, inline."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import time
from collections.abc import Callable
from inspect import signature
from typing import Any
from unittest.mock import Mock

import pytest

from mini_workflow.context import Context
from mini_workflow.core import commands, events
from mini_workflow.core.decide import advance
from mini_workflow.core.retry import RetryPolicy
from mini_workflow.errors import (
    ClosureNotSerializable,
    DuplicateWorkflow,
    InvalidArguments,
    InvalidIdentifier,
    UsageError,
    ValueNotSerializable,
)
from mini_workflow.workflow import REGISTRY, Workflow, workflow
from tests.laws import corpus
from tests.laws.corpus import double, fail
from tests.laws.driver import CODEC, Driver, check_replays, chosen, define, run

# map


@pytest.mark.parametrize("concurrency", [None, 1, 2, 7, 100])
@pytest.mark.parametrize("seed", range(3))
def test_map_keeps_the_order_and_the_bound(concurrency: int | None, seed: int) -> None:
    async def mapping(ctx: Context) -> list[int]:
        return await ctx.map(double, range(20), concurrency=concurrency)

    driver = Driver(mapping, choices=chosen(seed))
    most = len(driver.dispatched)
    while not driver.closed:
        driver.step()
        most = max(most, len(driver.dispatched))
    assert driver.result() == [2 * i for i in range(20)]
    assert most == min(concurrency or 20, 20)
    check_replays(driver)


def test_the_first_failure_of_a_map_cancels_the_others() -> None:
    async def mapping(ctx: Context) -> None:
        await ctx.map(fail, ["a", "b", "c", "d", "e"], concurrency=3)

    driver = Driver(mapping)
    driver.deliver(driver.perform(driver.dispatched[1]))
    assert driver.failure().message == "b"
    assert [event.seq for event in driver.recorded(events.TaskCancelled)] == [1, 3]
    assert len(driver.recorded(events.TaskScheduled)) == 3
    check_replays(driver)


def test_the_tasks_of_a_map_are_named_after_their_items() -> None:
    async def mapping(ctx: Context) -> None:
        await ctx.map(fail, ["a", "b", "c"], concurrency=1, name=lambda item: f"load {item}.csv")

    driver = Driver(mapping)
    assert [event.name for event in driver.recorded(events.TaskScheduled)] == ["load a.csv"]
    driver.deliver(driver.perform(driver.dispatched[0]))
    assert driver.failure().message == "a"
    check_replays(driver)


@pytest.mark.parametrize(
    "name", [lambda item: item, lambda item: None], ids=["a number", "nothing"]
)
def test_a_name_that_is_no_text_fails_the_map_where_it_is_asked_for(name: Any) -> None:
    async def mapping(ctx: Context) -> str:
        try:
            await ctx.map(double, [1, 2], name=name)
        except UsageError as error:
            return str(error)
        return "not reached"

    driver = Driver(mapping)
    assert "ctx.map(name=...) returned" in driver.result()
    assert driver.recorded(events.TaskScheduled) == []


def fail_odd(item: int) -> int:
    if item % 2:
        raise ValueError(f"odd: {item}")
    return 10 * item


Outcome = list[Any] | str


def tolerant(items: int, fails: Callable[[Any], Any] = fail_odd, **options: Any) -> Any:
    """A workflow that maps over so many items, and what is shown of each result, or of the failure."""

    async def mapping(ctx: Context) -> Outcome:
        try:
            results = await ctx.map(fails, range(items), **options)
        except ValueError as error:
            return str(error)
        return [f"{type(r).__name__}: {r}" if isinstance(r, Exception) else r for r in results]

    return mapping


GIVEN_UP = "TaskCancelled: given up: enough of the others have succeeded"


@pytest.mark.parametrize(
    ("items", "options", "expected"),
    [
        (4, {"return_exceptions": True}, [0, "ValueError: odd: 1", 20, "ValueError: odd: 3"]),
        (4, {"return_exceptions": False}, "odd: 1"),
        (4, {"tolerated_failures": 2}, [0, "ValueError: odd: 1", 20, "ValueError: odd: 3"]),
        (4, {"tolerated_failures": 1}, "odd: 3"),
        (4, {"tolerated_failures": 0}, "odd: 1"),
        (5, {"min_successful": 2}, [0, "ValueError: odd: 1", 20, GIVEN_UP, GIVEN_UP]),
        (5, {"min_successful": 3}, [0, "ValueError: odd: 1", 20, "ValueError: odd: 3", 40]),
        (4, {"min_successful": 3}, "odd: 3"),
        (5, {"min_successful": 3, "tolerated_failures": 1}, "odd: 3"),
        (1, {"min_successful": 1, "tolerated_failures": 100}, [0]),
        (0, {"return_exceptions": True}, []),
        (0, {"tolerated_failures": 3}, []),
    ],
    ids=str,
)
@pytest.mark.parametrize("concurrency", [1, 2])
def test_failures_of_a_map_are_tolerated_as_far_as_it_says(
    items: int, options: dict[str, Any], expected: Outcome, concurrency: int
) -> None:
    driver = Driver(tolerant(items, concurrency=concurrency, **options))
    while not driver.closed:
        driver.deliver(driver.perform(driver.dispatched[0]))
    assert driver.result() == expected
    check_replays(driver)


def test_a_map_that_ends_early_gives_the_others_up() -> None:
    driver = Driver(tolerant(4, double, min_successful=1))
    driver.deliver(driver.perform(driver.dispatched[2]))
    assert driver.result() == [GIVEN_UP, GIVEN_UP, 4, GIVEN_UP]
    assert [event.seq for event in driver.recorded(events.TaskCancelled)] == [1, 2, 4]
    check_replays(driver)


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"min_successful": 0}, "min_successful=0"),
        ({"min_successful": 5}, "there are only 4 items"),
        ({"min_successful": True}, "min_successful=True"),
        ({"tolerated_failures": -1}, "tolerated_failures=-1"),
        ({"tolerated_failures": 1.5}, "tolerated_failures=1.5"),
        ({"return_exceptions": True, "tolerated_failures": 1}, "tolerates all failures"),
        ({"return_exceptions": True, "min_successful": 1}, "tolerates all failures"),
    ],
    ids=str,
)
def test_a_wrong_tolerance_is_refused_and_starts_nothing(
    options: dict[str, Any], culprit: str
) -> None:
    async def mapping(ctx: Context) -> str:
        try:
            await ctx.map(double, range(4), **options)
        except UsageError as error:
            return str(error)
        return "not reached"

    driver = Driver(mapping)
    assert culprit in driver.result()
    assert driver.recorded(events.TaskScheduled) == []


def test_cancelling_a_map_cancels_its_tasks() -> None:
    async def mapping(ctx: Context) -> str:
        try:
            async with asyncio.timeout(1):
                await ctx.map(double, range(4), concurrency=2)
        except TimeoutError:
            return "timeout"
        return "not reached"

    driver = Driver(mapping)
    driver.tick()
    assert driver.result() == "timeout"
    assert len(driver.recorded(events.TaskCancelled)) == 2


def test_map_is_linear() -> None:
    async def mapping(ctx: Context) -> int:
        return sum(await ctx.map(double, range(int(sizes[-1])), concurrency=50))

    def run(size: int) -> None:
        sizes.append(size)
        driver = Driver(define(mapping))
        results = CODEC.encode(1, "result")
        while not driver.closed:
            batch, driver.dispatched = driver.dispatched, []
            driver.deliver(
                *(events.TaskCompleted(driver.now, c.seq, c.attempt, results) for c in batch)
            )
        assert driver.result() == size

    sizes: list[int] = []
    run(100)
    small, large = (calls_of(lambda n=size: run(n)) for size in (500, 5_000))
    assert large < 11 * small


def calls_of(action: Callable[[], object]) -> int:
    """How many functions an action calls, on this thread: that does not depend on the machine."""
    calls = 0

    def count(_frame: object, kind: str, _argument: object) -> None:
        nonlocal calls
        calls += kind in ("call", "c_call")

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


# wait_for


def test_conditions_wake_in_the_order_of_waiting() -> None:
    async def waiting(ctx: Context) -> list[str]:
        state, seen = {"go": False}, list[str]()

        async def branch(name: str) -> None:
            await ctx.wait_for(lambda: state["go"])
            seen.append(name)

        tasks = [asyncio.create_task(branch(name)) for name in "cab"]
        await ctx.task(double, 1)
        state["go"] = True
        await asyncio.wait(tasks)
        return seen

    driver = run(waiting)
    assert driver.result() == ["c", "a", "b"]
    check_replays(driver)


@pytest.mark.parametrize("error", [ValueError, StopIteration, SystemExit])
@pytest.mark.parametrize("at_once", [True, False])
def test_what_a_predicate_raises_is_raised_by_wait_for(
    error: type[BaseException], at_once: bool
) -> None:
    async def waiting(ctx: Context) -> str:
        tries: list[int] = []

        def predicate() -> bool:
            tries.append(1)
            if at_once or len(tries) > 1:
                raise error("predicate")
            return False

        try:
            await ctx.wait_for(predicate)
        except BaseException as caught:
            return f"{type(caught).__name__}: {caught}"
        return "not reached"

    # A coroutine cannot raise StopIteration: Python makes a RuntimeError of it.
    name = "RuntimeError" if error is StopIteration else error.__name__
    assert run(waiting).result().startswith(f"{name}: ")


def test_a_condition_given_up_is_not_tried_again() -> None:
    tries: list[int] = []

    async def waiting(ctx: Context) -> None:
        def predicate() -> bool:
            tries.append(1)
            return False

        with pytest.raises(TimeoutError):
            await ctx.wait_for(predicate, timeout=1)
        tries.clear()
        await ctx.sleep(1)

    run(waiting)
    assert tries == []


# Chance, info, logger


def test_chance_is_the_same_on_replay_and_differs_between_executions() -> None:
    async def chance(ctx: Context) -> list[str]:
        seen = [str(ctx.uuid4()), str(ctx.random.random())]
        await ctx.sleep(1)
        return [*seen, str(ctx.uuid4()), str(ctx.random.getrandbits(64))]

    one = run(chance)
    check_replays(one)
    assert one.result() == run(chance).result()
    assert set(one.result()).isdisjoint(run(chance, seed=8).result())
    assert one.result()[0][14] == "4"


def test_info_tells_what_is_known() -> None:
    async def curious(ctx: Context) -> list[Any]:
        first = ctx.info
        await ctx.task(double, 1)
        return [first.execution_id, first.workflow, first.run, first.started_at.timestamp(),
                first.history_length, ctx.info.history_length, repr(ctx)]  # fmt: skip

    driver = run(curious, execution_id="an id")
    assert driver.result() == [
        "an id", "curious", 1, 1_700_000_000, 1, 3, "<context of execution 'an id'>"
    ]  # fmt: skip


def test_the_logger_speaks_once_and_names_the_callers_line(caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)

    async def talking(ctx: Context) -> None:
        ctx.logger.info("hello %s", "you")
        await ctx.task(double, 1)
        ctx.logger.debug("again")
        try:
            await ctx.task(fail, "x")
        except ValueError:
            ctx.logger.exception("failed")

    driver = run(talking)
    assert [record.message for record in caplog.records] == [
        "[execution-1] hello you", "[execution-1] again", "[execution-1] failed",
    ]  # fmt: skip
    first = talking.__code__.co_firstlineno
    assert [record.lineno - first for record in caplog.records] == [1, 3, 7]
    assert {record.funcName for record in caplog.records} == {"talking"}
    assert {record.execution_id for record in caplog.records} == {"execution-1"}
    assert caplog.records[-1].exc_info[0] is ValueError
    caplog.clear()
    check_replays(driver)
    assert [r.message for r in caplog.records if "again" in r.message] == []


def test_log_handlers_run_outside_of_the_workflow(caplog: Any) -> None:
    seen: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            time.sleep(0)
            asyncio.run(asyncio.sleep(0))
            seen.append(record.getMessage())

    async def talking(ctx: Context) -> None:
        ctx.logger.warning("to the network")
        await ctx.sleep(0)

    handler = Handler()
    logger = logging.getLogger("mini_workflow.workflow")
    logger.addHandler(handler)
    try:
        run(talking)
    finally:
        logger.removeHandler(handler)
    assert seen == ["[execution-1] to the network"]


# Inline tasks and the forms of task


def test_inline_tasks_are_recorded_and_not_run_again() -> None:
    driver = run(corpus.SHAPES["inline"])
    recorded = driver.recorded(events.InlineTaskCompleted, events.InlineTaskFailed)
    assert [event.seq for event in recorded] == [1, 2, 4]
    calls: list[str] = []

    def count(execution_id: str, seq: int, name: str, payload: bytes) -> Any:
        calls.append(name)
        return CODEC.encode(0, "result")

    decision = advance(driver.definition, driver.history, [], CODEC, inline=count)
    assert decision.fault is None
    assert calls == []


def test_inline_tasks_need_someone_to_run_them() -> None:
    async def inline(ctx: Context) -> None:
        await ctx.task(double, 1, inline=True)

    from mini_workflow.core.history import History
    from tests.laws.driver import started

    definition = define(inline)
    decision = advance(definition, History(), [started(definition)], CODEC)
    # It stops there: the workflow cannot catch that and go on differently from the next time.
    assert "inline task 'double' comes next" in str(decision.fault)
    assert [type(event) for event in decision.events] == [events.ExecutionStarted]


def test_names_of_tasks() -> None:
    class Callable:
        def __call__(self) -> int:
            return 1

    async def named(ctx: Context) -> None:
        ctx.task(double, 1)
        ctx.task(lambda: 1)
        ctx.task(functools.partial(functools.partial(double, 1)))
        ctx.task(Callable())
        ctx.task(double, 1, name="given")

        @ctx.task
        def decorated() -> int:
            return 1

        await decorated

    names = [event.name for event in run(named).recorded(events.TaskScheduled)]
    assert names == ["double", "<lambda>", "double", "Callable", "given", "decorated"]


def test_commands_say_what_to_run() -> None:
    async def body() -> int:
        return 1

    async def commanding(ctx: Context) -> None:
        ctx.task(body, timeout=1.5)
        await ctx.task(functools.partial(body), name="partial")

    driver = Driver(commanding)
    first, second = driver.commands
    assert isinstance(first, commands.RunTask)
    assert isinstance(second, commands.RunTask)
    assert (first.seq, first.attempt, first.name, first.timeout) == (1, 1, "body", 1500)
    assert first.is_async
    assert second.is_async
    assert second.timeout is None


# @workflow


def test_forms_of_the_decorator() -> None:
    @workflow
    async def plain_form(ctx: Context) -> int:
        """Says so."""
        return 1

    @workflow("named-form")
    async def other(ctx: Context, a: int, *, b: int = 2) -> int:
        return a + b

    @workflow()
    async def called_form(*args: Any) -> None: ...

    third = workflow("function form".replace(" ", "-"), other.handler)
    fourth = workflow("another-name", other)
    assert (fourth.name, fourth.handler) == ("another-name", other.handler)
    assert REGISTRY.get("another-name") is fourth
    assert [w.name for w in (plain_form, other, called_form, third)] == [
        "plain_form", "named-form", "called_form", "function-form",
    ]  # fmt: skip
    assert REGISTRY.get("named-form") is other
    assert plain_form.__doc__ == "Says so."
    assert repr(other) == "<workflow 'named-form'>"
    assert workflow(other).name == "named-form"
    assert other.place.startswith(f"{__file__}:")
    other.check_arguments((1,), {"b": 3})
    for args, kwargs in (((), {}), ((1, 2), {}), ((1,), {"c": 1})):
        with pytest.raises(InvalidArguments, match="named-form"):
            other.check_arguments(args, kwargs)


@pytest.mark.parametrize("bad", ["", "a b", "-a", "x" * 101, "ü", "a/b", "a\n", 5])
def test_names_that_are_refused(bad: Any) -> None:
    async def handler(ctx: Context) -> None: ...

    with pytest.raises(InvalidIdentifier):
        workflow(bad, handler)


def test_functions_that_are_refused() -> None:
    def sync(ctx: Context) -> None: ...

    async def nothing() -> None: ...

    async def keyword(*, ctx: Context) -> None: ...

    for bad in (sync, nothing, keyword, 5):
        with pytest.raises((UsageError, InvalidIdentifier)):
            workflow("refused", bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidIdentifier):
        workflow(functools.partial(nothing))  # type: ignore[arg-type]


def test_two_functions_of_one_name_are_refused() -> None:
    async def one(ctx: Context) -> None: ...

    async def two(ctx: Context) -> None: ...

    made = workflow("twice-defined", one)
    assert isinstance(made, Workflow)
    with pytest.raises(DuplicateWorkflow, match=r"two workflows are called 'twice-defined'.*:\d+"):
        workflow("twice-defined", two)


# What must not be captured


@pytest.mark.parametrize(
    ("make", "instead"),
    [
        (lambda ctx: ctx.promise(), r"a promise.*\.token"),
        (lambda ctx: ctx.child("w"), r"the future of a child.*\.id"),
        (lambda ctx: ctx.execution("other"), r"a handle to another execution.*\.id"),
        (lambda ctx: ctx.task(int), r"a future.*pass its result"),
        (lambda ctx: ctx.sleep(1), r"a future.*pass its result"),
    ],
)
@pytest.mark.parametrize("how", ["captured", "an argument", "a value"])
def test_what_belongs_to_the_workflow_says_what_to_hand_over(
    make: Any, instead: str, how: str
) -> None:
    async def workflow(ctx: Context) -> None:
        thing = make(ctx)
        hand_over: dict[str, Callable[[], object]] = {
            "captured": lambda: ctx.task(lambda: thing),
            "an argument": lambda: ctx.task(print, [thing]),
            "a value": lambda: ctx.execution("other").signal("name", {"a": thing}),
        }
        with pytest.raises((ClosureNotSerializable, ValueNotSerializable), match=instead):
            hand_over[how]()

    assert run(workflow).result() is None


OPTIONS_GIVEN: dict[str, Any] = {
    "name": "charge",
    "retry": RetryPolicy(max_attempts=2),
    "timeout": 5,
    "heartbeat_timeout": 5,
    "inline": True,
    "undo": print,
    "worker": "gpu",
    "limit": "openai",
    "limit_key": "customer",
    "priority": 5,
}
"""Of each option of `ctx.task` something else than its default."""

BESIDE: dict[str, dict[str, Any]] = {
    "limit_key": {"limit": "openai"},
    "priority": {"limit": "openai"},
}
"""What an option is refused without."""


@pytest.mark.parametrize(
    "option",
    [name for name, p in signature(Context.task).parameters.items() if p.kind is p.KEYWORD_ONLY],
)
def test_each_option_of_a_task_counts_when_it_is_given_alone(option: str) -> None:
    """Without options a call takes a short way, which has to know them all."""
    beside = BESIDE.get(option, {})
    assert asked_for({option: OPTIONS_GIVEN[option], **beside}) != asked_for(beside)


def asked_for(options: dict[str, Any]) -> Any:
    """What a run is asked for by `ctx.task` with these options."""
    tasks = Mock()
    Context(Mock(tasks=tasks)).task(print, **options)
    (call,) = tasks.method_calls
    return call


@pytest.mark.parametrize("given", [[], [[7]]])
def test_a_default_that_can_change_is_each_runs_own(given: list[Any]) -> None:
    """A replay in the same process would find what the run before has put into it."""

    async def collects(
        ctx: Context,
        items: list[int] = [],  # noqa: B006 - as users write it
        /,
        *more: int,
        seen: dict[str, int] = {},  # noqa: B006
        **rest: int,
    ) -> list[Any]:
        items.append(await ctx.task(double, len(items)))
        seen["items"] = len(items)
        return [items, more, seen, rest]

    handler = define(collects)
    for _ in range(2):
        driver = run(handler, *given)
        expected = [7, 2] if given else [0]
        assert driver.result() == [expected, (), {"items": len(expected)}, {}]
        check_replays(driver)
        given = [[7]] if given else []

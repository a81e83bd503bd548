"""Calls that cannot mean what they say are refused where they are written."""

# ruff: noqa: PLW0108 - a lambda that calls a function is not that function

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from mini_workflow import Context, RetryPolicy, UsageError, workflow
from mini_workflow.core import events
from mini_workflow.core.state import ExecutionState
from mini_workflow.errors import ClosureNotSerializable, ValueNotSerializable
from mini_workflow.testing import WorkflowEnvironment
from tests.laws.driver import check_replays, run

TAKES_NONE: Any = lambda: None  # noqa: E731
TAKES_TWO: Any = lambda one, two: None  # noqa: E731


def send(to: str, name: str = "customer", timeout: float = 60) -> str:
    return f"{to} {name} {timeout:g}"


def anything(*args: Any, **kwargs: Any) -> str:
    return f"{args} {kwargs}"


def refused(call: Any) -> str:
    """What the workflow's code is told at the call; it goes on, and so does a replay."""
    told: list[str] = []

    async def workflow(ctx: Context) -> str:
        try:
            await call(ctx)
        except (UsageError, ClosureNotSerializable) as error:
            told.append(str(error))
        return await ctx.task(lambda: "went on")

    recorded = run(workflow)
    assert recorded.result() == "went on"
    check_replays(recorded)
    assert told
    return told[0]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda ctx: ctx.task(send, "ann", name="Ann"), "name= is an option"),
        (lambda ctx: ctx.task(send, "ann", timeout=5), "timeout= is an option"),
        (lambda ctx: ctx.task(functools.partial(send, "ann"), name="Ann"), "name= is an option"),
        (lambda ctx: ctx.task(send, "ann", retries=3), "retries= is neither"),
        (lambda ctx: ctx.task(functools.partial(send), retries=3), "retries= is neither"),
        (lambda ctx: ctx.task(send, "ann", retry=3), "is not a RetryPolicy"),
        (lambda ctx: ctx.map(send, ["ann"], retry=3), "is not a RetryPolicy"),
        (lambda ctx: ctx.task(send, "ann", retry=3, inline=True), "is not a RetryPolicy"),
    ],
)
def test_arguments_that_would_be_swallowed(call: Any, match: str) -> None:
    assert match in refused(call)


def test_arguments_that_are_plain() -> None:
    async def workflow(ctx: Context) -> list[str]:
        return [
            await ctx.task(send, "ann", "Ann", name="a"),
            await ctx.task(send, "ann", "Ann", 5, name="b", timeout=9),
            await ctx.task(lambda: send("ann", name="Ann", timeout=5), name="c"),
            await ctx.task(anything, name="d", other=1),
            await ctx.task(functools.partial(send, name="Ann", timeout=3), "ann"),
            await ctx.task(int, "7", retry=RetryPolicy(max_attempts=2)),
        ]

    assert run(workflow).result()[:3] == ["ann Ann 60", "ann Ann 5", "ann Ann 5"]


def test_a_task_that_assigns_a_captured_variable_is_refused() -> None:
    async def adds(ctx: Context) -> Any:
        total = 0

        def add() -> None:
            nonlocal total
            total += 1

        return await ctx.task(add)

    async def adds_deeper(ctx: Context) -> Any:
        total = 0

        def add() -> None:
            def inner() -> None:
                nonlocal total
                total += 1

            inner()

        return await ctx.task(add, inline=True)

    async def keeps_to_itself(ctx: Context) -> int:
        def count() -> int:
            total = 0

            def inner() -> None:
                nonlocal total
                total += 1

            inner()
            return total

        return await ctx.task(count)

    assert "'total' (nonlocal)" in refused(adds)
    assert "'total' (nonlocal)" in refused(adds_deeper)
    assert run(keeps_to_itself).result() == 1


def noted(function: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(function)
    def wrapped() -> Any:
        return function()

    return wrapped


def once(function: Callable[[], Any]) -> Callable[[], Any]:
    """A decorator with a variable of its own, of which nobody else knows."""
    result = None

    @functools.wraps(function)
    def wrapped() -> Any:
        nonlocal result
        if result is None:
            result = function()
        return result

    return wrapped


LOST_BY: dict[str, Callable[[Any, Callable[[], Any]], Any]] = {
    "a call": lambda ctx, add: ctx.task(lambda: add()),
    "a wrapper": lambda ctx, add: ctx.task(noted(add)),
    "a partial": lambda ctx, add: ctx.task(functools.partial(add)),
    "an argument": lambda ctx, add: ctx.task(lambda add: add(), add),
    "a list": lambda ctx, add: ctx.task(lambda: [add][0]()),
    "a keyword": lambda ctx, add: ctx.task(lambda *, add: add(), add=add),
    "a default": lambda ctx, add: ctx.task(lambda add=add: add()),
    "an inline task": lambda ctx, add: ctx.task(lambda: add(), inline=True),
    "an item": lambda ctx, add: ctx.map(lambda add: add(), [add]),
}


@pytest.mark.parametrize("name", LOST_BY)
@pytest.mark.parametrize("in_branch", [False, True])
def test_what_a_task_would_assign_by_other_functions_is_refused(name: str, in_branch: bool) -> None:
    async def adds(ctx: Context) -> Any:
        total = 0

        def add() -> None:
            nonlocal total
            total += 1

        async def branch() -> Any:
            return await LOST_BY[name](ctx, add)

        await asyncio.gather(branch()) if in_branch else await branch()
        return total

    assert "'total' (nonlocal)" in refused(adds)


def test_what_a_method_of_a_local_class_would_assign_is_refused() -> None:
    async def adds(ctx: Context) -> Any:
        total = 0

        class Adder:
            def add(self) -> None:
                nonlocal total
                total += 1

        adder = Adder()
        return await ctx.task(lambda: adder.add())

    assert "'total' (nonlocal)" in refused(adds)


def test_what_only_a_function_of_its_own_knows_may_be_assigned() -> None:
    """A decorator or a factory has returned: nobody but the function has the variable."""

    async def memoized(ctx: Context) -> list[int]:
        def make_counter() -> Callable[[], int]:
            total = 0

            def count() -> int:
                nonlocal total
                total += 1
                return total

            return count

        count = make_counter()

        @once
        def three() -> int:
            return 3

        return [await ctx.task(lambda: three()), await ctx.task(lambda: count() + count())]

    assert run(memoized).result() == [3, 3]


class Lazy:
    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        raise StopIteration


@pytest.mark.parametrize(
    "make",
    [
        lambda: map(str, [1]),
        lambda: filter(None, [1]),
        lambda: zip([1], [2], strict=True),
        lambda: enumerate([1]),
        lambda: iter([1]),
        lambda: {"deep": [reversed([1])]},
        Lazy,
    ],
)
def test_lazy_values_are_refused(make: Any) -> None:
    with WorkflowEnvironment() as env:

        @workflow("lazy-result")
        async def lazy(ctx: Context, *args: Any) -> Any:
            await ctx.sleep(1 if args else 0)
            return list(await ctx.task(make))

        with pytest.raises(ValueNotSerializable, match="is an iterator"):
            env.start_execution(lazy).result(timeout=60)
        with pytest.raises(ValueNotSerializable, match="is an iterator"):
            env.start_execution("lazy-result", make())
        execution = env.start_execution(lazy, 1)
        with pytest.raises(ValueNotSerializable, match="is an iterator"):
            execution.signal("more", make())
    value = make()
    assert "is an iterator" in refused(lambda ctx: ctx.task(anything, value))


@pytest.mark.parametrize(
    ("register", "match"),
    [
        (lambda ctx: ctx.on_signal("a", TAKES_NONE), "take one argument"),
        (lambda ctx: ctx.on_signal("a", TAKES_TWO), "take one argument"),
        (lambda ctx: ctx.on_update("a", TAKES_TWO, validator=TAKES_NONE), "so it has to take 2"),
        (lambda ctx: ctx.on_update("a", TAKES_NONE, validator=TAKES_TWO), "so it has to take 0"),
    ],
)
def test_handlers_with_the_wrong_parameters(register: Any, match: str) -> None:
    async def listens(ctx: Context) -> None:
        with pytest.raises(UsageError, match=match):
            register(ctx)

    assert run(listens).result() is None


def test_options_that_a_workflow_has_parameters_for() -> None:
    @workflow("load-user")
    async def load_user(ctx: Context, id: str = "guest", signal: str = "") -> str:  # noqa: A002
        return id

    @workflow("load-parent")
    async def parent(ctx: Context) -> str:
        with pytest.raises(UsageError, match="id= is an option"):
            ctx.child(load_user, id="u-1")
        return await ctx.child(load_user, "u-2", id="child-1")

    with WorkflowEnvironment() as env:
        with pytest.raises(UsageError, match="id= is an option"):
            env.start_execution(load_user, id="u-7")
        with pytest.raises(UsageError, match="is an option"):
            env.signal_with_start(load_user, "u-8", id="e-8", signal="go")
        assert env.start_execution(load_user, "u-7", id="e-7").result(timeout=60) == "u-7"
        assert env.start_execution(parent).result(timeout=60) == "u-2"


def test_a_method_is_no_workflow() -> None:
    with pytest.raises(UsageError, match="is a method"):

        class Shop:
            @workflow
            async def order(self, ctx: Context) -> None: ...


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_workflow_made_again_at_the_same_place_replaces_the_one_before(factor: int) -> None:
    @workflow
    async def times(ctx: Context, n: int) -> int:
        return await ctx.task(lambda: factor * n)

    with WorkflowEnvironment() as env:
        assert env.start_execution(times, 21).result(timeout=60) == factor * 21


def test_tokens_do_not_follow_from_what_is_known() -> None:
    @workflow("promises")
    async def promises(ctx: Context) -> None:
        await ctx.promise()

    with WorkflowEnvironment() as env:
        started = [env.start_execution(promises).history()[0] for _ in range(2)]
    first, second = started
    assert isinstance(first, events.ExecutionStarted)
    assert isinstance(second, events.ExecutionStarted)
    state = ExecutionState.of([first])
    assert len(state.secret(1)) >= 24


def test_a_token_comes_from_the_key_alone() -> None:
    started = events.ExecutionStarted(0, "w", run(_nothing).events[0].arguments, seed=1)
    old = ExecutionState.of([started]).secret(1)
    assert old == "".join(ExecutionState.of([started]).secret(1))
    keyed = [
        ExecutionState.of(
            [events.ExecutionStarted(0, "w", started.arguments, seed=seed, key=key)]
        ).secret(1)
        for seed, key in ((1, "a"), (2, "a"), (1, "b"))
    ]
    assert keyed[0] == keyed[1] != keyed[2]
    assert old not in keyed


async def _nothing(ctx: Context) -> None: ...


var: ContextVar[str] = ContextVar("var", default="none")


def test_what_is_dropped_from_memory_ends_in_its_own_context() -> None:
    ends: list[str] = []

    @contextlib.contextmanager
    def scope(value: str) -> Iterator[None]:
        token = var.set(value)
        try:
            yield
        finally:
            try:
                var.reset(token)
            except ValueError as error:
                value = str(error)
            ends.append(value)

    @workflow("dropped")
    async def dropped(ctx: Context) -> None:
        with scope("workflow"):
            await ctx.wait_for_signal("never")

    with WorkflowEnvironment() as env:
        env.start_execution(dropped)
        env.advance(1)
    assert ends == ["workflow"]

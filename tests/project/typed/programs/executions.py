"""Executions and children, and what type checkers say of their arguments and results."""

from typing import Any, assert_type

from mini_workflow import (
    Child,
    Context,
    Execution,
    LocalClient,
    LocalRuntime,
    UpdateHandle,
    workflow,
)
from mini_workflow.testing import WorkflowEnvironment


@workflow
async def order(ctx: Context, number: str, amount: int = 1) -> float:
    await ctx.sleep(1)
    return len(number) * float(amount)


@workflow("audit")
async def audit(ctx: Context, id: int, *, value: str = "") -> list[str]:  # noqa: A002
    return [str(id), value]


def results_have_types(runtime: LocalRuntime) -> None:
    assert_type(runtime.start_execution(order, "o-1"), Execution[float])
    assert_type(runtime.start_execution(order, "o-1", 3, id="order-1"), Execution[float])
    assert_type(runtime.start_execution(order, "o-1", amount=3), Execution[float])
    assert_type(runtime.start_execution(order, "o-1").result(timeout=3), float)
    assert_type(runtime.start_execution("order", "o-1", id="o", amount=3), Execution[Any])
    assert_type(runtime.get_execution("order-1"), Execution[Any])
    assert_type(runtime.start_executions(order, [("a", 1), ("b", 2)]), list[Execution[float]])
    assert_type(
        runtime.start_executions(order, [(f"o-{number}",) for number in range(3)], ids="abc"),
        list[Execution[float]],
    )
    assert_type(
        runtime.start_executions(order, [order.bind("a", amount=3)]), list[Execution[float]]
    )
    assert_type(
        runtime.start_executions(order, [("a",)], queue="few", limit_key="a", priority=1),
        list[Execution[float]],
    )
    assert_type(
        runtime.signal_with_start(order, "o-1", id="order-1", signal="go", value=3),
        Execution[float],
    )
    handle = runtime.update_with_start(order, "o-1", id="o", update="add", update_args=[3])
    assert_type(handle, UpdateHandle)
    assert_type(runtime.update_with_start(audit.bind(3), id="a", update="add"), UpdateHandle)
    assert_type(runtime.get_execution("o").start_update("add", 3, timeout=3), UpdateHandle)
    assert_type(runtime.get_execution("o").get_update("u-1").result(), Any)
    assert_type(runtime.debounce(order, "o-1", key="o", delay=3), str)
    kept: list[Execution[object]] = [runtime.start_execution(order, "o-1")]
    print(kept)


async def awaiting_has_a_type(env: WorkflowEnvironment, client: LocalClient) -> None:
    assert_type(await env.start_execution(order, "o-1"), float)
    assert_type(await client.start_execution(audit, 3), list[str])


def arguments_are_bound_where_options_are_given(runtime: LocalRuntime) -> None:
    assert_type(
        runtime.start_execution(order.bind("o-1", amount=3), id="order-1"), Execution[float]
    )
    assert_type(runtime.start_execution(audit.bind(id=3, value="x"), id="a"), Execution[list[str]])
    assert_type(
        runtime.signal_with_start(audit.bind(3, value="x"), id="a", signal="go"),
        Execution[list[str]],
    )
    order.bind()  # type: ignore  # error: missing
    order.bind(3)  # type: ignore  # error: mistyped
    order.bind("o-1", amout=3)  # type: ignore  # error: no such parameter
    audit.bind(id="3")  # type: ignore  # error: mistyped
    runtime.start_execution(order.bind("o-1"), ids="a")  # type: ignore  # error: no such option
    runtime.start_execution(order.bind("o-1"), "o-2")  # type: ignore  # error: arguments twice


def wrong_arguments_are_found(runtime: LocalRuntime) -> None:
    runtime.start_execution(order)  # type: ignore  # error: missing
    runtime.start_execution(order, 3)  # type: ignore  # error: mistyped
    runtime.start_execution(order, "o-1", "3")  # type: ignore  # error: mistyped
    runtime.start_execution(order, "o-1", 3, 4)  # type: ignore  # error: too many
    runtime.start_execution(order, "o-1", amount="3")  # type: ignore  # error: mistyped
    runtime.start_execution(order, "o-1", amout=3)  # type: ignore  # error: no such parameter
    runtime.start_execution(order, id="order-1")  # type: ignore  # error: missing
    runtime.start_execution(order, 3, id="order-1")  # type: ignore  # error: mistyped
    runtime.start_execution(order, "o-1", "3", id="order-1")  # type: ignore  # error: mistyped
    runtime.start_execution(order, "o-1", 3, 4, id="order-1")  # type: ignore  # error: too many
    runtime.start_execution(order, "o-1", id=3)  # type: ignore  # error: mistyped option
    runtime.start_execution(3)  # type: ignore  # error: not a workflow
    runtime.start_executions(order, [(3,)])  # type: ignore  # error: mistyped
    runtime.start_executions(order, ["o-1"])  # type: ignore  # error: not tuples
    runtime.start_executions(order, [("o-1",)], queue=3)  # type: ignore  # error: mistyped option
    runtime.start_executions(order, [("o-1",)], queues="few")  # type: ignore  # error: no such option
    runtime.start_executions(order, [("o-1", 3, 4)])  # type: ignore  # error: too many
    runtime.start_executions(order, [audit.bind(3)])  # type: ignore  # error: another workflow
    runtime.signal_with_start(order, 3, id="order-1", signal="go")  # type: ignore  # error: mistyped
    runtime.signal_with_start(order, "o-1", signal="go")  # type: ignore  # error: without id
    runtime.signal_with_start(order, "o-1", id="order-1")  # type: ignore  # error: without signal
    runtime.debounce(order, 3, key="o", delay=3)  # type: ignore  # error: mistyped
    runtime.debounce(order, "o-1", key="o")  # type: ignore  # error: without delay
    runtime.update_with_start(order, 3, id="o", update="add")  # type: ignore  # error: mistyped
    runtime.update_with_start(order, "o-1", id="o")  # type: ignore  # error: without update
    runtime.update_with_start(order, "o-1", id="o", update="a", args=[])  # type: ignore  # error: no such option


def results_are_used_by_their_types(runtime: LocalRuntime) -> None:
    text: str = runtime.start_execution(order, "o-1").result()  # type: ignore  # error
    print(text)


async def children_have_types(ctx: Context) -> None:
    assert_type(ctx.child(order, "o-1"), Child[float])
    assert_type(await ctx.child(order, "o-1", amount=3), float)
    assert_type(await ctx.child(order, "o-1", 3, id="child"), float)
    assert_type(await ctx.child(order, "o-1", on_parent_close="abandon"), float)
    assert_type(await ctx.child(audit.bind(id=3), id="child"), list[str])
    assert_type(await ctx.child(order, "o-1", queue="few", limit_key="a", priority=1), float)
    assert_type(ctx.start(order, "o-1", queue="few", limit_key="a", priority=1).id, str)
    assert_type(ctx.child("order", "o-1", id="child"), Child[Any])
    ctx.child(order)  # type: ignore  # error: missing
    ctx.child(order, 3)  # type: ignore  # error: mistyped
    ctx.child(order, 3, id="child")  # type: ignore  # error: mistyped
    ctx.child(order, "o-1", 3, 4, id="child")  # type: ignore  # error: too many
    ctx.child(order, "o-1", amout=3)  # type: ignore  # error: no such parameter
    ctx.child(order, "o-1", on_parent_close="kill")  # type: ignore  # error: no such choice
    ctx.child(order, "o-1", queue=3)  # type: ignore  # error: mistyped option
    ctx.start(order, "o-1", priority="high")  # type: ignore  # error: mistyped option

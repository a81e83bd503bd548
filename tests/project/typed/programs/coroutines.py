"""A runtime for coroutines, and what type checkers say of its calls."""

from typing import assert_type

from mini_workflow import (
    AsyncClient,
    AsyncExecution,
    AsyncUpdateHandle,
    Context,
    Description,
    LocalRuntime,
    workflow,
)


@workflow
async def order(ctx: Context, number: str, amount: int = 1) -> float:
    await ctx.sleep(1)
    return len(number) * float(amount)


async def calls_have_types(client: AsyncClient) -> None:
    execution = await client.start_execution(order, "o-1", 3, id="order-1")
    assert_type(execution, AsyncExecution[float])
    assert_type(await execution, float)
    assert_type(await execution.result(timeout=3), float)
    assert_type(await execution.describe(), Description)
    assert_type(await client.start_execution(order, "o-1", amount=3), AsyncExecution[float])
    assert_type(await client.start_execution(order.bind("o-1"), id="o"), AsyncExecution[float])
    assert_type(
        await client.start_executions(order, [("a", 1), ("b", 2)]), list[AsyncExecution[float]]
    )
    assert_type(
        await client.start_executions(order, [("a",)], tags={"a": "b"}, queue="few", priority=1),
        list[AsyncExecution[float]],
    )
    assert_type(
        await client.signal_with_start(order, "o-1", id="order-1", signal="go"),
        AsyncExecution[float],
    )
    handle = await client.update_with_start(order, "o-1", id="o", update="add", update_args=[3])
    assert_type(handle, AsyncUpdateHandle)
    assert_type(await client.debounce(order, "o-1", key="o", delay=3), str)
    assert_type(await execution.start_update("add", 3), AsyncUpdateHandle)
    assert_type(await client.list_executions(limit=3), list[Description])


async def a_runtime_is_closed_by_async_with(runtime: LocalRuntime) -> None:
    async with runtime as opened:
        assert_type(opened, LocalRuntime)
    async with runtime.aio as client:
        assert_type(client, AsyncClient)


async def what_is_wrong_is_found(client: AsyncClient) -> None:
    await client.start_execution(order)  # type: ignore  # error: missing
    await client.start_execution(order, 3)  # type: ignore  # error: mistyped
    await client.start_execution(order, 3, id="o")  # type: ignore  # error: mistyped
    await client.start_execution(order, "o-1", ids="o")  # type: ignore  # error: no such option
    await client.start_executions(order, [(3,)])  # type: ignore  # error: mistyped
    await client.start_executions(order, [("a",)], queue=3)  # type: ignore  # error: mistyped option
    await client.signal_with_start(order, "o-1", id="o")  # type: ignore  # error: without signal
    await client.update_with_start(order, 3, id="o", update="a")  # type: ignore  # error: mistyped
    await client.complete_promise(3)  # type: ignore  # error: mistyped
    text: str = await (await client.start_execution(order, "o-1"))  # type: ignore  # error
    print(text)

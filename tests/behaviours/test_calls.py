"""53: arguments that are called like options, and calls that cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from mini_workflow import Context, InvalidArguments, UsageError, workflow
from tests.behaviours.stage import Stage
from tests.waiting import WAIT


def greet(name: str, timeout: str = "never") -> str:
    return f"{name} {timeout}"


@workflow("behaviours.called_like_options")
async def called_like_options(ctx: Context, id: int, *, signal: str = "", value: str = "") -> Any:  # noqa: A002
    return [ctx.info.execution_id, id, signal, value]


@workflow("behaviours.starts_what_is_bound")
async def starts_what_is_bound(ctx: Context, me: str) -> list[Any]:
    bound = called_like_options.bind(id=7, value="bound")
    refused: list[str] = []
    for start in (
        lambda: ctx.child(called_like_options, id=7),
        lambda: ctx.child(called_like_options.bind(7), 8),
        lambda: called_like_options.bind(value="x"),
        lambda: ctx.task(greet, name="Ann", timeout=3),
    ):
        try:
            await start()
        except (InvalidArguments, UsageError) as error:
            refused.append(type(error).__name__)
    return [
        await ctx.child(bound, id=f"{me}-child"),
        await ctx.task(timeout=60)(greet, name="Ann", timeout="soon"),
        await ctx.task(name="greeting")(greet, "Bob"),
        refused,
    ]


def test_53_arguments_are_bound_where_they_are_called_like_options(runtime: Stage) -> None:
    """A workflow is started with the arguments that `bind` was given, and the options behind it."""
    bound = called_like_options.bind(id=3, signal="s")
    assert runtime.start(bound, id="one").result(WAIT) == ["one", 3, "s", ""]
    assert runtime.start(bound, id="one").result(WAIT) == ["one", 3, "s", ""]
    sent = runtime.signal_with_start(bound, id="two", signal="x", value=1)
    assert sent.result(WAIT) == ["two", 3, "s", ""]
    many = runtime.start_executions(
        called_like_options, [(4,), called_like_options.bind(5, value="v")], ids=["a", "b"]
    )
    assert [one.result(WAIT) for one in many] == [["a", 4, "", ""], ["b", 5, "", "v"]]


def test_53_bound_in_a_workflow(runtime: Stage) -> None:
    """Children and tasks take such arguments too; what cannot be meant is refused where it stands."""
    assert runtime.run(starts_what_is_bound, "me", id="me") == [
        ["me-child", 7, "", "bound"],
        "Ann soon",
        "Bob never",
        ["UsageError", "UsageError", "InvalidArguments", "UsageError"],
    ]


def test_53_what_could_be_confused_is_refused(runtime: Stage) -> None:
    """An option that may be meant for the workflow is refused with a way out, and nothing starts."""
    start = runtime.runtime.start_execution
    with pytest.raises(UsageError, match=r"called_like_options\.bind\(id=\.\.\.\)"):
        start(called_like_options, id="3")
    with pytest.raises(UsageError, match=r"\.bind\(signal="):
        runtime.signal_with_start(called_like_options, 3, id="x", signal="go")
    with pytest.raises(UsageError, match="give all arguments to bind"):
        start(called_like_options.bind(3), 4)
    with pytest.raises(UsageError, match=r"give all arguments to bind.*not an option: value"):
        start(called_like_options.bind(3), value=4)
    with pytest.raises(UsageError, match=r"behaviours\.starts_what_is_bound"):
        runtime.start_executions(starts_what_is_bound, [called_like_options.bind(3)])
    with pytest.raises(InvalidArguments, match="missing a required argument: 'id'"):
        called_like_options.bind(value="x")
    assert runtime.list_executions() == []

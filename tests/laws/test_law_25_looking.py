"""Law 25: a query, a validator, a predicate or a refused message changes nothing that a replay
could see.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from typing import Any

import pytest

from mini_workflow import Context, NonDeterminismError, NotAllowedInWorkflow, workflow
from mini_workflow.errors import ExecutionBlocked
from mini_workflow.testing import WorkflowEnvironment
from mini_workflow.workflow import REGISTRY, Workflow

var: ContextVar[str] = ContextVar("var", default="unset")

ATTEMPTS: dict[str, Any] = {
    "uuid": lambda ctx, generator: ctx.uuid4(),
    "random": lambda ctx, generator: ctx.random.random(),
    "bits": lambda ctx, generator: generator.randrange(10),
    "shuffle": lambda ctx, generator: generator.shuffle([1, 2, 3]),
    "on_signal": lambda ctx, generator: ctx.on_signal("go", lambda _: None),
    "on_query": lambda ctx, generator: ctx.on_query("look", lambda: 1),
    "on_update": lambda ctx, generator: ctx.on_update("check", lambda: 1),
    "task": lambda ctx, generator: ctx.task(lambda: 1),
    "patched": lambda ctx, generator: ctx.patched("new"),
}


@workflow
async def draws(ctx: Context, attempt: str) -> list[Any]:
    generator = ctx.random

    def look() -> Any:
        return ATTEMPTS[attempt](ctx, generator)

    ctx.on_query("look", look)
    ctx.on_update("check", lambda: None, validator=look)
    await ctx.wait_for_signal("go")
    return [str(ctx.uuid4()), generator.random()]


@pytest.mark.parametrize("way", ["query", "update"])
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_law_25_whoever_looks_draws_and_registers_nothing(attempt: str, way: str) -> None:
    results: list[Any] = []
    for asked in (True, False):
        with WorkflowEnvironment() as env:
            execution = env.start_execution(draws, attempt, id="d")
            if asked:
                ask = execution.query if way == "query" else execution.update
                with pytest.raises(NotAllowedInWorkflow, match="may only read"):
                    ask("look" if way == "query" else "check")
            execution.signal("go")
            results.append(execution.result(timeout=60))
        # The history replays.
        with WorkflowEnvironment(env.state) as env:
            env.get_execution("d").result(timeout=60)
    assert len(results[0]) == len(results[1]) == 2


@workflow
async def gate(ctx: Context) -> str:
    opened = asyncio.Event()

    def swallow() -> None:
        with contextlib.suppress(NotAllowedInWorkflow):
            opened.set()

    ctx.on_query("set", opened.set)
    ctx.on_query("swallow", swallow)
    ctx.on_update("set", lambda: None, validator=opened.set)
    ctx.on_update("swallow", lambda: None, validator=swallow)
    ctx.on_signal("open", lambda _: opened.set())
    await opened.wait()
    return "through"


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("name", ["set", "swallow"])
@pytest.mark.parametrize("way", ["query", "update"])
def test_law_25_a_refusal_leaves_the_run_as_it_was(way: str, name: str, restart: bool) -> None:
    with WorkflowEnvironment() as env:
        execution = env.start_execution(gate, id="g")
        with contextlib.suppress(NotAllowedInWorkflow):
            ask = execution.query if way == "query" else execution.update
            ask(name)
        execution.signal("open")
        if not restart:
            assert execution.result(timeout=60) == "through"
    with WorkflowEnvironment(env.state) as env:
        assert env.get_execution("g").result(timeout=60) == "through"


@workflow
async def counted(ctx: Context) -> list[int]:
    seen: list[int] = []
    opened = asyncio.Event()
    ctx.on_signal("add", seen.append)
    waiting = asyncio.ensure_future(opened.wait())
    ctx.on_update("bad", lambda: None, validator=opened.set)
    ctx.on_update("good", lambda: len(seen))
    await ctx.wait_for(lambda: len(seen) == 2)
    opened.set()
    await waiting
    return seen


def test_law_25_what_came_before_and_after_a_refused_update_is_kept() -> None:
    with WorkflowEnvironment() as env:
        execution = env.start_execution(counted)
        execution.signal("add", 1)
        for _ in range(2):
            with pytest.raises(NotAllowedInWorkflow):
                execution.update("bad")
            assert execution.update("good") == 1
        execution.signal("add", 2)
        assert execution.result(timeout=60) == [1, 2]


def test_law_25_a_context_variable_of_a_handler_stays_its_own() -> None:
    seen: list[str] = []

    @workflow("sets-a-variable")
    async def sets(ctx: Context) -> None:
        ctx.on_query("set", lambda: (seen.append(var.get()), var.set("by a query"))[0])
        ctx.on_update(
            "set", lambda: seen.append(var.get()), validator=lambda: var.set("v") and None
        )
        await ctx.wait_for_signal("go")

    with WorkflowEnvironment() as env:
        token = var.set("of the caller")
        one, other = env.start_execution(sets), env.start_execution(sets)
        for execution in (one, other, one):
            execution.query("set")
            execution.update("set")
        assert var.get() == "of the caller"
        var.reset(token)
    assert seen == ["unset"] * 6


def test_a_query_of_code_that_does_not_fit_raises_and_names_the_line() -> None:
    @workflow("asked")
    async def asked(ctx: Context) -> None:
        state = "begun"
        ctx.on_query("state", lambda: state)
        await ctx.task(lambda: 1, name="one")
        state = "done"
        await ctx.wait_for_signal("go")

    with WorkflowEnvironment() as env:
        execution = env.start_execution(asked, id="a")
        env.advance(1)
        assert execution.query("state") == "done"

    async def changed(ctx: Context) -> None:
        state = "begun"
        ctx.on_query("state", lambda: state)
        ctx.on_update("set", lambda: None, validator=lambda: None)
        await ctx.task(lambda: 1, name="two")
        state = "done"
        await ctx.wait_for_signal("go")

    REGISTRY._workflows["asked"] = Workflow("asked", changed)
    with WorkflowEnvironment(env.state) as env:
        execution = env.get_execution("a")
        for _ in range(2):  # still running, then blocked
            with pytest.raises(NonDeterminismError, match="in changed"):
                execution.query("state")
            with pytest.raises((NonDeterminismError, ExecutionBlocked), match="in changed"):
                execution.update("set")

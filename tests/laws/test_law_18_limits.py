"""Law 18: every limit has a name, a default, and an error that says what to do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import (
    Context,
    Execution,
    ExecutionBlocked,
    InvalidIdentifier,
    LocalRuntime,
    MiniWorkflowError,
    RetryPolicy,
    UsageError,
    ValueTooLarge,
    workflow,
)
from mini_workflow.runtimes.local import EmbeddedRuntime
from tests.waiting import WAIT


@workflow("limits.echo")
async def echo(ctx: Context, value: object) -> object:
    return value


@workflow("limits.grows")
async def grows(ctx: Context) -> None:
    while True:
        await ctx.task(lambda: None)


@workflow("limits.spins")
async def spins(ctx: Context) -> None:
    while True:
        pass


@workflow("limits.sleeps")
async def sleeps(ctx: Context, seconds: float) -> None:
    await ctx.sleep(seconds)


@workflow("limits.promises")
async def promises(ctx: Context) -> None:
    promise = ctx.promise("p")
    ctx.on_query("ready", lambda: None)
    await promise


def started(runtime: LocalRuntime, *call: object, **options: Any) -> None:
    target, *arguments = call
    runtime.start_execution(target, *arguments, **options).result(WAIT)  # type: ignore[arg-type]


def begun(runtime: LocalRuntime) -> Execution[None]:
    return runtime.start_execution(sleeps, 3600)


def token_of(runtime: LocalRuntime) -> str:
    execution = runtime.start_execution(promises)
    execution.query("ready")
    return execution.open_promises()[0].token


LIMITS: dict[str, tuple[Callable[[LocalRuntime], None], type[Exception], str]] = {
    "a value": (lambda r: started(r, echo, "x" * 2_000_000), ValueTooLarge, "value_limit"),
    "the events of a run": (lambda r: started(r, grows), ExecutionBlocked, "history_limit"),
    "a turn": (lambda r: started(r, spins), ExecutionBlocked, "do long work in a task"),
    "an id": (lambda r: started(r, echo, 1, id="x" * 101), InvalidIdentifier, "1 to 100"),
    "a name": (lambda r: workflow("x" * 101, echo) and None, InvalidIdentifier, "1 to 100"),
    "the tags": (
        lambda r: started(r, echo, 1, tags=dict.fromkeys(map(str, range(21)), "x")),
        UsageError,
        "at most 20",
    ),
    "the name of a tag": (
        lambda r: started(r, echo, 1, tags={"x" * 65: "x"}),
        UsageError,
        "1 to 64",
    ),
    "a tag": (lambda r: started(r, echo, 1, tags={"x": "x" * 257}), UsageError, "1 to 256"),
    "a reason": (
        lambda r: begun(r).cancel("x" * 100_001),
        UsageError,
        "at most 100,000 characters",
    ),
    "the reason of an end": (
        lambda r: begun(r).terminate("x" * 100_001),
        UsageError,
        "at most 100,000 characters",
    ),
    "the failure of a promise": (
        lambda r: r.fail_promise(token_of(r), "x" * 2_000_000),
        ValueTooLarge,
        "value_limit",
    ),
    "a duration": (lambda r: started(r, sleeps, 1e10), UsageError, "give seconds"),
    "a pause between attempts": (
        lambda r: RetryPolicy(maximum=1e9) and None,
        UsageError,
        "seconds",
    ),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_law_18_what_passes_a_limit_is_told_which_and_what_to_do(
    limit: str, tmp_path: Path
) -> None:
    """Law 18: the error names the limit, or the option that raises it."""
    passing, error, told = LIMITS[limit]
    path = tmp_path / "state.db"
    with LocalRuntime(path, value_limit=1_000_000, history_limit=50, turn_timeout=0.5) as runtime:
        with pytest.raises(error, match=told):
            passing(runtime)
        # Nothing else is harmed by it.
        assert runtime.start_execution(echo, 1).result(WAIT) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda r, text: begun(r).cancel(text),
        lambda r, text: begun(r).cancel(by=text),
        lambda r, text: begun(r).signal(text),
        lambda r, text: r.get_execution(text),
        lambda r, text: r.complete_promise(text, 1),
        lambda r, text: r.start_execution(echo, 1, id=text),
        lambda r, text: r.start_execution(echo, 1, tags={text: "x"}),
        lambda r, text: r.start_execution(echo, 1, tags={"x": text}),
        lambda r, text: r.schedules.create(text, echo, cron="* * * * *"),
        lambda r, text: r.schedules.create("one", echo, cron=text),
        lambda r, text: r.debounce(echo, 1, key=text, delay=1),
    ],
)
def test_law_18_an_error_does_not_repeat_all_of_a_text_that_is_too_long(
    call: Callable[[LocalRuntime, str], object], tmp_path: Path
) -> None:
    """Law 18: such an error would fill a log."""
    with LocalRuntime(tmp_path / "state.db") as runtime:
        with pytest.raises(MiniWorkflowError) as raised:
            call(runtime, "x" * 1_000_000)
        assert 0 < len(str(raised.value)) < 1_000


@pytest.mark.parametrize("option", ["value_limit", "history_limit", "turn_timeout", "cache_size"])
def test_law_18_every_limit_has_a_default_and_is_documented(option: str) -> None:
    """Law 18: an option of the runtime, with a default, which its docstring describes."""
    parameter = inspect.signature(EmbeddedRuntime).parameters[option]
    assert parameter.default is not inspect.Parameter.empty
    assert f"{option}:" in (LocalRuntime.__doc__ or "")

"""59: what a runtime is given that stands between it and the code: payload codecs."""

from __future__ import annotations

import logging
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import (
    ChildFailed,
    CodecMismatch,
    Context,
    ExecutionAlreadyExists,
    ExecutionBlocked,
    RetryPolicy,
    current_task,
    workflow,
)
from mini_workflow.codecs import CompressionCodec, EncryptionCodec
from mini_workflow.core import wire
from tests.behaviours.stage import Stage
from tests.waiting import WAIT

SECRET = "a-number-that-nobody-else-may-see"
OLD, NEW = b"o" * 32, b"n" * 32


def codec_of(**keys: bytes) -> list[Any]:
    return [CompressionCodec(minimum=100), EncryptionCodec(keys)]


def charge(card: str) -> dict[str, Any]:
    task = current_task()
    if task.attempt == 1:
        task.heartbeat({"card": card})
        raise ConnectionError(card)
    return {"card": card, "seen": task.last_heartbeat}


def refuse(card: str) -> None:
    try:
        raise KeyError(card)
    except KeyError as error:
        raise ValueError(f"no {card}") from error


@workflow("hooks.child")
async def child(ctx: Context, card: str, *, fails: bool = False) -> str:
    await ctx.task(refuse if fails else str, card)
    return card


@workflow("hooks.order")
async def order(ctx: Context, card: str, *, run: int = 1) -> list[Any]:
    async def change(to: str) -> str:
        if to == "no":
            raise ValueError(card)
        return f"{card} {to}"

    ctx.on_query("card", lambda: card)
    ctx.on_update("change", change)
    found: list[Any] = [await ctx.task(charge, card, retry=RetryPolicy(initial=0.01))]
    found.append(await ctx.task(lambda: [card] * 9, name="nine"))
    found.append(await ctx.task(str.upper, card, inline=True))
    found.append(await ctx.child(child, card))
    for failing in (ctx.task(refuse, card), ctx.child(child, card, fails=True)):
        try:
            await failing
        except (ValueError, ChildFailed) as error:
            found.append(f"{type(error).__name__} after {error.__cause__!r}")
    found.append(await ctx.wait_for_signal("go"))
    if run == 1:
        ctx.continue_as_new(card, run=2)
    return found


@workflow("hooks.kept")
async def kept(ctx: Context, card: str) -> list[Any]:
    ctx.on_query("card", lambda: card)
    first = await ctx.wait_for_signal("go")
    seen = await ctx.task(str.upper, card)
    return [seen, first, await ctx.wait_for_signal("go")]


def go_through(runtime: Any, name: str) -> list[Any]:
    execution = runtime.start_execution(order, SECRET, id=name)
    execution.signal("go", f"first {SECRET}")
    execution.signal("go", f"second {SECRET}")
    return execution.result(WAIT)


def forms(secret: str) -> list[bytes]:
    """How a text may stand somewhere: as it is, or in base64 at any place."""
    text = secret.encode()
    return [text, *(b64encode(b"-" * shift + text)[4:-4] for shift in range(3))]


def check_hidden(place: str, data: bytes) -> None:
    assert [form for form in forms(SECRET) if form in data] == [], place


def test_59_payloads_are_encoded_wherever_they_go(
    runtime: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All values, failures and calls come through, and can be read nowhere: in no history, file, message,
    object, request or log.
    """
    caplog.set_level(logging.DEBUG, "mini_workflow")
    expected = go_through(runtime, "plain")
    runtime.reopen(codec=codec_of(k=NEW))
    sent: list[Any] = []
    cloud = getattr(runtime.runtime, "_cloud", None)
    if cloud is not None:
        cloud.hooks.append(lambda call, request: sent.append((call, request)))
    caplog.clear()
    assert go_through(runtime, "hidden") == expected
    execution = runtime.get_execution("hidden")
    for event in execution.history():
        check_hidden(type(event).__name__, wire.encode(event).encode())
    check_hidden("log", caplog.text.encode())
    for call, request in sent:
        check_hidden(call, repr(getattr(request, "body", request)).encode())
    assert "aes-gcm:k" in repr(execution.history())
    runtime.reopen()
    with pytest.raises(CodecMismatch, match=r"aes-gcm \(key k\).*codec="):
        runtime.get_execution("hidden").result(WAIT)


def test_59_queries_updates_and_starts_cross_a_codec(runtime: Stage) -> None:
    """Who asks gets an answer; the same arguments are known again, and others refused."""
    runtime.reopen(codec=codec_of(old=OLD))
    execution = runtime.start(order, SECRET, id="o-1")
    assert execution.query("card") == SECRET
    assert execution.update("change", "now", timeout=WAIT) == f"{SECRET} now"
    with pytest.raises(ValueError, match=SECRET):
        execution.update("change", "no", timeout=WAIT)
    runtime.reopen(codec=codec_of(new=NEW, old=OLD))
    assert runtime.start(order, SECRET, id="o-1").id == "o-1"
    with pytest.raises(ExecutionAlreadyExists, match="other arguments"):
        runtime.start(order, "another", id="o-1")
    execution = runtime.get_execution("o-1")
    assert execution.query("card") == SECRET
    execution.signal("go", 1)
    execution.signal("go", 2)
    assert execution.result(WAIT)[-1] == 2


def test_59_a_history_from_before_the_codec_goes_on(runtime: Stage) -> None:
    """What was begun without is read, and goes on with it; without it again, it is blocked, and goes on
    when the codec is back.
    """
    execution = runtime.start(kept, SECRET, id="o-1")
    assert execution.query("card") == SECRET
    runtime.reopen(codec=codec_of(k=NEW))
    execution = runtime.get_execution("o-1")
    assert execution.query("card") == SECRET
    execution.signal("go", 1)
    runtime.reopen()
    execution = runtime.get_execution("o-1")
    execution.signal("go", 2)
    with pytest.raises(ExecutionBlocked, match="aes-gcm"):
        execution.result(WAIT)
    runtime.reopen(codec=codec_of(k=NEW))
    execution = runtime.get_execution("o-1")
    execution.resume()
    assert execution.result(WAIT) == [SECRET.upper(), 1, 2]


def test_59_a_missing_key_blocks_and_loses_nothing(runtime: Stage) -> None:
    """The reason names the key and what to do; with the key the execution goes on where it was."""
    runtime.reopen(codec=codec_of(old=OLD))
    execution = runtime.start(kept, SECRET, id="o-1")
    execution.signal("go", 1)
    assert execution.query("card") == SECRET
    runtime.reopen(codec=codec_of(new=NEW))
    execution = runtime.get_execution("o-1")
    execution.signal("go", 2)
    with pytest.raises(ExecutionBlocked, match="key 'old', which is not in the key ring"):
        execution.result(WAIT)
    runtime.reopen(codec=codec_of(old=NEW))
    execution = runtime.get_execution("o-1")
    execution.resume()
    with pytest.raises(ExecutionBlocked, match="cannot be decrypted with key 'old'"):
        execution.result(WAIT)
    runtime.reopen(codec=codec_of(new=NEW, old=OLD))
    execution = runtime.get_execution("o-1")
    execution.resume()
    assert execution.result(WAIT) == [SECRET.upper(), 1, 2]

"""Workflows of the tests, the gates that hold their tasks, and what is written down by tasks."""

# ruff: noqa: B023 - ctx.task captures the loop's variable when it is called

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from uuid import UUID

from mini_workflow import Context, RetryPolicy, current_task, workflow
from tests.waiting import WAIT


class Gate:
    """A task that goes through it says so, and waits until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def go_through(self) -> None:
        self.reached.set()
        assert self.opened.wait(WAIT)


GATES: dict[str, Gate] = {}


def gate(name: str) -> Gate:
    return GATES.setdefault(name, Gate())


def go_through(name: str) -> str:
    gate(name).go_through()
    return name


class Colour(Enum):
    RED = "red"


@dataclass
class Order:
    id: UUID
    total: Decimal
    colour: Colour
    lines: list[tuple[str, int]]
    at: datetime
    notes: dict[int, set[str]]


class Refusal(Exception):
    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"refused with {code}")
        self.code = code
        self.hint = hint


@workflow("local.echo")
async def echo(ctx: Context, value: object = None, *, by: str = "argument") -> object:
    return value if by == "argument" else await ctx.task(lambda: value)


@workflow("local.answer")
async def answer(ctx: Context) -> int:
    return 42


@workflow("local.gated")
async def gated(ctx: Context, name: str) -> str:
    return await ctx.task(go_through, name)


@workflow("local.steps")
async def steps(ctx: Context, n: int) -> int:
    total = 0
    for i in range(n):
        total += await ctx.task(lambda: i)
    return total


@workflow("local.gathered")
async def gathered(ctx: Context, n: int) -> int:
    return sum(await asyncio.gather(*[ctx.task(lambda: 1) for _ in range(n)]))


@workflow("local.steps_and_gate")
async def steps_and_gate(ctx: Context, n: int, name: str) -> int:
    total = await steps.handler(ctx, n)
    await ctx.task(go_through, name)
    return total


@workflow("local.waits_for_go")
async def waits_for_go(ctx: Context) -> str:
    await ctx.wait_for_signal("go")
    return "went"


@workflow("local.sleeper")
async def sleeper(ctx: Context, seconds: float) -> float:
    begin = ctx.now()
    await ctx.sleep(seconds)
    return (ctx.now() - begin).total_seconds()


@workflow("local.fails")
async def fails(ctx: Context, kind: str) -> None:
    if kind == "refusal":
        raise Refusal(7, hint="ask again")
    if kind == "local":

        class Local(Exception):
            pass

        raise Local("made here")
    if kind == "group":
        raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])
    if kind == "task":
        await ctx.task(divide, 1, 0)
    if kind == "deep":
        deep(0)


def deep(n: int) -> int:
    return deep(n + 1) + 1


def divide(a: int, b: int) -> float:
    return a / b


def append(path: str, line: str) -> None:
    """One write of a line in append mode, which no other writer can tear."""
    with Path(path).open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


def note(path: str, text: str = "") -> int:
    """Write down which attempt of which task runs."""
    task = current_task()
    append(path, f"{task.idempotency_key} {task.attempt} {text}".rstrip())
    return task.attempt


def lines(path: "str | Path") -> list[str]:
    path = Path(path)
    return path.read_text().splitlines() if path.exists() else []


@workflow("local.recorded")
async def recorded(ctx: Context, path: str, n: int) -> int:
    total = 0
    for i in range(n):
        total += await ctx.task(lambda: (note(path), i)[1], name=f"step-{i}")
    return total


@workflow("local.spoken")
async def spoken(ctx: Context, path: str, n: int) -> int:
    """Like `recorded`, and each step is announced on stdout."""
    total = 0
    for i in range(n):
        total += await ctx.task(lambda: (note(path), say("step"), i)[-1], name=f"step-{i}")
    return total


def say(word: str) -> None:
    os.write(1, f"{word}\n".encode())


def note_and_die(path: str, until: int) -> int:
    attempt = note(path)
    if attempt <= until:
        os.kill(os.getpid(), 9)
    return attempt


@workflow("local.deadly")
async def deadly(ctx: Context, path: str, until: int, attempts: int) -> int:
    policy = RetryPolicy(max_attempts=attempts, initial=0.01)
    return await ctx.task(note_and_die, path, until, retry=policy)


def note_and_fail(path: str) -> int:
    attempt = note(path)
    say(f"attempt {attempt}")
    if attempt < 5:
        raise ConnectionError(f"attempt {attempt}")
    return attempt


def note_and_hang_in_the_fourth(path: str, last: str) -> int:
    attempt = note(path)
    say(f"attempt {attempt}")
    if attempt == 4:
        threading.Event().wait()
    if attempt < 4 or last == "fails":
        raise ConnectionError(f"attempt {attempt}")
    return attempt


@workflow("local.exhausts")
async def exhausts(ctx: Context, path: str, last: str) -> int:
    policy = RetryPolicy(max_attempts=5, initial=0.01)
    return await ctx.task(note_and_hang_in_the_fourth, path, last, retry=policy)


@workflow("local.where")
async def where(ctx: Context, asynchronously: bool = False) -> int:
    if asynchronously:
        return await ctx.task(pid_async)
    return await ctx.task(os.getpid)


async def pid_async() -> int:
    return os.getpid()


@workflow("local.retried")
async def retried(ctx: Context, path: str, wait: float) -> int:
    policy = RetryPolicy(max_attempts=5, initial=wait, factor=1.0, maximum=wait, jitter="none")
    return await ctx.task(note_and_fail, path, retry=policy)


def note_and_hang_once(path: str) -> int:
    attempt = note(path)
    if attempt == 1:
        say("attempt 1")
        threading.Event().wait()
    return attempt


def note_and_hang_the_first_time(path: str) -> int:
    first = not any(line.startswith("one:") for line in lines(path))
    attempt = note(path)
    if first:
        say("attempt 1")
        threading.Event().wait()
    return attempt


@workflow("local.hangs_the_first_time")
async def hangs_the_first_time(ctx: Context, path: str) -> int:
    return await ctx.task(note_and_hang_the_first_time, path)


@workflow("local.hangs_once")
async def hangs_once(ctx: Context, path: str, attempts: int = 3) -> int:
    policy = RetryPolicy(max_attempts=attempts, initial=0.01)
    return await ctx.task(note_and_hang_once, path, retry=policy)


@workflow("local.naps")
async def naps(ctx: Context, path: str, n: int, seconds: float) -> int:
    for i in range(n):
        await ctx.sleep(seconds)
        await ctx.task(note, path, str(i))
    return n


# What a workflow must not do


@workflow("local.sleeps_for_real")
async def sleeps_for_real(ctx: Context) -> None:
    time.sleep(0.01)


@workflow("local.opens_a_socket")
async def opens_a_socket(ctx: Context) -> None:
    import socket

    socket.socket()


@workflow("local.starts_a_thread")
async def starts_a_thread(ctx: Context) -> None:
    threading.Thread(target=print).start()


@workflow("local.to_thread")
async def to_thread(ctx: Context) -> None:
    await asyncio.to_thread(print)


@workflow("local.spins")
async def spins(ctx: Context) -> None:
    while True:
        pass


@workflow("local.blocks")
async def blocks(ctx: Context, rounds: int) -> bytes:
    # Inside C for a good while, where no interruption arrives.
    return hashlib.pbkdf2_hmac("sha256", b"", b"", rounds)


@workflow("local.waits_for_nothing")
async def waits_for_nothing(ctx: Context) -> None:
    await asyncio.Event().wait()


PERMISSION = threading.Event()


@workflow("local.wants_permission")
async def wants_permission(ctx: Context) -> str:
    """Blocked until the process gives permission, as by a fix that is deployed."""
    if not PERMISSION.is_set():
        time.sleep(0)
    return "permitted"


def note_and_go_through(path: str, name: str) -> int:
    attempt = note(path)
    gate(name).go_through()
    return attempt


@workflow("local.noted_gate")
async def noted_gate(ctx: Context, path: str, name: str) -> int:
    return await ctx.task(note_and_go_through, path, name)


def note_and_make(path: str, name: str, size: int) -> str:
    note(path)
    gate(name).go_through()
    return "x" * size


@workflow("local.large")
async def large(ctx: Context, path: str, name: str, size: int) -> int:
    return len(await ctx.task(note_and_make, path, name, size))


@workflow("local.computes_until")
async def computes_until(ctx: Context, path: str) -> str:
    """Computes in one turn until there is a file."""
    Path(f"{path}.reached").touch()
    while not Path(path).exists():
        pass
    return "computed"


HELD: dict[str, tuple[threading.Event, threading.Event]] = {}
"""For `holds`: says that it is reached, and waits to be opened."""


@workflow("local.holds")
async def holds(ctx: Context, name: str) -> None:
    """Waits in a call that nothing interrupts."""
    reached, opened = HELD[name]
    reached.set()
    opened.wait()


@workflow("local.hangs_in")
async def hangs_in(ctx: Context, pid: int) -> None:
    """Never comes back, in one process."""
    if os.getpid() == pid:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()


@workflow("local.ends_its_process")
async def ends_its_process(ctx: Context, where: str) -> None:
    """Ends the process that runs it, as a crash in a C extension does."""
    if where == "after a timer":
        await ctx.sleep(0.01)
    if where == "inline":
        await ctx.task(lambda: os._exit(9), inline=True)
    os._exit(9)


@workflow("local.ends_its_process_unless")
async def ends_its_process_unless(ctx: Context, path: str) -> str:
    if not Path(path).exists():
        os._exit(9)
    return "fixed"


MEANWHILE: dict[str, Callable[[], object]] = {}
"""What workflows do at each step, by name."""


@workflow("local.computes_a_little")
async def computes_a_little(ctx: Context, n: int) -> int:
    total = 0
    for _ in range(n):
        total += await ctx.task(lambda: 1)
        MEANWHILE.get("computes_a_little", int)()
    await ctx.wait_for_signal("go")
    return total


@workflow("local.counts_signals")
async def counts_signals(ctx: Context, n: int) -> list[int]:
    return [await ctx.wait_for_signal("tick") for _ in range(n)]


@workflow("local.loops")
async def loops(ctx: Context, n: int) -> None:
    """Continues as new without ever waiting."""
    ctx.continue_as_new(n + 1)


@workflow("local.asks")
async def asks(ctx: Context) -> object:
    return await ctx.wait_for_signal("permission")

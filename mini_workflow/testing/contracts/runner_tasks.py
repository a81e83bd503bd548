"""Tasks for the contract suites of task runners, as sync and as async functions."""

# ruff: noqa: ASYNC110 - a gate is two files, because the task may be in another process

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from mini_workflow.errors import TaskCancelled, ValueNotSerializable
from mini_workflow.task import current_task

PAUSE: Final = 0.001
"""Seconds between two looks at a gate."""


class Gate:
    """Files by which a test and a task, in any process, wait for each other."""

    def __init__(self, directory: Path, name: str = "gate") -> None:
        self.begun: Final = directory / f"{name}.begun"
        self.opened: Final = directory / f"{name}.opened"
        self.left: Final = directory / f"{name}.left"

    def open(self) -> None:
        """Let the task end."""
        self.opened.touch()

    @staticmethod
    def wait(path: Path, seconds: float = 30.0) -> None:
        """Wait for one of the files. Raises AssertionError if it does not appear in time."""
        ends_at = time.monotonic() + seconds
        while not path.exists():
            assert time.monotonic() < ends_at, f"{path.name} did not come within {seconds:g} s"
            time.sleep(PAUSE)


class OddError(Exception):
    """An exception whose `args` are not the arguments of its constructor."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code
        self.reason = reason


_SEEN: Final[ContextVar[str]] = ContextVar("seen", default="nothing")


def echo(value: object) -> object:
    """Return the argument."""
    return value


def fail(kind: str) -> None:
    """Raise an exception of that kind."""
    if kind == "odd":
        raise OddError(7, reason="odd")
    if kind == "exit":
        sys.exit("I leave")
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "cancelled":
        raise asyncio.CancelledError("by itself")
    raise ZeroDivisionError("as asked")


def unencodable() -> object:
    """Return a value that cannot be encoded."""
    return threading.Lock()


def look() -> dict[str, object]:
    """Return the fields of `current_task()`, and the number of the process."""
    task = current_task()
    return {
        "attempt": task.attempt,
        "cancelled": task.cancelled,
        "deadline": task.deadline,
        "execution_id": task.execution_id,
        "idempotency_key": task.idempotency_key,
        "name": task.name,
        "pid": os.getpid(),
    }


def remember(value: str) -> str:
    """Set a context variable, and return its former value."""
    before = _SEEN.get()
    _SEEN.set(value)
    return before


def hold(gate: Gate) -> str:
    """Wait until the gate opens, or until the task is cancelled."""
    gate.begun.touch()
    while not gate.opened.exists():
        if current_task().cancelled:
            return "stopped early"
        time.sleep(PAUSE)
    gate.left.touch()
    return "held"


def stop_early(gate: Gate) -> str:
    """Wait until the gate opens, or until the task sees that it is cancelled."""
    return hold(gate)


async def stop_early_async(gate: Gate) -> str:
    """Wait until the gate opens, or until the task sees that it is cancelled."""
    gate.begun.touch()
    while not gate.opened.exists():
        if current_task().cancelled:
            return "stopped early"
        await asyncio.sleep(PAUSE)
    return "held"


def hold_on(gate: Gate) -> str:
    """Wait until the gate opens, also if the task is cancelled."""
    gate.begun.touch()
    while not gate.opened.exists():
        time.sleep(PAUSE)
    gate.left.touch()
    return "held"


def beat_until_cancelled(gate: Gate) -> str:
    """Give heartbeats that count up, until one raises TaskCancelled."""
    gate.begun.touch()
    number = 0
    while not gate.opened.exists():
        current_task().heartbeat(number)
        number += 1
        time.sleep(PAUSE)
    return "held"


async def beat_until_cancelled_async(gate: Gate) -> str:
    """Give heartbeats that count up, until one raises TaskCancelled."""
    gate.begun.touch()
    number = 0
    while not gate.opened.exists():
        current_task().heartbeat(number)
        number += 1
        await asyncio.sleep(PAUSE)
    return "held"


async def hold_async(gate: Gate) -> str:
    """Wait until the gate opens."""
    gate.begun.touch()
    while not gate.opened.exists():
        await asyncio.sleep(PAUSE)
    gate.left.touch()
    return "held"


async def hold_on_async(gate: Gate) -> str:
    """Wait until the gate opens, also if the task is cancelled."""
    gate.begun.touch()
    while not gate.opened.exists():
        try:
            await asyncio.sleep(PAUSE)
        except asyncio.CancelledError:
            continue
    gate.left.touch()
    return "held"


def recall() -> object:
    """Return the details of the last heartbeat of an earlier attempt."""
    return current_task().last_heartbeat


def beat_and_fail(details: list[object]) -> None:
    """Give the details, one after the other, and fail."""
    for each in details:
        current_task().heartbeat(each)
    raise ZeroDivisionError("as asked")


def beat_in_a_thread_and_fail(details: object) -> None:
    """Give the details from a thread of the task, and fail."""
    thread = threading.Thread(target=current_task().heartbeat, args=(details,))
    thread.start()
    thread.join()
    raise ZeroDivisionError("as asked")


def beat_wrongly() -> str:
    """Give details that cannot be encoded, and return their path in the error."""
    try:
        current_task().heartbeat({"lock": threading.Lock()})
    except ValueNotSerializable as error:
        return error.path
    return "nothing was raised"


def beat_until_open(gate: Gate) -> str:
    """Give heartbeats until the gate opens."""
    gate.begun.touch()
    while not gate.opened.exists():
        current_task().heartbeat()
        time.sleep(PAUSE)
    return "alive"


async def beat_until_open_async(gate: Gate) -> str:
    """Give heartbeats until the gate opens."""
    gate.begun.touch()
    while not gate.opened.exists():
        current_task().heartbeat()
        await asyncio.sleep(PAUSE)
    return "alive"


def beat_and_hold(details: object, gate: Gate) -> str:
    """Give a heartbeat, and then wait as `hold` does."""
    current_task().heartbeat(details)
    return hold(gate)


async def beat_and_hold_async(details: object, gate: Gate) -> str:
    """Give a heartbeat, and then wait as `hold` does."""
    current_task().heartbeat(details)
    return await hold_async(gate)


def beat_and_hold_on(details: object, gate: Gate) -> str:
    """Give a heartbeat, and then wait as `hold_on` does."""
    current_task().heartbeat(details)
    return hold_on(gate)


async def beat_and_hold_on_async(details: object, gate: Gate) -> str:
    """Give a heartbeat, and then wait as `hold_on` does."""
    current_task().heartbeat(details)
    return await hold_on_async(gate)


def beat_until_stopped(gate: Gate) -> None:
    """Give heartbeats until one raises TaskCancelled, and write its message into a file."""
    gate.begun.touch()
    try:
        while True:
            current_task().heartbeat()
            time.sleep(PAUSE)
    except TaskCancelled as error:
        gate.left.write_text(str(error))
        raise


async def beat_until_stopped_async(gate: Gate) -> None:
    """Give heartbeats until the task is cancelled, and write the message of the next one into a file."""
    gate.begun.touch()
    try:
        while True:
            current_task().heartbeat()
            await asyncio.sleep(PAUSE)
    finally:
        try:
            current_task().heartbeat()
        except TaskCancelled as error:
            gate.left.write_text(str(error))


async def hold_cleanup_async(gate: Gate) -> None:
    """Wait until cancelled, and then until the gate opens."""
    try:
        await asyncio.Event().wait()
    finally:
        gate.begun.touch()
        while not gate.opened.exists():
            await asyncio.sleep(PAUSE)


async def call_async(function: Callable[..., Any], *args: object) -> object:
    """Call a function on the event loop."""
    await asyncio.sleep(0)
    return function(*args)


async def exit_in_background() -> str:
    """Wait for a task of asyncio that calls sys.exit."""

    async def leave() -> None:
        sys.exit(4)

    child = asyncio.create_task(leave())
    try:
        await child
    except SystemExit as error:
        return f"caught {error.code}"
    return "not caught"

"""Tasks that give heartbeats, or fail to. A worker process loads this quickly.

A busy machine may be late with the first heartbeat of an attempt, so they look at the details
instead of the number of the attempt.
"""

import asyncio
import os
import threading
import time
from typing import Any

from mini_workflow import TaskCancelled, current_task
from mini_workflow.testing.contracts.runner_tasks import Gate

DETAILS = ("rows", 40)


def silent_at_first(gate: Gate) -> Any:
    task = current_task()
    if task.last_heartbeat is None:
        task.heartbeat(DETAILS)
        while not (task.cancelled or gate.opened.exists()):
            time.sleep(0.001)
    return task.last_heartbeat


async def silent_at_first_async(gate: Gate) -> Any:
    task = current_task()
    if task.last_heartbeat is None:
        task.heartbeat(DETAILS)
        await asyncio.Event().wait()
    return task.last_heartbeat


def stuck_at_first(gate: Gate) -> Any:
    task = current_task()
    if task.last_heartbeat is None:
        task.heartbeat(DETAILS)
        while not gate.opened.exists():
            time.sleep(0.001)
    return task.last_heartbeat


def kill_self_at_first(gate: Gate) -> Any:
    task = current_task()
    if task.attempt == 1:
        task.heartbeat(DETAILS)
        os.kill(os.getpid(), 9)
    return task.last_heartbeat


async def kill_self_at_first_async(gate: Gate) -> Any:
    return kill_self_at_first(gate)


def upload_until_cancelled(gate: Gate) -> None:
    gate.begun.touch()
    try:
        while True:
            current_task().heartbeat()
            time.sleep(0.001)
    except TaskCancelled as error:
        gate.left.write_text(str(error))
        raise


async def upload_until_cancelled_async(gate: Gate) -> None:
    gate.begun.touch()
    try:
        await asyncio.Event().wait()
    finally:
        try:
            current_task().heartbeat()
        except TaskCancelled as error:
            gate.left.write_text(str(error))


def count_and_fail() -> Any:
    task = current_task()
    done = task.last_heartbeat or 0
    if done < 3:
        task.heartbeat(done + 1)
        raise ConnectionError("gone")
    return done, task.attempt


def beat_from_threads() -> Any:
    task = current_task()
    if task.attempt > 1:
        return task.last_heartbeat
    threads = [
        threading.Thread(target=lambda: [task.heartbeat("alive") for _ in range(200)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    raise ConnectionError("gone")

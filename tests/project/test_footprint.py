"""What a process pays for the library before its first task, and for what waits: counted, not timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

OPENED = 250
"""Modules that are imported to open a file, those of Python among them."""

MODULES = 170
"""Modules of the library that are imported to open a file and to run a task."""

OTHERS = (
    *("asyncio", "concurrent", "ssl", "subprocess", "dataclasses", "inspect", "hashlib", "random"),
    *("shutil", "tempfile", "bz2", "lzma", "multiprocessing", "dill"),
)
"""Modules of others that it does without."""

CALLS = 37_000
"""Calls of Python functions on the way."""

KIBIBYTES = 5.5
"""Of an execution that waits for a timer, in memory."""

EXECUTION = 292
"""Calls of Python functions for one of many executions of one task, from their start to their results."""

EMPTY = 226
"""The same for an execution that does nothing, one after the other."""

FIRST_TASK = """
import json, sys

calls = 0

def count(_frame, event, _argument):
    global calls
    calls += event == "call"

sys.setprofile(count)
from mini_workflow import LocalRuntime, workflow

with LocalRuntime(sys.argv[1]) as runtime:
    sys.setprofile(None)
    opened = list(sys.modules)

    @workflow
    async def first(ctx):
        return await ctx.task(lambda: 1)

    assert runtime.start_execution(first).result() == 1
print(json.dumps([opened, list(sys.modules), calls]))
"""

WAITING = """
import gc, sys, tracemalloc
from mini_workflow import LocalRuntime, workflow

@workflow
async def sleeping(ctx):
    await ctx.sleep(3600)

@workflow
async def empty(ctx):
    return 7

def suspend(number, prefix):
    for index in range(number):
        runtime.start_execution(sleeping, id=f"{prefix}-{index}")
    # Whatever has been started before has had its first turn when this one has ended.
    assert runtime.start_execution(empty).result() == 7
    gc.collect()

with LocalRuntime(sys.argv[1], synchronous="NORMAL") as runtime:
    suspend(100, "first")
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    suspend(200, "more")
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
print((after - before) / 200 / 1024)
"""


EXECUTIONS = """
import builtins, json, sys, threading

counting = False
calls = 0
imports = []
find = builtins.__import__

def noted(name, *others):
    if counting:
        imports.append(name)
    return find(name, *others)

builtins.__import__ = noted

def count(_frame, event, _argument):
    global calls
    calls += counting and event == "call"

threading.setprofile(count)
from mini_workflow import LocalRuntime, workflow

@workflow
async def one(ctx, value):
    return await ctx.task(lambda: value)

@workflow
async def empty(ctx):
    return 7

def together():
    many = runtime.start_executions(one, [(1,)] * 200)
    assert [execution.result() for execution in many] == [1] * 200

def in_turn():
    for _ in range(200):
        assert runtime.start_execution(empty).result() == 7

def counted(work):
    global calls, counting
    work()  # what is made once
    calls, counting = 0, True
    sys.setprofile(count)
    work()
    sys.setprofile(None)
    counting = False
    return calls / 200

with LocalRuntime(sys.argv[1], synchronous="NORMAL") as runtime:
    print(json.dumps([counted(together), counted(in_turn), imports]))
"""


LEFT = """
import gc, sys
from mini_workflow import LocalRuntime, workflow

@workflow
async def one(ctx, value):
    return await ctx.task(lambda: value)

def together():
    many = runtime.start_executions(one, [(1,)] * 200)
    assert [execution.result() for execution in many] == [1] * 200

with LocalRuntime(sys.argv[1], synchronous="NORMAL") as runtime:
    together()
    gc.collect()
    gc.disable()
    together()
    print(gc.collect() / 200)
"""


def printed(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder / "state.db")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_opening_a_file_and_a_first_task_import_few_modules(tmp_path: Path) -> None:
    printed(FIRST_TASK, tmp_path)  # which compiles the modules: that takes calls, too
    opened, ran, calls = json.loads(printed(FIRST_TASK, tmp_path))
    own = [name for name in ran if name.startswith("mini_workflow")]
    assert len(own) <= MODULES, sorted(own)
    assert len(opened) <= OPENED, sorted(opened)
    assert set(opened).isdisjoint(OTHERS)
    assert calls <= CALLS


def test_an_execution_that_waits_takes_little_memory(tmp_path: Path) -> None:
    assert float(printed(WAITING, tmp_path)) <= KIBIBYTES


def test_an_execution_takes_few_calls(tmp_path: Path) -> None:
    one, empty, imports = json.loads(printed(EXECUTIONS, tmp_path))
    assert one <= EXECUTION
    assert empty <= EMPTY
    assert not imports  # each takes as long as several calls, even of what is imported


def test_an_execution_leaves_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    assert float(printed(LEFT, tmp_path)) <= 1

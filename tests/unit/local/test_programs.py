"""Whole programs: scripts with workflows in `__main__`, with workers, and cells of a notebook."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import ExecutionBlocked, LocalRuntime
from tests.unit.local.child import ROOT
from tests.waiting import WAIT

SCRIPT = """
    import sys
    from dataclasses import dataclass
    from mini_workflow import *

    FACTOR = 10

    @dataclass
    class Parcel:
        weight: int

    class Torn(Exception):
        pass

    def weigh(parcel):
        return Parcel(parcel.weight * FACTOR)

    @workflow
    async def ship(ctx, parcel):
        extra = 1
        weighed = await ctx.task(weigh, parcel)
        more = await ctx.task(lambda: Parcel(weighed.weight + FACTOR + extra))
        try:
            await ctx.task(tear)
        except Torn as error:
            return more, str(error)

    def tear():
        raise Torn("in two")

    def main(path, workers):
        with LocalRuntime(path, workers=int(workers)) as runtime:
            print(runtime.start_execution(ship, Parcel(2), id="one").result(60))

    if __name__ == "__main__":
        main(*sys.argv[1:])
"""


def run(program: Path, *arguments: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
        cwd=program.parent,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def script(tmp_path: Path) -> Path:
    script = tmp_path / "ship.py"
    script.write_text(textwrap.dedent(SCRIPT))
    return script


@pytest.mark.parametrize("workers", [0, 1])
def test_a_script(script: Path, path: Path, workers: int) -> None:
    for _ in range(2):  # the second time from the file
        assert run(script, path, workers) == "(Parcel(weight=31), 'in two')\n"


def test_workers_without_a_guard(script: Path, path: Path) -> None:
    script.write_text(
        script.read_text()
        .replace('if __name__ == "__main__":', "if True:")
        .replace("(weigh, parcel)", "(weigh, parcel, retry=RetryPolicy(max_attempts=1))")
    )
    said = run(script, path, 1, code=1)
    assert "WorkerLost: attempt 1 of task 'weigh'" in said
    assert "if __name__ == '__main__':" in said


def test_a_script_that_does_not_close(tmp_path: Path, path: Path) -> None:
    program = tmp_path / "careless.py"
    program.write_text(
        "import sys\n"
        "from tests.unit.local import flows\n"
        "from mini_workflow import LocalRuntime\n"
        "runtime = LocalRuntime(sys.argv[1])\n"
        "runtime.start_execution(flows.sleeper, 1000, id='one')\n"
        "print(runtime.start_execution(flows.steps, 3).result())\n"
    )
    assert run(program, path) == "3\n"
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("one").describe().status == "running"


def test_a_workflow_that_the_next_process_does_not_know(script: Path, path: Path) -> None:
    script.write_text(
        script.read_text()
        .replace("extra = 1", "extra = 1; await ctx.sleep(0.01)")
        .replace(".result(60)", "")
    )
    run(script, path, 0)
    unknown = pytest.raises(ExecutionBlocked, match=r"'ship' is not registered.*import")
    with LocalRuntime(path) as runtime, unknown:
        runtime.get_execution("one").result(WAIT)
    script.write_text(
        textwrap.dedent(SCRIPT).replace("extra = 1", "extra = 1; await ctx.sleep(0.01)")
    )
    assert run(script, path, 0) == "(Parcel(weight=31), 'in two')\n"


def test_cells_of_a_notebook(path: Path) -> None:
    """Code without a file, in a namespace that is no module, in a program with a running loop."""
    namespace: dict[str, Any] = {"__name__": "__main__", "path": path}
    cell = """
        from mini_workflow import LocalRuntime, workflow
        rate = 3

        def scaled(x):
            return x * rate

        @workflow("local.cell")
        async def cell(ctx, n):
            return await ctx.map(scaled, range(n)), await ctx.task(lambda: rate + n)
    """

    async def kernel() -> Any:
        exec(compile(textwrap.dedent(cell), "<cell 1>", "exec"), namespace)
        # The cell is run again, with a change: it replaces the definition.
        again = textwrap.dedent(cell).replace("rate + n", "rate - n")
        exec(compile(again, "<cell 2>", "exec"), namespace)
        with LocalRuntime(path) as runtime:
            return await runtime.start_execution(namespace["cell"], 4)

    assert asyncio.run(kernel()) == ([0, 3, 6, 9], -1)

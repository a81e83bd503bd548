"""A process that a task forks ends in the code of that task, and runs nothing else: law 3."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.local.child import Child

FORKING = """
import asyncio, logging, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: the point here
logging.basicConfig(format="%(message)s")

def ends(how):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how == "exits":
        sys.exit(7)
    if how == "says":
        sys.exit("a word")
    if how == "raises":
        raise ValueError("in the child")
    if how == "reports":
        try:
            current_task().heartbeat(1)
        except UsageError as error:
            assert "has forked this process, which reports nothing" in str(error), error
            sys.exit(9)

async def ends_async(how):
    return ends(how)

def notes(number):
    with open(arguments[0], "a") as file:
        file.write(f"{number}\\n")

@workflow
async def forks(ctx: Context, how: str, function: str) -> int:
    call = {"sync": ends, "async": ends_async}[function.partition(" ")[0]]
    first = ctx.task(call, how, inline=function.endswith("inline"))
    code, *_ = await asyncio.gather(first, *(ctx.task(notes, number) for number in range(5)))
    return code
"""


@pytest.mark.parametrize("function", ["sync", "async", "sync inline"])
@pytest.mark.parametrize(
    ("how", "code"), [("exits", 7), ("says", 1), ("returns", 1), ("raises", 1), ("reports", 9)]
)
def test_what_waits_for_a_thread_runs_once(
    path: Path, tmp_path: Path, how: str, code: int, function: str
) -> None:
    """The child inherits the attempts that wait for its thread, the loop, and the turn; it runs none."""
    noted = tmp_path / "noted"
    program = f"""
    with LocalRuntime(path, threads=1) as runtime:
        execution = runtime.start_execution(forks, {how!r}, {function!r})
        say(str(execution.result(60)))
    """
    with Child(FORKING.replace("\n", "\n    ") + program, path, noted) as process:
        process.expect(str(code))
        process.end()
    assert noted.read_text().split() == list("01234")


def test_what_a_child_leaves_is_named(path: Path, tmp_path: Path) -> None:
    program = """
    import io
    with LocalRuntime(path, threads=1) as runtime:
        heard, told = os.pipe()
        logging.getLogger().addHandler(logging.StreamHandler(os.fdopen(told, "w")))
        runtime.start_execution(forks, "raises", "sync", id="one").result(60)
        text = os.read(heard, 10_000).decode()
        assert "[one] task 'ends' has forked process" in text, text
        assert "ValueError: in the child" in text, text
        assert "by sys.exit(), or start it by multiprocessing or subprocess" in text, text
        say("named")
    """
    with Child(FORKING.replace("\n", "\n    ") + program, path, tmp_path / "noted") as process:
        process.expect("named")
        process.end()

"""`replay`: where the code no longer fits, and a debugger inside the workflow."""

import pytest

from tests.unit.cli.world import World
from tests.waiting import WAIT

BEFORE = """\
from mini_workflow import Context, workflow

def fly(to: str) -> str:
    print("RAN", flush=True)
    return f"flight to {to}"

@workflow
async def trip(ctx: Context, to: str) -> str:
    flight = await ctx.task(fly, to, name="flight")
    total = 0
    for night in range(3):
        total += night
        await ctx.sleep(24 * 3600)
    return flight
"""


@pytest.fixture
def trip(mw: World) -> World:
    """A world with an execution under way, whose task has run."""
    (mw.folder / "trips.py").write_text(BEFORE)
    process = mw.popen("run", "trips:trip", "to=Oslo", "--id", "t")
    assert process.stderr is not None
    while "timer #2 started" not in process.stderr.readline():
        assert process.poll() is None
    process.terminate()
    process.communicate(timeout=WAIT)
    return mw


def change(world: World, before: str, after: str) -> None:
    path = world.folder / "trips.py"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_a_history_that_fits(trip: World) -> None:
    said = trip("replay", "t", "trips", "--trace")
    assert "RAN" not in said.out
    assert said.out.splitlines() == [
        "   1  ExecutionStarted",
        "   2  TaskScheduled #1 'flight'  trips.py:9 in trip",
        "   3  TaskCompleted #1  trips.py:9 in trip",
        "   4  TimerStarted #2  trips.py:13 in trip",
        "t  trip  all 4 events fit",
        "  trip waits at trips.py:13 in trip",
        "    13          await ctx.sleep(24 * 3600)",
        "  open: timer #2",
    ]


def test_json_stands_alone(trip: World) -> None:
    said = trip("replay", "t", "trips", "--json", "--trace")
    assert said.json["fits"] is True
    assert said.err.splitlines()[0] == "   1  ExecutionStarted"
    assert "--pdb prompts you" in trip("replay", "t", "trips", "--json", "--pdb", status=2).err


def test_both_sides_of_a_mismatch(trip: World) -> None:
    change(trip, 'name="flight"', 'name="train"')
    assert trip("replay", "t", "trips", status=1).out.splitlines() == [
        "t  trip  does not fit at event 2 of 4",
        "  the history says    TaskScheduled #1 'flight'",
        "  the code asks for   TaskScheduled #1 'train'",
        "  at                  trips.py:9 in trip",
        '    9      flight = await ctx.task(fly, to, name="train")',
    ]
    plain = trip("replay", "t", "trips", "--json", status=1).json
    assert plain["mismatch"]["event"] == 2
    assert plain["mismatch"]["place"].endswith("trips.py:9 in trip")


def test_code_that_asks_for_less(trip: World) -> None:
    change(trip, "await ctx.sleep(24 * 3600)", "await ctx.wait_for_signal('night')")
    said = trip("replay", "t", "trips", status=1).out
    assert "the history says    TimerStarted #2" in said
    assert "the code asks for   nothing more" in said
    assert "trips.py:13 in trip" in said


def test_code_that_fails_where_it_waited(trip: World) -> None:
    change(trip, "total = 0", "total = 1 / 0")
    said = trip("replay", "t", "trips", status=1).out
    assert "the code asks for   ExecutionFailed (ZeroDivisionError: division by zero)" in said


def test_until(trip: World) -> None:
    assert trip("replay", "t", "trips", "--until", "3").out.splitlines() == [
        "t  trip  stopped at event 3, TaskCompleted #1",
        "  trip waits at trips.py:9 in trip",
        '    9      flight = await ctx.task(fly, to, name="flight")',
        "  open: task #1 'flight', attempt 1",
    ]


def test_pdb_at_an_event_that_arrives(trip: World) -> None:
    said = trip("replay", "t", "trips", "--until", "3", "--pdb", typed="n\nn\np (to, flight)\nc\n")
    assert "event 3: TaskCompleted #1" in said.out
    assert "trips.py(9)trip()" in said.out
    assert "('Oslo', 'flight to Oslo')" in said.out
    assert "RAN" not in said.out
    assert "all 4 events fit" in said.out


def test_pdb_at_an_event_that_the_code_asks_for(trip: World) -> None:
    said = trip("replay", "t", "trips", "--until", "4", "--pdb", typed="p total\nw\nc\n").out
    assert "event 4: TimerStarted #2" in said
    assert "(Pdb) 0\n" in said
    # The stack is the workflow's own.
    assert "drain" not in said
    assert "click" not in said


def test_pdb_from_the_start_to_quitting(trip: World) -> None:
    said = trip("replay", "t", "trips", "--pdb", typed="n\np to\nq\n").out
    assert "'Oslo'" in said
    assert said.endswith("left the debugger")


def test_breakpoint_stops_in_the_workflow(trip: World) -> None:
    change(trip, "        total += night\n", "        breakpoint()\n        total += night\n")
    said = trip("replay", "t", "trips", typed="p night\nb 13\nc\np total\nc\n").out
    assert "trips.py(12)trip()" in said
    assert "all 4 events fit" in said
    assert trip("replay", "t", "trips", typed="q\n").out.endswith("left the debugger")


def test_an_inline_task_is_not_run(mw: World) -> None:
    (mw.folder / "trips.py").write_text(
        BEFORE.replace('name="flight"', 'name="flight", inline=True')
    )
    mw("start", "trips:trip", "to=Oslo", "--id", "t")
    said = mw("replay", "t", "trips").out
    assert "RAN" not in said
    assert "inline task 'flight' comes next, and no task runs in a replay" in said

"""The command where no worker is running: what it runs itself, what it keeps, and what it refuses."""

import os
import pty
import re
import signal
import sqlite3
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from mini_workflow import LocalRuntime
from mini_workflow.engine.transport import CheckedStore
from tests.unit.cli.world import World
from tests.waiting import WAIT, eventually


def test_run_follows_an_execution_to_its_result(mw: World) -> None:
    said = mw("run", "cli_flows:greet", "name=ann", "--id", "one")
    assert said.out == "hello ann"
    assert "execution completed" in said.err
    # The id again: the answer comes from the store.
    again = mw("run", "cli_flows:greet", "name=ann", "--id", "one", "--quiet", "--json")
    assert again.json == {"id": "one", "status": "completed", "result": "hello ann"}
    assert "was started before, with the same arguments, and has closed (completed)" in again.err


def test_start_of_an_id_that_is_taken_tells_what_became_of_it(mw: World) -> None:
    start = ("start", "cli_flows:greet", "name=ann", "--id", "one")
    mw(*start)
    again = mw(*start)
    assert "one was started before, and is running: nothing was started" in again.err
    assert "No worker is running" in again.err
    mw("run", "cli_flows:greet", "name=ann", "--id", "one", "-q")
    closed = mw(*start)
    assert closed.out == "one"
    assert "has closed (completed): nothing was started" in closed.err
    assert "mini-workflow result one" in closed.err
    assert "choose another --id" in closed.err
    assert "No worker" not in closed.err
    assert mw(*start, "--json").json == {
        "id": "one",
        "started": False,
        "status": "completed",
        "served": True,
    }
    other = mw("start", "cli_flows:greet", "name=bob", "--id", "one", status=2)
    assert "other arguments" in other.err
    assert "nothing was started" not in other.err


def test_run_follows_from_run_to_run(mw: World) -> None:
    said = mw("run", "cli_flows:rounds", "left=3", "--id", "r")
    assert said.out == "through"
    # Short runs may come and go between two looks; the last one is there whole.
    assert "task #4 'round-0' completed" in said.err
    assert "run 4" in mw("get", "r").out


def test_output_that_nobody_reads_to_its_end_is_no_error(mw: World) -> None:
    mw("run", "cli_flows:greet", "name=ann", "times=500", "--id", "long", "-q")
    with mw.popen("get", "long", "--lines") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == ""


def test_run_tells_how_it_failed(mw: World) -> None:
    said = mw("run", "cli_flows:failing", "--id", "f", "-q", status=None)
    assert said.status == 1
    # The first line says what; behind it stands where.
    assert said.err.splitlines()[0] == "failed: LookupError: no such thing"
    assert said.err.count("LookupError: no such thing") == 2
    assert "in failing" in said.err
    assert "site-packages" not in said.err
    assert mw("result", "f", status=None).err == said.err


STACKS = """\
from mini_workflow import Context, workflow

def pay(amount: int) -> None:
    raise ValueError(f"{amount} is too much")

@workflow
async def shop(ctx: Context) -> None:
    await ctx.task(pay, 7, name="pay")
"""


def test_every_door_shows_the_stack_of_the_task_and_that_of_the_workflow(mw: World) -> None:
    (mw.folder / "shops.py").write_text(STACKS)
    ran = mw("run", "shops:shop", "--id", "s", status=1).err
    told = {
        "run": ran,
        "result": mw("result", "s", status=1).err,
        "get": mw("get", "s").out,
        "follow": mw("get", "s", "--follow").out,
    }
    for door, text in told.items():
        assert "in pay" in text, door
        assert "in shop" in text, door
        assert text.index("in shop") != text.index("in pay"), door


def test_times_say_their_zone(mw: World) -> None:
    mw("run", "cli_flows:greet", "name=ann", "--id", "one", "-q")
    assert mw("ls", "--columns", "started").out.endswith("Z")
    events = mw("get", "one").out.splitlines()[1:]
    assert events
    assert all("Z  " in line for line in events)


SLEEPS = """\
from mini_workflow import Context, workflow

@workflow
async def sleeps(ctx: Context) -> None:
    ctx.logger.info("about to sleep")
    await ctx.sleep(3600)
"""


def test_times_in_notes_and_in_a_worker_s_log_say_their_zone(mw: World) -> None:
    (mw.folder / "sleepers.py").write_text(SLEEPS)
    mw("start", "sleepers:sleeps", "--id", "s")
    process = mw.popen("worker", "sleepers")
    assert process.stderr is not None
    while "about to sleep" not in (line := process.stderr.readline()):
        assert process.poll() is None
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ INFO ", line)
    # The line is written before the turn is committed: a worker that ends in between leaves no timer.
    eventually(lambda: "timer #1 started" in mw("get", "s").out)
    process.terminate()
    process.communicate(timeout=WAIT)
    assert re.search(
        r"timer #1 started  until \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$", mw("get", "s").out
    )


def test_run_in_worker_processes(mw: World) -> None:
    process = mw.popen("run", "cli_flows:who", "--processes", "1", "--quiet")
    out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err
    assert int(out) != process.pid


def test_an_interrupted_run_is_continued(mw: World) -> None:
    process = mw.popen("run", "cli_flows:order", "order_id=o-1", "--id", "order-1")
    assert process.stderr is not None
    while "task #1 'charge' completed" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 130
    assert "order-1 is not done" in err
    assert mw("ls", "--columns", "id,status").out == "order-1\trunning"
    kept = mw("signal", "order-1", "approve", "ann")
    assert "No worker is running" in kept.err
    assert "receipt for o-1" in mw("run", "cli_flows:order", "order_id=o-1", "--id", "order-1").out


def test_no_history_is_read_where_only_the_status_is_wanted(
    mw: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mw("start", "cli_flows:order", "order_id=o-1", "--id", "order-1")
    read: list[str] = []
    for name in ("history", "ends"):
        monkeypatch.setattr(CheckedStore, name, lambda _, *about: read.append(about[0]))
    assert "still running" in mw("result", "order-1", "--timeout", "0", status=5).err
    assert read == []


def test_what_is_started_and_sent_is_kept_for_a_worker(mw: World) -> None:
    started = mw("start", "cli_flows:order", "order_id=o-1", "--id", "order-1", "--json")
    assert started.json == {
        "id": "order-1",
        "started": True,
        "status": "running",
        "served": False,
    }
    assert "worker" in started.err
    sent = mw("signal", "order-1", "approve", "ann", "--json").json
    assert sent == {"id": "order-1", "sent": True, "served": False}
    assert mw("result", "order-1", "--timeout", "0", status=5).err.startswith("error: ")
    problems = mw("doctor", status=1).out
    assert "no worker is running" in problems
    assert "mini-workflow worker MODULE" in problems
    with mw.served("worker", "cli_flows", "--processes", "1", "--json") as process:
        assert mw("result", "order-1", "--json").json["result"]["by"] == "ann"
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0
    assert mw("doctor").out.endswith("nothing is wrong")


def test_reading_changes_nothing(mw: World) -> None:
    mw("start", "cli_flows:order", "order_id=o-1", "--id", "order-1")
    mw("run", "cli_flows:greet", "name=ann", "--id", "greet-1")  # it begins the other one, too
    before = contents(mw.folder)
    readings = [
        ("ls",),
        ("get", "order-1"),
        ("result", "greet-1"),
        ("replay", "order-1", "cli_flows"),
        ("query", "order-1", "limit", "-m", "cli_flows"),
        ("export", "histories"),
        ("doctor",),
    ]
    said = [mw(*words, status=None).status for words in readings]
    assert said == [0, 0, 0, 0, 0, 0, 1]  # the doctor finds that no worker is running
    assert contents(mw.folder) == before


def contents(folder: Path) -> dict[str, list[object]]:
    with sqlite3.connect(folder / "state.db") as connection:
        kinds = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = [name for (name,) in kinds if not name.startswith("sqlite_")]
        found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    connection.close()
    return found


WRONG = [
    (("gett",), 2, "No such command"),
    (("get", "nope"), 3, "there is no execution 'nope'; `mini-workflow ls`"),
    (("get",), 2, "Missing argument"),
    (("get", "../x"), 2, "cannot be an execution id"),
    (("ls", "--columns", "id,colour"), 2, "colour"),
    (("ls", "--status", "happy"), 2, "happy"),
    (("ls", "--after", "x"), 2, "no page of a listing"),
    (("run", "cli_flows"), 2, "MODULE:WORKFLOW"),
    (("run", "cli_flows:nothing"), 2, "nothing"),
    (("run", "no_such_module:x"), 2, "no_such_module"),
    (("run", "cli_flows:greet", "name=a", "colour=red"), 2, "colour"),
    (("run", "cli_flows:greet", "ann"), 2, "key=value"),
    (("run", "cli_flows:greet", "name=a", "name=b"), 2, "twice"),
    (("start", "cli_flows:greet", "name=a", "--id", "a b"), 2, "execution id"),
    (("worker",), 2, "name the modules"),
    (("replay", "done", "cli_flows", "--until", "99"), 2, "number of an event, 1 to 4"),
    (("replay", "gone.json", "cli_flows"), 2, "no file gone.json"),
    (("replay", "broken.json"), 2, "no recorded execution"),
    (("signal", "done", "x"), 3, "closed"),
    (("result", "done", "--timeout", "nan"), 2, "not a number of seconds"),
    (("update", "done", "x"), 3, "mini-workflow result done"),
    (("resume", "done"), 3, "closed"),
    (("complete-promise", "done/1/x"), 2, "token"),
    (("run", "exits:x"), 2, "SystemExit: bye"),
    (("run", "no_syntax:x"), 2, "SyntaxError"),
    (("run", "../elsewhere.py:x"), 2, "no file"),
    (("start", "cli_flows:greet", "name=a", "times=x"), 2, "'times' must be a whole number, not x"),
    (("replay", "binary.json", "cli_flows"), 2, "cannot read binary.json"),
    (("export", "cli_flows.py"), 2, "is a file"),
    (("export", "/proc/none"), 6, "cannot use /proc/none"),
    (("backup", "none/x.db"), 2, "no directory none"),
    (("completion", "tcsh"), 2, "tcsh"),
    (("--backend", "sqlite:none/x.db", "ls"), 6, "there is no store"),
    (("--backend", "sqlite:none/x.db", "start", "cli_flows:who"), 6, "create it"),
    (("--backend", "mysql:x", "ls"), 2, "give aws, sqlite:PATH or postgresql://"),
    (("--backend", "sqlite:cli_flows.py", "ls"), 6, "not an SQLite file"),
    (("--stack", "dev", "ls"), 6, "pulumi"),
    (("--backend", "sqlite:x", "--bucket", "b", "ls"), 2, "belong to aws"),
    (("--backend", "sqlite:x", "--direct-url", "d", "ls"), 2, "belongs to postgresql"),
]


def test_what_is_wrong_is_told_in_one_line(mw: World) -> None:
    mw("run", "cli_flows:greet", "name=ann", "--id", "done")
    (mw.folder / "broken.json").write_text("{}")
    (mw.folder / "binary.json").write_bytes(b"\xff\xfe")
    (mw.folder / "exits.py").write_text("raise SystemExit('bye')")
    (mw.folder / "no_syntax.py").write_text("def f(:")
    mw.environment["PATH"] = ""  # no pulumi
    for words, status, part in WRONG:
        said = mw(*words, status=None)
        assert said.status == status, (words, said)
        assert said.err.startswith("error: "), (words, said)
        assert part in said.err, (words, said)
        assert len(said.err.splitlines()) == 1, (words, said)
        assert said.out == "", (words, said)
    assert "Traceback" in mw("--debug", "get", "nope", status=3).err


def test_output_that_cannot_be_written_is_told_in_one_line(mw: World) -> None:
    mw("run", "cli_flows:greet", "name=ann", "--id", "one", "-q")
    for words in (("ls",), ("get", "one", "--json"), ("--help",)):
        with Path("/dev/full").open("w") as full:
            process = mw.popen(*words, stdout=full)
            _, err = process.communicate(timeout=WAIT)
        assert process.returncode == 1, words
        assert err.startswith("error: the output cannot be written: "), words
        assert len(err.splitlines()) == 1, words
    # A shell closes them by >&- and 2>&-.
    for closed in (1, 2):
        process = mw.popen("ls", preexec_fn=lambda closed=closed: os.close(closed))
        assert process.wait(WAIT) == 0
        process.communicate()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("limits", "nope"), "there is no limit 'nope'; `mini-workflow limits` lists"),
        (("schedule", "show", "nope"), "there is no schedule 'nope'; `mini-workflow schedule ls`"),
        (("limits", "nope", "--rate", "5"), "'5' is no rate: give COUNT/SECONDS, as in 100/60"),
        (("query", "one", "x"), "name that module before the command, as in `mini-workflow -m"),
        (("fork", "one"), "give either --before or --at"),
        (("replay", "one", "cli_flows", "--until", "99"), "give the number of an event, 1 to 4"),
    ],
    ids=str,
)
def test_a_wrong_command_is_told_what_to_write(
    mw: World, words: tuple[str, ...], said: str
) -> None:
    mw("run", "cli_flows:greet", "name=ann", "--id", "one", "-q")
    mw.alone = words[0] == "query"  # another test may have imported the workflow in this process
    assert said in mw(*words, status=None).err


def test_what_the_output_s_encoding_lacks_is_escaped(mw: World) -> None:
    mw.environment["PYTHONIOENCODING"] = "ascii"
    assert mw("run", "cli_flows:greet", "name=ä", "--id", "one", "-q").out == "hello \\xe4"
    assert mw("result", "one", "--json").json["result"] == "hello ä"


@pytest.mark.parametrize(
    "words",
    [("result", "w"), ("get", "w", "--follow"), ("update", "w", "x"), ("worker", "cli_flows")],
)
def test_ctrl_c_ends_whatever_waits_in_one_line(mw: World, words: tuple[str, ...]) -> None:
    mw("start", "cli_flows:waiting", "--id", "w")
    process = mw.popen(*words)
    stream = process.stdout if words[0] == "worker" else process.stderr
    assert stream is not None
    stream.readline()  # that it waits for a worker, or that it is one
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == (0 if words[0] == "worker" else 130)
    if words[0] == "worker":
        assert err.splitlines()[-1].endswith("executions that are not done stay in the store")
    else:
        assert err == "interrupted\n"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=str,
)
def test_colours_are_for_terminals_that_want_them(
    mw: World, environment: dict[str, str], coloured: bool
) -> None:
    mw("run", "cli_flows:failing", "--id", "f", "-q", status=1)
    mw.environment |= {"TERM": "xterm-256color", **environment}
    every = (("ls",), ("get", "f"), ("result", "f"), ("doctor",), ("get", "nope"))
    # What decides it is the same for all, so that of those without colours an answer and an error will do.
    for words in every if coloured else every[-2:]:
        assert ("\x1b[3" in on_terminal(mw, *words)) is coloured, words


def on_terminal(mw: World, *words: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = mw.popen(*words, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    with suppress(OSError):  # the other end is closed
        while part := os.read(ours, 65536):
            written += part
    os.close(ours)
    process.communicate(timeout=WAIT)
    return written.decode()


@pytest.mark.parametrize("words", [(), ("dlq",)])
def test_without_a_command_the_help_is_shown(mw: World, words: tuple[str, ...]) -> None:
    said = mw(*words, status=2)
    assert said.err.startswith("Usage: mini-workflow")
    assert "ls " in said.err


def test_settings_come_from_options_environment_and_project(mw: World) -> None:
    (mw.folder / "pyproject.toml").write_text(
        '[tool.mini-workflow]\nbackend = "sqlite:project.db"\nmodules = ["cli_flows"]\n'
    )
    (mw.folder / "deep").mkdir()
    deep = World(mw.folder / "deep", {"PYTHONPATH": f"{mw.folder}{os.pathsep}{Path.cwd()}"})
    deep("run", "cli_flows:greet", "name=ann", "--id", "here")
    assert (mw.folder / "project.db").exists()
    assert mw("ls", "--columns", "id").out == "here"
    assert mw("query", "here", "limit", status=2).err.startswith("error: ")
    mw.environment["MINI_WORKFLOW_BACKEND"] = "sqlite:environment.db"
    assert "environment.db" in mw("ls", status=6).err
    assert mw("--backend", "sqlite:project.db", "ls", "--columns", "id").out == "here"
    (mw.folder / "pyproject.toml").write_text("[tool.mini-workflow]\ncolour = 1\n")
    assert "'colour' is unknown" in mw("ls", status=2).err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(mw: World, shell: str) -> None:
    assert "_MINI_WORKFLOW_COMPLETE" in mw("completion", shell).out


def test_ids_are_completed(mw: World) -> None:
    mw("run", "cli_flows:greet", "name=ann", "--id", "greet-ann")
    mw.environment |= {
        "_MINI_WORKFLOW_COMPLETE": "bash_complete",
        "COMP_WORDS": "mini-workflow get gr",
        "COMP_CWORD": "2",
    }
    assert mw().out == "plain,greet-ann"


def test_a_task_waits_for_its_worker_and_get_and_doctor_say_so(
    mw: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mw("start", "cli_flows:trained", "--id", "one")
    with mw.served("worker", "cli_flows", "--worker", "cpu"):
        said = eventually(lambda: "worker gpu" in (out := mw("get", "one").out) and out)
        assert "task #1 'train' runs on worker 'gpu', or waits for it" in said
        assert "mini-workflow worker MODULE --label gpu" in said
        monkeypatch.setattr("mini_workflow.doctor.executions.LONG", timedelta())
        mw("ls")
        assert mw("ls", "--columns", "id,workers").out == "one\tgpu"
        assert mw("get", "one", "--json").json["workers"] == ["gpu"]
        found = eventually(lambda: "'train'" in (out := mw("doctor", status=None).out) and out)
        assert "has been with worker 'gpu', or waiting for it" in found
        assert "--label gpu" in found
    with mw.served("worker", "cli_flows", "--worker", "gpu", "--worker", "cpu=1", "--json"):
        assert mw("result", "one", "--timeout", WAIT).out == "trained"
        assert mw("get", "one", "--json").json["workers"] == []


@pytest.mark.parametrize("given", ["", "default", "g pu", "gpu=x", "gpu=-1", "gpu=1.5"])
def test_a_worker_that_cannot_be_served(mw: World, given: str) -> None:
    said = mw("worker", "cli_flows", "--worker", given, status=None)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("error: ")


def test_executions_are_listed_and_counted_by_filters(mw: World) -> None:
    with LocalRuntime(mw.folder / "state.db") as runtime:
        for number in range(4):
            tags = {"customer": f"c-{number % 2}", "all": "yes"}
            runtime.start_execution("greet", "ann", id=f"g{number}", tags=tags).result(WAIT)
        runtime.start_execution("waiting", id="w", tags={"all": "yes"})
    by_tag = ("--tag", "customer=c-1", "--tag", "all=yes")
    listed = mw("ls", *by_tag, "--started-after", "1d", "--json").json["executions"]
    assert [one["id"] for one in listed] == ["g3", "g1"]
    assert listed[0]["tags"] == {"customer": "c-1", "all": "yes"}
    assert listed[0]["parent"] is None
    assert "all=yes customer=c-1" in mw("ls", *by_tag, "--columns", "id,tags,parent").out
    assert mw("count", *by_tag, "--json").json == {"count": 2}
    assert mw("count").out == "5"
    assert mw("count", "--started-before", "2020-05-04").out == "0"
    assert mw("count", "--closed-after", "2020-05-04T12:00+02:00").out == "4"
    assert (
        mw("count", "--status", "running", "--tag", "all=yes", "--workflow", "waiting").out == "1"
    )
    assert mw("ls", "--order", "closed", "--limit", "1", "--columns", "id").out.split()[-1] == "g0"
    assert len(mw("export", "kept", *by_tag, "--json").json["files"]) == 2
    assert "tags all=yes customer=c-1" in mw("get", "g3").out
    assert "give NAME=VALUE" in mw("ls", "--tag", "customer", status=2).err
    assert "is no time" in mw("ls", "--started-after", "yesterday", status=2).err

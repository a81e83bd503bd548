"""Remedies in errors: commands and options, and no calls and arguments of Python."""

import logging
import re

import click
import pytest

from mini_workflow.cli.app import cli
from mini_workflow.cli.commands.run import prepare_logging
from mini_workflow.cli.remedy import translate
from tests.unit.cli.world import World

PYTHON = re.compile(r"\b[a-z_]+=(?!\.\.\.)(?=[\s,;:.)]|$)|\b[a-z_]+\(\)")
"""An argument or a call as Python writes it."""

GREET = ("cli_flows:greet", "name=Ann")
OWN = """\
from mini_workflow import Context, Limit, workflow

@workflow
async def own(ctx: Context, tags, priority=5) -> None:
    raise ValueError("call resume() with queue= and timeout= please")
"""

START = (
    (("--delay", "5", "--start-at", "2100-01-01"), "give --delay or --start-at, not both"),
    (("--limit-key", "a"), "--limit-key and --priority are for an execution that needs a slot"),
    (("--limit-key", "a"), "give --queue too"),
    (("--queue", "narrow", "--priority", "999"), "--priority 999: give a whole number"),
    (("--delay", "1e12"), "--delay 1000000000000.0 is more than a hundred years; give less"),
    (("--start-at", "9999-12-31"), "--start-at 9999-12-31 00:00:00+00:00 is out of range"),
    (("--retry", "9" * 9), "'--retry'"),
)

SCHEDULE = (
    ((), "a schedule needs times: give either --cron or --every"),
    (("--cron", "x"), "--cron 'x' is not a cron expression"),
    (("--cron", "0 3 * * *", "--timezone", "Mars/Base"), "--timezone 'Mars/Base' is not a time"),
)


@pytest.mark.parametrize("command", ["start", "run"])
def test_options_of_a_start(mw: World, command: str) -> None:
    for options, told in START:
        error = mw(command, *GREET, *options, status=2).err
        assert told in error
        assert not PYTHON.search(error)


def test_options_of_a_schedule(mw: World) -> None:
    for options, told in SCHEDULE:
        error = mw("schedule", "create", "often", *GREET, *options, status=2).err
        assert told in error
        assert not PYTHON.search(error)
    mw("schedule", "create", "often", *GREET, "--every", "60")
    again = mw("schedule", "create", "often", *GREET, "--every", "61", status=2).err
    assert (
        again
        == "error: schedule 'often' exists and was started with other arguments; choose another id"
    )
    late = mw("schedule", "trigger", "often", "--timeout", "0.05", status=5).err
    assert "`mini-workflow schedule show often` shows when it is done" in late
    turned = ("schedule", "backfill", "often", "2026-02-01", "2026-01-01")
    assert "error: END 2026-01-01 00:00:00+00:00 is before START" in mw(*turned, status=2).err


def test_commands_in_the_place_of_calls(mw: World) -> None:
    mw("run", *GREET, "--id", "done")
    assert "run `mini-workflow restart done` to begin" in mw("retry", "done", status=3).err
    mw("start", "cli_flows:waiting", "--id", "held")
    with mw.served():
        mw("pause", "held")
        assert "Run `mini-workflow resume held` to continue" in mw("result", "held", status=4).err
    for verb in ("retry", "restart", "delete"):
        error = mw(verb, "held", status=2).err
        assert "wait for its end, or run `mini-workflow terminate held`" in error
    asked = mw("update", "held", "raise", status=4).err
    assert "ExecutionPaused. The update is kept. Run `mini-workflow resume held`" in asked


def test_options_of_a_fork(mw: World) -> None:
    mw("run", *GREET, "--id", "done")
    for options, told in (
        (("--before", "x"), "error: --before 'x': the history has no operation"),
        (("--at", "99"), "error: --at 99: give the number of events to keep"),
        (("--at", "2", "--patch", "x=1"), "error: --patch 'x': the history has no operation"),
        (("--at", "2", "--id", "done"), "error: --id 'done': children are named after"),
    ):
        assert told in mw("fork", "done", *options, status=2).err


def test_a_missing_setting(mw: World) -> None:
    mw.environment["AWS_DEFAULT_REGION"] = "eu-central-1"
    error = mw("--backend", "aws", "ls", status=6).err
    assert error.endswith(
        "BUCKET_NAME is not set: it holds the bucket with the histories. Give --stack NAME, whose outputs "
        "have it, or set it yourself"
    )


@pytest.mark.parametrize("command", ["run", "worker"])
def test_the_option_that_names_a_worker(mw: World, command: str) -> None:
    place = GREET if command == "run" else ("cli_flows",)
    for option in ("--label", "--worker"):
        assert (
            f"error: {option} 'a b': give the name"
            in mw(command, *place, option, "a b", status=2).err
        )


def test_errors_of_the_users_own_code_stay(mw: World) -> None:
    (mw.folder / "own.py").write_text(OWN)
    said = "ValueError: call resume() with queue= and timeout= please"
    assert said in mw("run", "own:own", "tags=1", "--id", "own", "-q", status=1).err
    assert said in mw("result", "own", status=1).err
    assert "it takes (tags, priority=5)" in mw("start", "own:own", "foo=1", status=2).err
    (mw.folder / "other.py").write_text("import mini_workflow\nmini_workflow.Limit('a', rate=5)\n")
    wrong = mw("start", "other:a", status=2).err
    assert "cannot import other: limit 'a': rate=5: give a number" in wrong


def _context(*words: str) -> click.Context:
    ctx, command = click.Context(cli, info_name="mini-workflow"), cli
    for word in words:
        found = command.get_command(ctx, word)
        assert found is not None
        ctx, command = click.Context(found, parent=ctx, info_name=word), found  # type: ignore[assignment]
    return ctx


def test_the_command_of_a_group_comes_first_and_options_of_groups_are_known() -> None:
    schedule = _context("schedule", "pause")
    assert translate("call resume()", schedule, "x") == "run `mini-workflow schedule resume x`"
    assert translate("`terminate()`", schedule) == "`mini-workflow terminate ID`"
    assert translate("give codec=.", schedule) == "give --codec."
    assert translate("ValueError: codec=5", schedule, arguments=False) == "ValueError: codec=5"
    assert translate("list_executions() shows all", schedule, "x") == "`mini-workflow ls` shows all"


def test_what_no_command_makes_stays() -> None:
    for text in (
        "ctx.execution('x').result()",
        "write Limit('a', rate=...)",
        "asyncio.run()",
        "f()",
    ):
        assert translate(text, _context("limits")) == text
        assert translate(text, None) == text


def test_lines_of_the_log_name_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[logging.Handler] = []
    monkeypatch.setattr(logging, "basicConfig", lambda level, handlers: found.extend(handlers))
    with _context("worker"):
        prepare_logging()
    record = logging.LogRecord(
        "mini_workflow", logging.ERROR, "", 0, "[%s] is blocked; call resume()", ("a",), None
    )
    record.execution_id = "a"
    formatter = found[0].formatter
    assert formatter is not None
    assert formatter.format(record).endswith("[a] is blocked; run `mini-workflow resume a`")
    assert record.getMessage() == "[a] is blocked; call resume()"

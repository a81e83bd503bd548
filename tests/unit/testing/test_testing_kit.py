"""What `mini_workflow.testing` gives to those who test workflows."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest

from mini_workflow import Context, RetryPolicy, UsageError, Workflow, current_task, workflow
from mini_workflow.core.history import History
from mini_workflow.testing import WorkflowEnvironment, assert_history, check_replay, replay


def charge(order_id: str) -> str:
    raise AssertionError("the real one must not run")


@workflow("kit.order")
async def order(ctx: Context, order_id: str) -> str:
    receipt = await ctx.task(
        charge, order_id, name="charge", retry=RetryPolicy(max_attempts=3, initial=1.0)
    )
    await ctx.sleep(timedelta(days=1))

    async def mail() -> str:
        raise AssertionError("the real one must not run")

    sent = await asyncio.gather(*(ctx.task(mail, name=f"mail-{n}") for n in range(2)))
    stamp = await ctx.task(lambda: "real", name="stamp", inline=True)
    return f"{receipt}, {', '.join(sent)}, {stamp}"


def test_stubs_stand_in_for_tasks(workflow_env: WorkflowEnvironment) -> None:
    env = workflow_env

    def charged(order_id: str) -> str:
        if current_task().attempt < 3:
            raise ConnectionError("not yet")
        return f"receipt for {order_id} at attempt {current_task().attempt}"

    async def mailed() -> str:
        return current_task().name

    env.stub("charge", charged)
    env.stub("mail-*", mailed)
    env.stub("mail-1", lambda: "none")
    env.stub("stamp", lambda: "stubbed")
    execution = env.start_execution(order, "o-1")
    assert execution.result() == "receipt for o-1 at attempt 3, mail-0, none, stubbed"
    assert_history(
        execution,
        [
            "ExecutionStarted",
            "TaskScheduled charge",
            "TaskRetryScheduled",
            ...,
            "TaskCompleted",
            "TimerStarted",
            "TimerFired",
            "TaskScheduled mail-0",
            "TaskScheduled",
            ...,
            "InlineTaskCompleted stamp",
            "ExecutionCompleted",
        ],
    )
    env.unstub("stamp")
    assert env.start_execution(order, "o-2").result().endswith("real")


def test_a_stub_that_raises_fails_the_task(workflow_env: WorkflowEnvironment) -> None:
    def decline(order_id: str) -> str:
        raise PermissionError("stolen card")

    workflow_env.stub("charge", decline)
    with pytest.raises(PermissionError, match="stolen"):
        workflow_env.start_execution(order, "o-1").result()


@pytest.mark.parametrize(
    "expected",
    [
        [],
        ["ExecutionStarted"],
        ["ExecutionStarted", ..., "ExecutionFailed"],
        [..., "TimerFired", "TimerStarted", ...],
        ["TaskScheduled charge", ...],
        ["ExecutionStarted", "TaskScheduled other", ...],
    ],
)
def test_an_unmet_expectation_shows_both_sides(
    workflow_env: WorkflowEnvironment, expected: list[object]
) -> None:
    workflow_env.stub("*", lambda *_: "x")
    execution = workflow_env.start_execution(order, "o-1")
    execution.result()
    with pytest.raises(AssertionError, match=r"(?s)expected.*but the history has.*charge"):
        assert_history(execution, expected)  # type: ignore[arg-type]
    assert_history(execution.history(), [...])
    assert_history(execution, [..., "TimerFired", ..., "ExecutionCompleted", ...])


# Replaying


def two_steps(names: tuple[str, str]) -> Workflow[..., str]:
    async def steps(ctx: Context) -> str:
        for name in names:
            await ctx.task(str, name=name)
        await ctx.wait_for_signal("go")
        return "done"

    return Workflow("kit.steps", steps)


workflow("kit.steps", two_steps(("a", "b")).handler)


@pytest.fixture
def recorded(workflow_env: WorkflowEnvironment) -> History:
    execution = workflow_env.start_execution("kit.steps", id="steps-1")
    workflow_env.advance(1)
    return execution.history()


def test_check_replay_of_histories(recorded: History, tmp_path: Path) -> None:
    good, bad = two_steps(("a", "b")), two_steps(("a", "c"))
    folder = tmp_path / "histories"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.jsonl").write_text("\n".join(recorded.to_lines()) + "\n")
    plain = {"id": "two", "events": [json.loads(line) for line in recorded.to_lines()]}
    (folder / "deep" / "two.json").write_text(json.dumps(plain, indent=2))
    assert check_replay(recorded, [good]) == 1
    assert check_replay(folder, [good]) == 2
    assert check_replay([folder, recorded], [good]) == 3
    with pytest.raises(AssertionError) as caught:
        check_replay(folder, [bad])
    message = str(caught.value)
    assert "2 of 2 histories do not fit" in message
    assert "event 4 says TaskScheduled #2 'b'" in message
    assert "asks for TaskScheduled #2 'c'" in message
    assert "test_testing_kit.py:" in message
    assert "one.jsonl" in message
    with pytest.raises(AssertionError, match=r"workflow 'kit\.steps' is not among the workflows"):
        check_replay(recorded, [order])


def test_check_replay_refuses_to_check_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no history"):
        check_replay(tmp_path, [order])
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(UsageError, match="no recorded execution"):
        check_replay(tmp_path, [order])
    with pytest.raises(UsageError, match="cannot read"):
        check_replay(tmp_path / "gone.json", [order])


def test_check_replay_of_an_execution_that_is_blocked(workflow_env: WorkflowEnvironment) -> None:
    @workflow("kit.deadlock")
    async def deadlock(ctx: Context) -> None:
        await ctx.wait_for_signal("go")
        await asyncio.Event().wait()

    async def fixed(ctx: Context) -> str:
        return str(await ctx.wait_for_signal("go"))

    execution = workflow_env.start_execution(deadlock, id="d")
    execution.signal("go", "on")
    assert execution.describe().status == "blocked"
    with pytest.raises(AssertionError, match="behind the history: WorkflowDeadlock"):
        check_replay(execution)
    replayed = replay(execution.recording(), Workflow("kit.deadlock", fixed))
    assert replayed.fits
    assert [type(event).__name__ for event in replayed.beyond] == [
        "SignalReceived",
        "ExecutionCompleted",
    ]
    assert execution.describe().status == "blocked"  # nothing was written


def test_a_replay_that_does_not_end_is_interrupted(recorded: History) -> None:
    async def endless(ctx: Context) -> str:
        while True:
            pass

    with pytest.raises(AssertionError, match="TurnTimeout"):
        check_replay(recorded, [Workflow("kit.steps", endless)], turn_timeout=0.2)


def test_a_timeline(workflow_env: WorkflowEnvironment) -> None:
    workflow_env.stub("*", lambda *_: "x")
    execution = workflow_env.start_execution(order, "o-1")
    execution.result()
    timeline = execution.timeline()
    started, scheduled, completed, timer, fired = timeline[:5]
    assert (started.subject, started.happened) == ("kit.order", "started")
    assert started.values == {"arguments": [["o-1"], {}]}
    assert (scheduled.subject, scheduled.note) == ("task #1 'charge'", "up to 3 attempts")
    assert completed.values == {"result": "x"}
    assert completed.at == started.at == workflow_env.now() - timedelta(days=1)
    assert (timer.took, fired.took) == (None, timedelta(days=1))
    assert timeline[-1].took == timedelta(days=1)
    assert [entry.number for entry in timeline] == list(range(1, len(timeline) + 1))
    assert "execution completed" in repr(timeline)


# The plugin


def test_pytest_finds_the_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_order.py").write_text(
        textwrap.dedent(
            """
            from mini_workflow import Context, workflow

            @workflow
            async def yearly(ctx: Context) -> int:
                await ctx.sleep(365 * 24 * 3600)
                return 1

            def test_a_year(workflow_env):
                assert workflow_env.start_execution(yearly).result() == 1
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@workflow("kit.speaks")
async def speaks(ctx: Context) -> None:
    ctx.stream("words").write("now")
    await ctx.sleep(60)
    ctx.stream("words").write("later")


def test_no_time_passes_for_somebody_who_was_told_and_has_not_looked_yet() -> None:
    """Such as a caller whose update was answered, on a machine that is slow to wake it."""
    with WorkflowEnvironment() as env:
        execution, began = env.start_execution(speaks), env.now()
        with env._engine_transport.watch(execution.id) as wait:
            assert not env._skipping.is_awaited()
            assert env.now() == began
            while execution.describe().status == "running":
                wait(5.0)
            assert not env._skipping.is_awaited()
        assert env.now() - began == timedelta(seconds=60)


def test_no_time_passes_while_a_reader_of_a_stream_does_something_else() -> None:
    with WorkflowEnvironment() as env:
        began = env.now()
        chunks = iter(env.start_execution(speaks).stream("words"))
        assert next(chunks).value == "now"
        assert next(chunks).value == "later"
        assert env.now() - began == timedelta(seconds=60)
        other = env.start_execution(speaks)
        for chunk in other.stream("words"):
            assert not env._skipping.is_awaited()
            assert env.now() - began == timedelta(seconds=60 if chunk.value == "now" else 120)


async def reads(env: WorkflowEnvironment) -> None:
    began = env.now()
    async for chunk in env.start_execution(speaks).stream("words"):
        assert not env._skipping.is_awaited()
        assert env.now() - began == timedelta(seconds=0 if chunk.value == "now" else 60)


def test_no_time_passes_while_a_coroutine_does_something_else() -> None:
    with WorkflowEnvironment() as env:
        asyncio.run(reads(env))


def test_failures_of_the_contract_suites_are_explained(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            from mini_workflow.stores.memory import MemoryBackend
            from mini_workflow.testing.contracts.agenda import AgendaContract


            class TestMine(AgendaContract):
                def open_backend(self, owner, clock):
                    backend = MemoryBackend(owner=owner, clock=clock, lease=self.LEASE)
                    backend.agenda.due = lambda now, limit: ["wrong"]
                    return backend
            """
        )
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "earliest_first",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert "assert ['wrong'] == []" in done.stdout, done.stdout

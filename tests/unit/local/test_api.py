"""What callers on other threads see of a LocalRuntime: starting, waiting, looking, ending."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mini_workflow import (
    Context,
    ExecutionAlreadyExists,
    ExecutionClosed,
    ExecutionFailed,
    ExecutionNotFound,
    ExecutionTerminated,
    InvalidArguments,
    LocalRuntime,
    RuntimeClosed,
    UnknownWorkflow,
    UsageError,
    workflow,
)
from mini_workflow.core import events
from tests.unit.local import flows
from tests.waiting import WAIT, eventually


class TestStart:
    def test_the_same_id_gives_the_running_execution(self, runtime: LocalRuntime) -> None:
        first = runtime.start_execution(flows.gated, "same", id="one")
        again = runtime.start_execution(flows.gated, "same", id="one")
        assert again.id == first.id == "one"
        flows.gate("same").opened.set()
        assert first.result(WAIT) == again.result(WAIT) == "same"
        assert len(runtime.list_executions()) == 1

    def test_the_same_id_gives_the_closed_execution(self, path: Path) -> None:
        with LocalRuntime(path) as runtime:
            assert runtime.start_execution(flows.echo, 1, id="one").result(WAIT) == 1
            history = runtime.get_execution("one").history()
            assert runtime.start_execution(flows.echo, 1, id="one").result(0) == 1
        with LocalRuntime(path) as runtime:
            again = runtime.start_execution(flows.echo, 1, id="one")
            assert again.result(0) == 1
            assert again.history() == history

    def test_many_threads_start_one_execution(
        self, runtime: LocalRuntime, in_thread: Callable[..., Any], tmp_path: Path
    ) -> None:
        ledger = str(tmp_path / "ledger")
        outcomes = [
            in_thread(lambda: runtime.start_execution(flows.recorded, ledger, 3, id="one").result())
            for _ in range(16)
        ]
        assert {outcome.get() for outcome in outcomes} == {3}
        assert flows.lines(ledger) == ["one:1 1", "one:2 1", "one:3 1"]

    def test_the_id_of_another_workflow(self, runtime: LocalRuntime) -> None:
        execution = runtime.start_execution(flows.echo, 1, id="one")
        with pytest.raises(ExecutionAlreadyExists, match=r"'one'.*'local\.echo'.*another id") as e:
            runtime.start_execution(flows.answer, id="one")
        assert e.value.execution_id == "one"
        assert execution.result(WAIT) == 1

    @pytest.mark.parametrize("arguments", [(2,), ("1",), (None,), ()])
    def test_other_arguments(self, runtime: LocalRuntime, arguments: tuple[object, ...]) -> None:
        execution = runtime.start_execution(flows.echo, 1, id="one")
        with pytest.raises(ExecutionAlreadyExists, match="other arguments"):
            runtime.start_execution(flows.echo, *arguments, id="one")
        assert execution.result(WAIT) == 1

    def test_by_name_and_with_keywords(self, runtime: LocalRuntime) -> None:
        assert runtime.start_execution("local.echo", value=3, by="task").result(WAIT) == 3

    def test_keywords_of_any_name(self, runtime: LocalRuntime) -> None:
        @workflow("local.keywords")
        async def keywords(ctx: Context, **values: int) -> dict[str, int]:
            return values

        given: dict[str, Any] = {'with "quotes"': 1, "ünï": 2, "back\\slash": 3}
        assert runtime.start_execution(keywords, **given).result(WAIT) == given

    def test_ids_are_made_up(self, runtime: LocalRuntime) -> None:
        executions = [runtime.start_execution(flows.answer) for _ in range(50)]
        assert len({execution.id for execution in executions}) == 50
        assert {execution.result(WAIT) for execution in executions} == {42}

    def test_an_unknown_name(self, runtime: LocalRuntime) -> None:
        with pytest.raises(UnknownWorkflow, match=r"'local\.echoo'.*import.*local\.echo"):
            runtime.start_execution("local.echoo")
        assert runtime.list_executions() == []

    @pytest.mark.parametrize("arguments", [(1, 2), (1, 2, 3)])
    def test_wrong_arguments(self, runtime: LocalRuntime, arguments: tuple[object, ...]) -> None:
        with pytest.raises(InvalidArguments, match=r"local\.answer.*it takes"):
            runtime.start_execution(flows.answer, *arguments)
        with pytest.raises(InvalidArguments, match=r"'unknown'"):
            runtime.start_execution(flows.answer, unknown=1)
        assert runtime.list_executions() == []

    @pytest.mark.parametrize("thing", [len, None, 5, flows.echo.handler])
    def test_what_is_no_workflow(self, runtime: LocalRuntime, thing: Any) -> None:
        with pytest.raises(UsageError, match=r"not a workflow.*@workflow"):
            runtime.start_execution(thing)

    def test_the_call_of_a_workflow(self, runtime: LocalRuntime) -> None:
        called: Any = flows.answer(None)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="give the workflow itself"):
            runtime.start_execution(called)


class TestResult:
    @pytest.mark.parametrize("value", [None, 0, "", False, [], 0.0, b"", {}, ()])
    @pytest.mark.parametrize("by", ["argument", "task"])
    def test_falsy(self, path: Path, value: object, by: str) -> None:
        with LocalRuntime(path) as runtime:
            live = runtime.start_execution(flows.echo, value, by=by, id="one").result(WAIT)
        with LocalRuntime(path) as runtime:
            stored = runtime.get_execution("one").result(0)
        assert live == stored == value
        assert type(live) is type(stored) is type(value)

    def test_nested_data_comes_back_to_the_type(self, path: Path) -> None:
        value = flows.Order(
            id=UUID(int=5),
            total=Decimal("1.10"),
            colour=flows.Colour.RED,
            lines=[("a", 1), ("b", 2)],
            at=datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC),
            notes={1: {"x", "y"}, 2: set()},
        )
        with LocalRuntime(path) as runtime:
            live: Any = runtime.start_execution(flows.echo, value, by="task", id="one").result(WAIT)
        with LocalRuntime(path, cache_size=0) as runtime:
            stored: Any = runtime.get_execution("one").result(0)
        assert live == stored == value
        for order in (live, stored):
            assert order.colour is flows.Colour.RED
            assert type(order.lines[0]) is tuple
            assert type(order.notes[1]) is set
            assert list(order.notes) == [1, 2]

    def test_a_result_is_nobodys_alone(self, runtime: LocalRuntime) -> None:
        execution = runtime.start_execution(flows.echo, [1])
        execution.result(WAIT).append(2)
        assert execution.result(WAIT) == [1]

    def test_a_timeout_leaves_it_running(self, runtime: LocalRuntime) -> None:
        execution = runtime.start_execution(flows.gated, "slow", id="one")
        for timeout in (0, 0.01, -1, timedelta(milliseconds=5)):
            with pytest.raises(TimeoutError, match="'one' is still running after"):
                execution.result(timeout)
        flows.gate("slow").opened.set()
        assert execution.result(WAIT) == "slow"

    @pytest.mark.parametrize("timeout", ["5", object(), True])
    def test_what_is_no_timeout(self, runtime: LocalRuntime, timeout: Any) -> None:
        with pytest.raises(UsageError, match="seconds or a timedelta"):
            runtime.start_execution(flows.answer).result(timeout)

    def test_many_wait_for_one(self, runtime: LocalRuntime, in_thread: Callable[..., Any]) -> None:
        execution = runtime.start_execution(flows.gated, "crowd", id="one")
        others = [runtime.get_execution("one") for _ in range(10)]
        outcomes = [in_thread(other.result) for other in others]
        flows.gate("crowd").opened.set()
        assert [outcome.get() for outcome in outcomes] == ["crowd"] * 10
        assert execution.result(0) == "crowd"

    def test_own_exception(self, path: Path) -> None:
        with LocalRuntime(path) as runtime:
            execution = runtime.start_execution(flows.fails, "refusal", id="one")
            with pytest.raises(flows.Refusal, match="refused with 7") as live:
                execution.result(WAIT)
        with LocalRuntime(path) as runtime, pytest.raises(flows.Refusal) as stored:
            runtime.get_execution("one").result()
        for error in (live.value, stored.value):
            assert (error.code, error.hint) == (7, "ask again")

    def test_exception_of_a_task(self, runtime: LocalRuntime) -> None:
        with pytest.raises(ZeroDivisionError) as e:
            runtime.start_execution(flows.fails, "task").result(WAIT)
        assert "in divide" in str(e.value.__cause__)

    def test_exception_whose_class_is_gone(self, runtime: LocalRuntime, monkeypatch: Any) -> None:
        execution = runtime.start_execution(flows.fails, "refusal", id="one")
        with pytest.raises(flows.Refusal):
            execution.result(WAIT)
        monkeypatch.delattr(flows, "Refusal")
        with pytest.raises(ExecutionFailed, match=r"'one' failed: .*Refusal: refused with 7") as e:
            execution.result()
        assert e.value.execution_id == "one"
        assert e.value.type_name == "tests.unit.local.flows:Refusal"
        assert "raise Refusal" in e.value.remote_traceback

    def test_exception_of_a_local_class(self, runtime: LocalRuntime) -> None:
        with pytest.raises(Exception, match="made here") as e:
            runtime.start_execution(flows.fails, "local").result(WAIT)
        assert type(e.value).__name__ in ("Local", "ExecutionFailed")

    def test_exception_group(self, runtime: LocalRuntime) -> None:
        with pytest.raises(ExceptionGroup, match="several") as e:
            runtime.start_execution(flows.fails, "group").result(WAIT)
        assert [type(error) for error in e.value.exceptions] == [ValueError, KeyError]

    def test_endless_recursion(self, runtime: LocalRuntime) -> None:
        with pytest.raises(RecursionError):
            runtime.start_execution(flows.fails, "deep").result(WAIT)
        assert runtime.start_execution(flows.answer).result(WAIT) == 42


class TestLooking:
    def test_describe_and_history(self, runtime: LocalRuntime) -> None:
        before = datetime.now(UTC) - timedelta(seconds=1)
        execution = runtime.start_execution(flows.sleeper, 1000, id="one")
        found = execution.describe()
        assert (found.id, found.workflow, found.status) == ("one", "local.sleeper", "running")
        assert before < found.started_at < datetime.now(UTC) + timedelta(seconds=1)
        assert found.next_wake_at is not None
        assert timedelta(seconds=999) < found.next_wake_at - found.started_at
        assert found.closed_at is None
        assert [type(event) for event in execution.history()] == [
            events.ExecutionStarted,
            events.TimerStarted,
        ]

    def test_listing(self, runtime: LocalRuntime) -> None:
        for number in range(5):
            runtime.start_execution(flows.echo, number, id=f"echo-{number}").result(WAIT)
        runtime.start_execution(flows.sleeper, 1000, id="sleeper")
        with pytest.raises(ZeroDivisionError):
            runtime.start_execution(flows.fails, "task", id="failed").result(WAIT)

        def ids(**filters: Any) -> list[str]:
            return [found.id for found in runtime.list_executions(**filters)]

        echoes = ["echo-4", "echo-3", "echo-2", "echo-1", "echo-0"]
        assert ids() == ["failed", "sleeper", *echoes]
        assert ids(limit=2) == ["failed", "sleeper"]
        assert ids(limit=7) == ids(limit=8) == ids()
        assert ids(workflow=flows.echo) == ids(workflow="local.echo") == echoes
        assert ids(status="failed") == ["failed"]
        assert ids(status="running", workflow="local.sleeper") == ["sleeper"]
        assert ids(status="blocked") == ids(workflow="nobody") == []

    def test_a_listing_of_many_pages(self, runtime: LocalRuntime, monkeypatch: Any) -> None:
        monkeypatch.setattr("mini_workflow.engine.find.PAGE", 3)
        expected = [runtime.start_execution(flows.answer).id for _ in range(10)][::-1]
        assert [found.id for found in runtime.list_executions()] == expected
        assert [found.id for found in runtime.list_executions(limit=7)] == expected[:7]

    @pytest.mark.parametrize(
        ("filters", "message"),
        [
            ({"status": "done"}, "choose one of running"),
            ({"limit": 0}, "1 or more"),
            ({"limit": 1.5}, "whole number"),
            ({"limit": True}, "whole number"),
            ({"workflow": len}, "not a workflow"),
        ],
    )
    def test_filters_that_make_no_sense(
        self, runtime: LocalRuntime, filters: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            runtime.list_executions(**filters)

    def test_unknown_id(self, runtime: LocalRuntime) -> None:
        with pytest.raises(ExecutionNotFound, match="no execution 'nobody'") as e:
            runtime.get_execution("nobody")
        assert e.value.execution_id == "nobody"
        assert isinstance(e.value, LookupError)


class TestEnding:
    def test_terminate_while_asleep(self, runtime: LocalRuntime) -> None:
        execution = runtime.start_execution(flows.sleeper, 1000, id="one")
        execution.terminate("no longer wanted")
        with pytest.raises(ExecutionTerminated, match="'one' was terminated: no longer wanted"):
            execution.result(WAIT)
        assert execution.describe().status == "terminated"
        assert execution.describe().next_wake_at is None

    def test_terminate_while_a_task_runs(self, runtime: LocalRuntime) -> None:
        execution = runtime.start_execution(flows.gated, "ended")
        assert flows.gate("ended").reached.wait(WAIT)
        execution.terminate()
        with pytest.raises(ExecutionTerminated):
            execution.result(WAIT)
        flows.gate("ended").opened.set()
        assert runtime.start_execution(flows.answer).result(WAIT) == 42
        assert execution.describe().status == "terminated"

    def test_terminate_wakes_who_waits(
        self, runtime: LocalRuntime, in_thread: Callable[..., Any]
    ) -> None:
        execution = runtime.start_execution(flows.sleeper, 1000)
        outcome = in_thread(execution.result)
        execution.terminate()
        with pytest.raises(ExecutionTerminated):
            outcome.get()

    def test_terminate_what_has_closed(self, runtime: LocalRuntime) -> None:
        execution = runtime.start_execution(flows.answer, id="one")
        assert execution.result(WAIT) == 42
        with pytest.raises(ExecutionClosed, match=r"'one' has closed before \(completed\)"):
            execution.terminate()
        assert execution.result(0) == 42

    def test_terminate_twice(self, runtime: LocalRuntime) -> None:
        execution = runtime.start_execution(flows.sleeper, 1000)
        execution.terminate()
        with pytest.raises(ExecutionClosed):
            execution.terminate()

    @pytest.mark.parametrize("reason", [5, None, b"bytes", ["list"]])
    def test_a_reason_that_is_no_text(self, runtime: LocalRuntime, reason: Any) -> None:
        execution = runtime.start_execution(flows.sleeper, 1000)
        with pytest.raises(UsageError, match="not a reason"):
            execution.terminate(reason)
        assert execution.describe().status == "running"

    @pytest.mark.parametrize("reason", ["", "line\nline", "ünïcödé 🎉", "\ud800", "x" * 100_000])
    def test_any_text_is_a_reason(self, runtime: LocalRuntime, reason: str) -> None:
        execution = runtime.start_execution(flows.sleeper, 1000)
        execution.terminate(reason)
        with pytest.raises(ExecutionTerminated) as e:
            execution.result(WAIT)
        assert reason in str(e.value)

    def test_resume_what_runs_or_has_closed(self, runtime: LocalRuntime) -> None:
        running = runtime.start_execution(flows.sleeper, 1000)
        running.resume()
        assert running.describe().status == "running"
        closed = runtime.start_execution(flows.answer)
        assert closed.result(WAIT) == 42
        with pytest.raises(ExecutionClosed):
            closed.resume()


class TestClosing:
    def test_calls_after_close(self, path: Path) -> None:
        with LocalRuntime(path) as runtime:
            done = runtime.start_execution(flows.answer)
            assert done.result(WAIT) == 42
            sleeping = runtime.start_execution(flows.sleeper, 1000, id="one")
        runtime.close()  # once more is harmless
        calls: list[Callable[[], object]] = [
            lambda: runtime.start_execution(flows.answer),
            lambda: runtime.get_execution("one"),
            runtime.list_executions,
            runtime.evict,
            sleeping.result,
            sleeping.describe,
            sleeping.history,
            sleeping.terminate,
            sleeping.resume,
        ]
        for call in calls:
            with pytest.raises(RuntimeClosed, match="open a new one"):
                call()
        assert done.result() == 42

    def test_who_waits_is_told(self, path: Path, in_thread: Callable[..., Any]) -> None:
        runtime = LocalRuntime(path)
        execution = runtime.start_execution(flows.sleeper, 1000)
        outcome = in_thread(execution.result)
        eventually(lambda: runtime._role.waiters)
        runtime.close()
        with pytest.raises(RuntimeClosed, match="closed while"):
            outcome.get()

    def test_several_threads_close(self, path: Path, in_thread: Callable[..., Any]) -> None:
        runtime = LocalRuntime(path)
        runtime.start_execution(flows.gated, "closing")
        assert flows.gate("closing").reached.wait(WAIT)
        outcomes = [in_thread(runtime.close) for _ in range(4)]
        flows.gate("closing").opened.set()
        for outcome in outcomes:
            assert outcome.get() is None
        LocalRuntime(path).close()

    def test_a_task_that_has_begun_may_end(self, path: Path, in_thread: Callable[..., Any]) -> None:
        runtime = LocalRuntime(path)
        execution = runtime.start_execution(flows.gated, "grace", id="one")
        assert flows.gate("grace").reached.wait(WAIT)
        closing = in_thread(runtime.close)
        outcome = in_thread(execution.result)
        flows.gate("grace").opened.set()
        closing.get()
        with LocalRuntime(path) as again:
            assert again.get_execution("one").result(0) == "grace"
        with contextlib.suppress(RuntimeClosed):  # if it asked after the close had begun
            assert outcome.get() == "grace"

    def test_tasks_that_have_not_begun_run_after_reopening(self, path: Path) -> None:
        with LocalRuntime(path, threads=1, grace=0.01) as runtime:
            runtime.start_execution(flows.gated, "first", id="first")
            assert flows.gate("first").reached.wait(WAIT)
            runtime.start_execution(flows.gated, "second", id="second")
        flows.gate("first").opened.set()
        flows.gate("second").opened.set()
        with LocalRuntime(path) as runtime:
            assert runtime.get_execution("first").result(WAIT) == "first"
            assert runtime.get_execution("second").result(WAIT) == "second"
            (scheduled,) = [
                event
                for event in runtime.get_execution("second").history()
                if isinstance(event, events.TaskRetryStarted)
            ]
            assert scheduled.attempt == 1  # handing back costs no attempt

    def test_a_task_that_does_not_end_in_time_is_attempted_again(self, path: Path) -> None:
        runtime = LocalRuntime(path, grace=0.01)
        execution = runtime.start_execution(flows.gated, "late", id="one")
        assert flows.gate("late").reached.wait(WAIT)
        runtime.close()
        with pytest.raises(RuntimeClosed):
            execution.result()
        flows.gate("late").opened.set()
        with LocalRuntime(path) as again:
            assert again.get_execution("one").result(WAIT) == "late"

    def test_a_task_may_close_the_runtime(self, path: Path) -> None:
        runtime = LocalRuntime(path, grace=0.1)
        FROM_TASK["runtime"] = runtime
        runtime.start_execution(closes_from_task, id="one")
        assert flows.gate("closed").reached.wait(WAIT)
        flows.gate("closed").opened.set()
        with LocalRuntime(path) as again:
            # What an orderly close has cut short costs no attempt.
            assert again.get_execution("one").result(WAIT) == 1


FROM_TASK: dict[str, Any] = {}


def close_in_task() -> int:
    from mini_workflow import current_task

    if current_task().attempt == 1:
        FROM_TASK["runtime"].close()
        flows.gate("closed").go_through()
    return current_task().attempt


@workflow("local.closes_from_task")
async def closes_from_task(ctx: Context) -> int:
    return await ctx.task(close_in_task)

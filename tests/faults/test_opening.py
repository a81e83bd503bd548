"""The moment at which a runtime opens, seen by who asks at once."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import Context, ExecutionBlocked, LocalClient, LocalRuntime, workflow
from mini_workflow.engine.engine import Engine
from mini_workflow.engine.engine_role import EngineRole
from mini_workflow.engine.runtime import Runtime
from mini_workflow.stores.sqlite.agenda import SQLiteAgenda
from mini_workflow.stores.sqlite.leases import SQLiteLeases
from mini_workflow.stores.wakeup_socket import WakeupSocket
from mini_workflow.testing import EnvironmentState, WorkflowEnvironment
from mini_workflow.workflow import REGISTRY
from tests.unit.local import flows
from tests.waiting import WAIT


@workflow("local.waits_for_a_word")
async def waits_for_a_word(ctx: Context) -> Any:
    return await ctx.wait_for_signal("word")


@pytest.fixture(params=["local", "environment"])
def open_runtime(request: pytest.FixtureRequest, path: Path) -> Callable[[], Runtime]:
    if request.param == "local":
        return lambda: LocalRuntime(path)
    state = EnvironmentState()
    return lambda: WorkflowEnvironment(state)


@pytest.mark.parametrize("how", ["result", "await"])
def test_a_block_that_is_about_to_be_lifted(
    open_runtime: Callable[[], Runtime], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Who asks for the result as soon as a runtime opens that has the workflow again waits for it,
    and is not told of the block that is about to be lifted."""
    with open_runtime() as runtime:
        runtime.start_execution(waits_for_a_word, id="one")
    with monkeypatch.context() as patch, open_runtime() as runtime:
        patch.delitem(REGISTRY._workflows, waits_for_a_word.name)
        execution = runtime.get_execution("one")
        execution.signal("word", "heard")
        with pytest.raises(ExecutionBlocked, match="not registered"):
            execution.result(WAIT)

    looked = threading.Event()
    process = Engine.process

    def process_later(engine: Engine, requests: Any) -> None:
        assert looked.wait(WAIT)
        process(engine, requests)

    monkeypatch.setattr(Engine, "process", process_later)
    with open_runtime() as runtime:
        execution = runtime.get_execution("one")
        head = runtime._store.head

        def look(execution_id: str) -> Any:
            try:
                return head(execution_id)
            finally:
                looked.set()

        monkeypatch.setattr(runtime._store, "head", look)

        async def wait() -> Any:
            return await execution

        assert (execution.result(WAIT) if how == "result" else asyncio.run(wait())) == "heard"


def test_a_block_that_is_not_lifted_is_told(
    open_runtime: Callable[[], Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workflow is registered when the runtime is open already: that takes a resume()."""
    with open_runtime() as runtime:
        runtime.start_execution(waits_for_a_word, id="one")
    with open_runtime() as runtime:
        with monkeypatch.context() as patch:
            patch.delitem(REGISTRY._workflows, waits_for_a_word.name)
            execution = runtime.get_execution("one")
            execution.signal("word", "heard")
            with pytest.raises(ExecutionBlocked):
                execution.result(WAIT)
        with pytest.raises(ExecutionBlocked):
            execution.result(WAIT)
        execution.resume()
        assert execution.result(WAIT) == "heard"


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (SQLiteLeases, "acquire"),
        (SQLiteAgenda, "next_wake"),
        (EngineRole, "start"),
        (WakeupSocket, "notify"),
        (WakeupSocket, "listen"),
    ],
)
def test_an_opening_that_is_interrupted_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, path: Path, where: type, name: str
) -> None:
    """As by Ctrl-C in a notebook, which goes on: no lease, no thread, and no runtime without an owner."""
    with LocalRuntime(path) as runtime:
        runtime.start_execution(flows.waits_for_go, id="one")
    before = set(threading.enumerate())
    original = getattr(where, name)

    def interrupted(*arguments: object) -> object:
        monkeypatch.setattr(where, name, original)
        original(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(where, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        LocalRuntime(path)
    assert set(threading.enumerate()) <= before
    with LocalClient(path) as client:
        assert client.owners() == []
        client.start_execution(flows.answer, id="two")
    with LocalRuntime(path) as runtime:
        runtime.get_execution("one").signal("go")
        runtime.get_execution("one").result(WAIT)
        assert runtime.get_execution("two").result(WAIT) == 42

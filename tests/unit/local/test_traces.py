"""Opening and closing leaves nothing behind, and runtimes do not know of each other."""

import gc
import os
import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import LocalRuntime, RuntimeClosed
from mini_workflow.stores.wakeup_socket import Allowance, WakeupSocket
from mini_workflow.testing import WorkflowEnvironment
from tests.unit.local import flows
from tests.unit.local.child import Child
from tests.waiting import WAIT, eventually


def open_files() -> list[str]:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        return []
    found = []
    for descriptor in list(descriptors.iterdir()):
        try:
            found.append(f"{descriptor.name} {descriptor.readlink()}")
        except FileNotFoundError:  # the one of this very listing
            continue
    return sorted(found)


@pytest.mark.parametrize("used", [False, True])
def test_fifty_times(path: Path, used: bool) -> None:
    LocalRuntime(path).close()
    gc.collect()
    threads, files = set(threading.enumerate()), open_files()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(50):
            with LocalRuntime(path) as runtime:
                if used:
                    assert runtime.start_execution(flows.steps, 2).result(WAIT) == 1
                    runtime.start_execution(flows.sleeper, 1000, id=f"sleeper-{number}")
                    assert runtime.start_execution(flows.where, True).result(WAIT) == os.getpid()
        gc.collect()
    assert set(threading.enumerate()) <= threads
    assert set(open_files()) <= set(files)
    assert sorted(file.name for file in path.parent.iterdir()) == ["state.db"]


def test_with_workers(path: Path) -> None:
    LocalRuntime(path, workers=1).close()
    gc.collect()
    threads, files = set(threading.enumerate()), open_files()
    for _ in range(2):
        with LocalRuntime(path, workers=1) as runtime:
            assert runtime.start_execution(flows.where).result(WAIT) != os.getpid()
    # multiprocessing keeps one process of its own, once it has been used.
    del runtime
    gc.collect()
    assert set(threading.enumerate()) <= threads
    assert len(open_files()) <= len(files) + 2


def test_a_runner_that_cannot_be_made(path: Path, monkeypatch: Any) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no runner today")

    threads = set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr("mini_workflow.runtimes.local._make_runner", fail)
        with pytest.raises(RuntimeError, match="no runner today"):
            LocalRuntime(path)
    assert set(threading.enumerate()) <= threads
    LocalRuntime(path).close()


def test_two_files_in_one_process(tmp_path: Path) -> None:
    with LocalRuntime(tmp_path / "a.db") as one, LocalRuntime(tmp_path / "b.db") as two:
        first = one.start_execution(flows.echo, 1, id="same")
        second = two.start_execution(flows.echo, 2, id="same")
        assert (first.result(WAIT), second.result(WAIT)) == (1, 2)
        one.close()
        assert two.start_execution(flows.steps, 3).result(WAIT) == 3
        assert len(two.list_executions()) == 2


def test_two_runtimes_on_one_file_in_one_process(path: Path) -> None:
    with LocalRuntime(path) as one:
        gated = one.start_execution(flows.gated, "gate", id="one")
        with LocalRuntime(path) as two:
            seen = two.get_execution("one")
            flows.gate("gate").opened.set()
            assert seen.result(WAIT) == gated.result(WAIT) == "gate"
            assert two.start_execution(flows.steps, 3, id="two").result(WAIT) == 3
            two.start_execution(flows.sleeper, 0.2, id="sleeper")
        assert one.get_execution("sleeper").result(WAIT) >= 0.2


class TestDoorbell:
    def test_rings_before_there_is_a_listener(self) -> None:
        heard = threading.Event()
        one, two = WakeupSocket(), WakeupSocket()
        two.notify([one.address])
        one.listen(heard.set)
        assert heard.wait(WAIT)
        one.close()
        two.close()

    @pytest.mark.parametrize("address", ["", "nobody", "0", "65536", "99999999999", "-1", "²"])
    def test_addresses_that_are_none(self, address: str) -> None:
        bell = WakeupSocket()
        bell.notify([address])
        bell.close()
        bell.close()
        bell.notify([address])

    def test_without_sockets(self, path: Path, monkeypatch: Any) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError("no sockets here")

        with monkeypatch.context() as patch:
            patch.setattr("socket.socket", refuse)
            bell = WakeupSocket()
            assert bell.address == ""
            bell.listen(lambda: None)
            bell.notify(["1"])
            bell.close()
            with LocalRuntime(path) as runtime:
                assert runtime.start_execution(flows.steps, 2).result(WAIT) == 1

    def test_a_storm_is_one_look(self, path: Path) -> None:
        with LocalRuntime(path) as runtime:
            for _ in range(10_000):
                runtime.look_around()
            assert len(runtime._role._inbox) < 100
            assert runtime.start_execution(flows.steps, 2).result(WAIT) == 1


class TestEngineRole:
    def test_its_end_is_told_to_everybody(
        self, path: Path, in_thread: Callable[..., Any], caplog: Any
    ) -> None:
        """A fault of the library itself: nobody may wait for ever."""
        runtime = LocalRuntime(path)
        execution = runtime.start_execution(flows.sleeper, 1000, id="one")
        outcome = in_thread(execution.result)
        eventually(lambda: runtime._role.waiters)

        def fail() -> None:
            raise SystemExit("a fault")

        with pytest.raises(RuntimeClosed):
            runtime._role.call(fail)
        with pytest.raises(RuntimeClosed):
            outcome.get()
        with pytest.raises(RuntimeClosed):
            runtime.start_execution(flows.answer)
        runtime.close()
        assert "the engine has failed" in caplog.text
        with LocalRuntime(path) as again:
            assert again.get_execution("one").describe().status == "running"

    def test_a_failing_call_is_answered(self) -> None:
        def fail() -> None:
            raise LookupError("not here")

        with WorkflowEnvironment() as environment:
            with pytest.raises(LookupError, match="not here"):
                environment._role.call(fail)
            assert environment.start_execution(flows.answer).result(WAIT) == 42


class TestInterrupts:
    CODE = """
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with LocalRuntime(path) as runtime:
            execution = runtime.start_execution(flows.sleeper, 1000, id="one")
            for _ in range(2):
                try:
                    say("waiting")
                    execution.result()
                except KeyboardInterrupt:
                    say("interrupted")
            say(str(runtime.start_execution(flows.answer).result(30)))
        say("closed")
    """

    def test_ctrl_c_while_waiting(self, path: Path) -> None:
        with Child(self.CODE, path) as child:
            child.expect("waiting")
            child.signal(signal.SIGINT)
            child.expect("interrupted", "waiting")
            child.signal(signal.SIGINT)
            child.expect("interrupted", "42", "closed")
            child.end()

    def test_ctrl_c_while_closing(self, path: Path) -> None:
        code = """
            import signal
            signal.signal(signal.SIGINT, signal.default_int_handler)
            runtime = LocalRuntime(path, grace=3600)
            runtime.start_execution(flows.gated, "gate", id="one")
            flows.gate("gate").reached.wait()
            try:
                say("closing")
                runtime.close()
            except KeyboardInterrupt:
                say("interrupted")
            flows.gate("gate").opened.set()
            runtime.close()
            say(str([thread.name for thread in threading.enumerate()]))
        """
        with Child(code, path) as child:
            child.expect("closing")
            child.signal(signal.SIGINT)
            child.expect("interrupted", "['MainThread']")
            child.end()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_does_not_have_the_runtime(path: Path) -> None:
    code = """
        import warnings
        # From 3.12 on Python warns of a fork beside threads, which is the point here.
        warnings.simplefilter("ignore")
        with LocalRuntime(path) as runtime:
            execution = runtime.start_execution(flows.steps, 3, id="one")
            execution.result()
            child = os.fork()
            if child == 0:
                for call in (execution.describe, lambda: runtime.start_execution(flows.answer)):
                    try:
                        call()
                    except RuntimeClosed as error:
                        assert "fork" in str(error), error
                    else:
                        os._exit(1)
                runtime.close()
                os._exit(0)
            say(str(os.waitpid(child, 0)[1]))
            say(str(runtime.start_execution(flows.steps, 4).result(30)))
    """
    with Child(code, path) as child:
        child.expect("0", "6")
        child.end()


class TestAllowance:
    """How often a wake-up is heard: anybody on the machine can send one."""

    def test_a_burst_is_heard_at_once(self) -> None:
        allowance = Allowance(3, 10)
        assert [allowance.take(0) for _ in range(3)] == [0, 0, 10]

    def test_a_flood_is_heard_at_intervals(self) -> None:
        allowance = Allowance(3, 10)
        now, heard = 0.0, 0
        while now < 1_000:
            now += allowance.take(now)
            heard += 1
        assert heard == 102

    def test_silence_gives_the_burst_again(self) -> None:
        allowance = Allowance(3, 10)
        for _ in range(3):
            allowance.take(0)
        assert [allowance.take(1_000) for _ in range(3)] == [0, 0, 10]

    def test_of_a_flood_few_are_heard(self) -> None:
        bell, sender = WakeupSocket(), WakeupSocket()
        heard: list[None] = []
        enough = threading.Event()

        def hear() -> None:
            heard.append(None)
            if len(heard) == 30:
                enough.set()

        bell.listen(hear)
        rung = 0
        while not enough.is_set():
            sender.notify([bell.address])
            rung += 1
        bell.close()
        sender.close()
        assert len(heard) < rung

"""A signal handler may use a runtime or a client, and close it, whatever call it has interrupted."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from mini_workflow import LocalRuntime
from tests.unit.local.child import Child
from tests.waiting import WAIT

INTERRUPTED = """
import faulthandler, signal
from mini_workflow.stores.sqlite.connection import Connection

faulthandler.dump_traceback_later(60, exit=True)  # instead of a wait without end

def within(method, act):
    # Has the next call of the method on the main thread interrupted by a signal, whose handler acts.
    original = getattr(Connection, method)

    def called(self, *arguments):
        if threading.current_thread() is not threading.main_thread():
            return original(self, *arguments)
        setattr(Connection, method, original)
        signal.signal(signal.SIGUSR1, lambda *_: act())
        signal.raise_signal(signal.SIGUSR1)
        return original(self, *arguments)

    setattr(Connection, method, called)
"""


def interrupted(code: str) -> str:
    return INTERRUPTED + textwrap.dedent(code)


def test_a_runtime_is_closed_in_the_middle_of_a_read(path: Path) -> None:
    """The handler returns once the executions are free; the read, which holds the file, ends it all."""
    code = """
    runtime = LocalRuntime(path, grace=60)
    runtime.start_execution(flows.waits_for_go, id="one")

    def close():
        runtime.close()
        with LocalRuntime(path) as other:  # nothing keeps the executions any more
            other.get_execution("one").signal("go")
            other.get_execution("one").result(60)
        say("closed")

    within("rows", close)
    say(str([one.id for one in runtime.list_executions()]))
    try:
        runtime.list_executions()
    except RuntimeClosed:
        say("told")
    runtime.close()
    """
    with Child(interrupted(code), path) as process:
        process.expect("closed", "['one']", "told")
        process.end()


@pytest.mark.parametrize("first", ["runtime.close()", "execution.result()"])
def test_a_runtime_is_closed_in_the_middle_of_closing(path: Path, first: str) -> None:
    """As by Ctrl-C twice, with a handler of one's own; the task still has its grace."""
    code = f"""
    gate = flows.gate("closing")
    runtime = LocalRuntime(path, grace=60)
    execution = runtime.start_execution(flows.gated, "closing", id="one")
    gate.reached.wait()
    closing = []

    def handle(*_):
        closing.append(None)
        if len(closing) == 1:
            threading.Timer(0.01, send).start()
        else:
            gate.opened.set()
        runtime.close()

    def send():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    signal.signal(signal.SIGUSR1, handle)
    threading.Timer(0.01, send).start()
    try:
        {first}
    except RuntimeClosed:
        pass
    while len(closing) < 2:
        signal.pause()
    runtime.close()
    say("closed")
    """
    with Child(interrupted(code), path) as process:
        process.expect("closed")
        process.end()
    with LocalRuntime(path) as runtime:
        assert runtime.get_execution("one").result(WAIT) == "closing"


@pytest.mark.parametrize("where", ["LocalRuntime", "LocalClient"])
@pytest.mark.parametrize("method", ["rows", "row", "run"])
def test_a_handler_reads_in_the_middle_of_a_read(path: Path, where: str, method: str) -> None:
    code = f"""
    with LocalRuntime(path) as runtime:
        runtime.start_execution(flows.steps, 1, id="one").result(60)
        reader = runtime if {where!r} == "LocalRuntime" else LocalClient(path)

        seen = []

        def read():
            seen.append([one.id for one in reader.list_executions()])
            seen.append(reader.get_execution("one").describe().status)

        within({method!r}, read)
        read()
        assert seen.count(["one"]) == seen.count("completed") == 2, seen
        say("read")
        reader.close()
    """
    with Child(interrupted(code), path) as process:
        process.expect("read")
        process.end()


def test_a_handler_that_writes_in_the_middle_of_a_write_is_refused(path: Path) -> None:
    """What it has interrupted is written, and all later writes are."""
    code = """
    with LocalClient(path) as client:
        client.start_execution(flows.steps, 1, id="one")

        def write():
            try:
                client.start_execution(flows.steps, 1, id="two")
            except StoreUnavailable as error:
                assert "a signal handler may read here" in str(error), error
                say("refused")

        within("_commit", write)
        client.start_execution(flows.steps, 1, id="three")
        client.start_execution(flows.steps, 1, id="four")
        say(str(sorted(one.id for one in client.list_executions())))
    """
    LocalRuntime(path).close()
    with Child(interrupted(code), path) as process:
        process.expect("refused", "['four', 'one', 'three']")
        process.end()


def test_a_client_is_closed_in_the_middle_of_a_read(path: Path) -> None:
    code = """
    client = LocalClient(path)
    within("rows", client.close)
    try:
        client.list_executions()
    except RuntimeClosed:
        say("told")
    """
    LocalRuntime(path).close()
    with Child(interrupted(code), path) as process:
        process.expect("told")
        process.end()

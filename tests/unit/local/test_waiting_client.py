"""Who waits through a LocalClient: one thread looks at the file for all, and none for nobody."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from mini_workflow import Context, LocalClient, LocalRuntime, RuntimeClosed, StoreError, workflow
from mini_workflow.errors import StoreUnavailable
from mini_workflow.runtimes.file_watcher import FileWatcher
from tests.waiting import WAIT, eventually


@workflow("waiting.go")
async def waits(ctx: Context) -> object:
    ctx.on_update("say", lambda word: word)
    return await ctx.wait_for_signal("go")


class File:
    """What a watcher looks at, and how often it did."""

    def __init__(self) -> None:
        self.at = 0
        self.over: set[str] = set()
        self.versions = 0
        self.looks = 0
        self.broken = False

    def version(self) -> int:
        self.versions += 1
        if self.broken:
            raise StoreUnavailable("gone")
        return self.at

    def ended(self, names: Sequence[str]) -> list[str]:
        self.looks += 1
        return [name for name in names if name in self.over]

    def rounds(self, number: int) -> None:
        seen = self.versions
        eventually(lambda: self.versions >= seen + number)


def watchers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "mini-workflow-file-watcher"]


@pytest.fixture
def file() -> File:
    return File()


def test_without_changes_only_the_version_is_asked_for_whoever_waits(file: File) -> None:
    watcher = FileWatcher(file.version, file.ended, pause=0.001)
    woken = threading.Event()
    blocks = [watcher.until_end(f"e{n}", woken.set) for n in range(500)]
    for block in blocks:
        block.__enter__()
    file.at += 1
    file.rounds(3)
    looks = file.looks
    file.rounds(10)
    assert file.looks == looks
    assert not woken.is_set()
    assert len(watchers()) == 1
    for block in blocks:
        block.__exit__(None, None, None)
    eventually(lambda: not watchers())
    asked = file.versions
    with watcher.until_end("again", woken.set):
        eventually(lambda: file.versions > asked)
    watcher.close()


def test_only_those_are_woken_whose_execution_has_ended(file: File) -> None:
    watcher = FileWatcher(file.version, file.ended, pause=0.001)
    a, b, change = threading.Event(), threading.Event(), threading.Event()
    with (
        watcher.until_end("a", a.set),
        watcher.until_end("b", b.set),
        watcher.until_change("b", change.set),
    ):
        file.over.add("a")
        file.at += 1
        assert a.wait(WAIT)
        assert change.wait(WAIT)
        file.rounds(2)
        assert not b.is_set()
    watcher.close()


def test_a_file_that_cannot_be_read_wakes_everybody_and_ends_nothing(file: File) -> None:
    watcher = FileWatcher(file.version, file.ended, pause=0.001)
    a, b = threading.Event(), threading.Event()
    with watcher.until_end("a", a.set), watcher.until_change("b", b.set):
        file.broken = True
        assert a.wait(WAIT)
        assert b.wait(WAIT)
        a.clear()
        file.broken = False
        file.rounds(2)
        a.clear()
        file.over.add("a")
        file.at += 1
        assert a.wait(WAIT)
    watcher.close()


def test_close_after_an_interrupt_that_kept_the_thread_from_starting(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = FileWatcher(file.version, file.ended)

    def interrupted(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt), watcher.until_end("a", lambda: None):
            pass
    watcher.close()


def test_close_wakes_those_who_wait(file: File) -> None:
    watcher = FileWatcher(file.version, file.ended)
    woken = threading.Event()
    with watcher.until_end("a", woken.set):
        watcher.close()
        assert woken.is_set()
        assert not watchers()
    with watcher.until_end("a", woken.set):
        assert not watchers()


def test_many_await_their_executions_and_one_thread_looks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalRuntime(path), LocalClient(path) as client:
        handles = client.start_executions(waits, [() for _ in range(100)])
        heads: list[str] = []
        head = client._store.head

        def count(execution_id: str) -> object:
            heads.append(execution_id)
            return head(execution_id)

        async def main() -> list[object]:
            results = asyncio.gather(*(wait(handle) for handle in handles))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(watchers()) == 1
            monkeypatch.setattr(client._store, "head", count)
            await asyncio.to_thread(look_around)
            assert heads == []  # whatever others have written meanwhile
            monkeypatch.undo()
            for number, handle in enumerate(handles):
                handle.signal("go", number)
            return await asyncio.wait_for(results, WAIT)

        async def wait(handle: object) -> object:
            return await handle  # type: ignore[misc]

        def look_around() -> None:
            other = client.start_execution(waits, id="other")
            assert other.update("say", "hi", timeout=WAIT) == "hi"
            heads[:] = [name for name in heads if name != "other"]

        assert asyncio.run(main()) == list(range(100))
        eventually(lambda: not watchers())


def test_a_result_reaches_a_thread_that_waits(path: Path) -> None:
    with LocalRuntime(path) as runtime, LocalClient(path) as client:
        handle = client.start_execution(waits, id="a")
        with pytest.raises(TimeoutError):
            handle.result(0.01)
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(handle.result(WAIT)))
        thread.start()
        eventually(watchers)
        runtime.get_execution("a").signal("go", "now")
        thread.join()
        assert answers == ["now"]
        assert handle.result(0) == "now"


def test_a_client_that_is_closed_says_so_to_who_waits(path: Path) -> None:
    with LocalRuntime(path):
        client = LocalClient(path)
        handle = client.start_execution(waits)
        errors: list[BaseException] = []

        def wait() -> None:
            try:
                handle.result(WAIT)
            except (RuntimeClosed, StoreError, TimeoutError) as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        eventually(watchers)
        client.close()
        thread.join()
        assert [type(error) for error in errors] == [RuntimeClosed]

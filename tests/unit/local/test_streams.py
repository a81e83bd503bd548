"""Streams of files: from worker processes, to clients, and through kill -9."""

from collections import defaultdict
from pathlib import Path

import pytest

from mini_workflow import LocalClient, LocalRuntime
from mini_workflow.stores import stream_state
from tests.unit.local import streaming
from tests.unit.local.child import Child
from tests.waiting import WAIT, eventually


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_tasks_write_wherever_they_run(path: Path, workers: int) -> None:
    with LocalRuntime(path, workers=workers) as runtime:
        execution = runtime.start_execution(streaming.several)
        assert [chunk.value for chunk in execution.stream("words")] == [1, 2, 3, 4, 5, "refused", 6]


def test_what_a_worker_process_has_flushed_outlives_it(path: Path) -> None:
    with LocalRuntime(path, workers=1) as runtime:
        execution = runtime.start_execution(streaming.dying)
        chunks = list(execution.stream("words"))
        assert [(chunk.attempt, chunk.value) for chunk in chunks] == [
            (1, "a"),
            (1, "b"),
            (2, "a"),
            (2, "b"),
            (2, "c"),
        ]
        assert [chunk.restarts for chunk in chunks] == [False, False, True, False, False]
        assert [chunk.value for chunk in execution.stream("words").read()] == ["a", "b", "c"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_stream_is_an_error_of_the_write(
    path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_state, "MAXIMUM_CHUNKS", 3)
    with LocalRuntime(path, workers=workers) as runtime:
        execution = runtime.start_execution(streaming.filling, 5)
        assert "has no room for another chunk" in execution.result(WAIT)
        assert [chunk.value for chunk in execution.stream("words")] == [0, 1, 2]


def test_a_client_reads_along(path: Path) -> None:
    with LocalRuntime(path, grace=0) as runtime, LocalClient(path, read_only=True) as client:
        execution = runtime.start_execution(streaming.counting, str(path.parent / "ledger"))
        reader = iter(client.get_execution(execution.id).stream("numbers"))
        assert [next(reader).value for _ in range(15)] == [[1, n] for n in range(1, 16)]
        execution.terminate("enough")
        offsets = [chunk.offset for chunk in reader]
        assert offsets[:1] in ([16], [])
        assert offsets == sorted(set(offsets))


COUNTING = """
    from tests.unit.local import streaming
    ledger, workers = arguments
    with LocalRuntime(path, workers=int(workers), lease=1) as runtime:
        execution = runtime.start_execution("streaming.counting", ledger, id="long")
        say("opened")
        execution.result()
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_what_was_acknowledged_is_read_after_a_kill(
    path: Path, tmp_path: Path, workers: int
) -> None:
    ledger = tmp_path / "ledger"
    for number in range(1, 3):
        with Child(COUNTING, path, ledger, workers) as child:
            child.expect("opened")

            def has_written(number: int = number) -> bool:
                lines = ledger.read_text().splitlines() if ledger.exists() else []
                return len({line.split()[0] for line in lines}) >= number

            eventually(has_written)
            child.kill()
    acknowledged = {
        int(attempt): int(last)
        for attempt, last in (
            line.split() for line in ledger.read_text().splitlines() if len(line.split()) == 2
        )
    }
    with LocalClient(path, read_only=True) as client:
        stream = client.get_execution("long").stream("numbers")
        found: dict[int, list[int]] = defaultdict(list)
        page, after = stream.read(1_000), 0
        while page:
            for chunk in page:
                found[chunk.value[0]].append(chunk.value[1])
                after = chunk.offset
            page = client.get_execution("long").stream("numbers", after).read(1_000)
    last = max(acknowledged)
    assert found[last] == list(range(1, len(found[last]) + 1))
    assert len(found[last]) >= acknowledged[last]

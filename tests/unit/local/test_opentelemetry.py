"""OpenTelemetry across processes: workers, and a process that is killed and followed by another one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from mini_workflow import LocalRuntime, UsageError
from mini_workflow.integrations.opentelemetry import OpenTelemetry
from tests.paths import ROOT
from tests.unit.local import exporting
from tests.waiting import WAIT

PROGRAM = "import sys; from tests.unit.local.exporting import main; main(*sys.argv[1:])"


def run(folder: Path, how: str, workers: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), how, str(workers)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )


def spans(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "spans").read_text().splitlines()]


def tree(found: list[dict[str, Any]], parent: int | None = None) -> list[Any]:
    inner = [span for span in found if span["parent"] == parent]
    return sorted([span["name"], tree(found, span["span"])] for span in inner)


def task(name: str) -> list[Any]:
    return [f"task {name}", [[f"inside {name}", []]]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_trace_goes_through_worker_processes(tmp_path: Path, workers: int) -> None:
    """What the code of a task traces there is inside of its attempt, and is flushed at the end."""
    ended = run(tmp_path, "end", workers)
    assert ended.stdout == "done\n", ended.stderr
    found = spans(tmp_path)
    assert len({span["trace"] for span in found}) == 1
    tasks = sorted([task("a"), task("b"), task("b"), task("c"), ["task hang", []]])
    runs = [["run exporting.order", tasks]]
    assert tree(found) == [["start exporting.order", [["execution exporting.order", runs]]]]
    processes = {span["process"] for span in found if span["name"].startswith("inside")}
    others = {span["process"] for span in found if not span["name"].startswith("inside")}
    assert len(processes) == len(others) == 1
    assert (processes == others) == (workers == 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_after_a_kill_nothing_is_exported_twice(tmp_path: Path, workers: int) -> None:
    """What was exported before stays the only one, and what follows is in the same trace. The call of the
    killed process had not ended.
    """
    assert run(tmp_path, "killed", workers).returncode == -signal.SIGKILL
    before = spans(tmp_path)
    assert not [span for span in before if span["name"].startswith(("run", "execution"))]
    ended = run(tmp_path, "again", workers)
    assert ended.stdout == "done\n", ended.stderr
    found = spans(tmp_path)
    assert max(Counter(span["span"] for span in found).values()) == 1
    assert len({span["trace"] for span in found}) == 1
    names = Counter(span["name"] for span in found)
    # The attempt in which it was killed is one that was lost.
    wanted = {"task a": 1, "task b": 2, "task c": 1, "task hang": 2}
    assert {name: names[name] for name in wanted} == wanted
    assert names["run exporting.order"] == names["execution exporting.order"] == 1


def test_a_provider_is_not_copied_to_workers(tmp_path: Path) -> None:
    """The error says what to do."""
    around = [OpenTelemetry(tracer_provider=TracerProvider())]
    with pytest.raises(UsageError, match="worker processes need a copy of it"):
        LocalRuntime(tmp_path / "state.db", workers=1, interceptors=around)


def test_without_the_sdk_nothing_is_exported(tmp_path: Path) -> None:
    """Executions run on, and a trace that a caller hands in is handed on."""
    given = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    (tmp_path / "reached.again").touch()
    with LocalRuntime(tmp_path / "state.db", interceptors=[OpenTelemetry()]) as runtime:
        started = runtime.start_execution(
            exporting.order, str(tmp_path / "reached"), headers=given, id="o-1"
        )
        assert started.result(WAIT) == "done"
        (first, *_) = started.history()
    assert first.headers == given


def test_the_library_does_not_import_it() -> None:
    code = "import sys, mini_workflow; print([m for m in sys.modules if 'opentelemetry' in m])"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout == "[]\n"

"""Law 20, the lease: a turn that takes long, or never ends, stops none of the other executions."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mini_workflow import LocalRuntime
from mini_workflow.engine.renewal import LeaseRenewal
from mini_workflow.errors import LeaseLost, StoreUnavailable
from tests.unit.local import flows
from tests.unit.local.child import Child
from tests.waiting import WAIT, eventually

LEASE = 3
"""Seconds: a renewal each 0.75 s leaves room on a busy machine."""

BUSY = f"""
with LocalRuntime(path, lease={LEASE}, turn_timeout=None) as runtime:
    others = runtime.start_execution(flows.gated, "gate", id="other")
    flows.gate("gate").reached.wait()
    busy = runtime.start_execution(flows.computes_until, arguments[0], id="busy")
    say(busy.result())
    flows.gate("gate").opened.set()
    say(others.result())
    hear()
"""


def looks_of(runtime: LocalRuntime) -> list[bool]:
    """Grows by one each time that the runtime looks for executions to take over."""
    looks: list[bool] = []
    acquire = runtime._ports.leases.acquire

    def counted(now: int) -> bool:
        looks.append(acquire(now))
        return looks[-1]

    runtime._ports.leases.acquire = counted  # type: ignore[method-assign]
    return looks


def test_a_turn_that_computes_longer_than_the_lease_keeps_it(path: Path, tmp_path: Path) -> None:
    release = tmp_path / "release"
    with Child(BUSY, path, release) as other:
        eventually(lambda: Path(f"{release}.reached").exists())
        with LocalRuntime(path, lease=LEASE) as runtime:
            looks = looks_of(runtime)
            # One each third of the lease: after five it would have ended.
            eventually(lambda: len(looks) >= 5)
            assert not any(looks)
            release.touch()
            other.expect("computed")
            other.expect("gate")
            assert runtime.get_execution("busy").result(WAIT) == "computed"
            history = runtime.get_execution("other").history()
    assert not flows.gate("gate").reached.is_set()  # it never ran here
    assert len(history) == 4


HANGING = """
with LocalRuntime(path, lease=1, turn_timeout=0.2) as runtime:
    runtime.start_execution(flows.gated, "gate", id="other")
    flows.gate("gate").reached.wait()
    runtime.start_execution(flows.hangs_in, os.getpid(), id="hanging")
"""


def test_the_others_of_an_engine_that_hangs_go_on_elsewhere(path: Path) -> None:
    flows.gate("gate").opened.set()
    with Child(HANGING, path), LocalRuntime(path, lease=1) as runtime:
        eventually(lambda: list(runtime.list_executions()))
        assert runtime.get_execution("other").result(WAIT) == "gate"


def test_what_cannot_be_interrupted_is_named(
    path: Path, in_thread: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    reached, opened = threading.Event(), threading.Event()
    flows.HELD["here"] = (reached, opened)
    with (
        caplog.at_level(logging.CRITICAL, "mini_workflow.engine"),
        LocalRuntime(path, lease=1, turn_timeout=0.1) as runtime,
    ):
        in_thread(lambda: runtime.start_execution(flows.holds, "here", id="held"))
        assert reached.wait(WAIT)
        eventually(lambda: caplog.records)
        assert runtime._engine.hangs() == "held"
        opened.set()
        eventually(lambda: runtime._engine.hangs() is None)
        assert runtime.start_execution(flows.steps, 4, id="mine").result(WAIT) == 6
    first = caplog.records[0]
    assert first.levelno == logging.CRITICAL
    assert "cannot be interrupted" in first.getMessage()
    assert first.execution_id == "held"  # type: ignore[attr-defined]


class Lease:
    def __init__(self) -> None:
        self.extended = 0
        self.error: Exception | None = None

    def acquire(self, now: int) -> bool:
        raise NotImplementedError

    def renew(self, now: int) -> int:
        raise NotImplementedError

    def extend(self, now: int) -> None:
        if self.error is not None:
            raise self.error
        self.extended += 1

    def release(self) -> None:
        raise NotImplementedError

    def peers(self) -> list[str]:
        raise NotImplementedError


class Clock:
    def now(self) -> int:
        return 0


def test_a_lease_is_let_go_only_while_the_engine_hangs(caplog: pytest.LogCaptureFixture) -> None:
    lease, hanging = Lease(), [None, "one", "one", None]
    renewal = LeaseRenewal(lease, Clock(), interval=1, hangs=lambda: hanging.pop(0))
    extended = []
    for _ in range(4):
        renewal.extend()
        extended.append(lease.extended)
    assert extended == [1, 1, 1, 2]
    assert [r.levelno for r in caplog.records] == [logging.CRITICAL]


@pytest.mark.parametrize("error", [StoreUnavailable("busy"), LeaseLost("gone"), ValueError("odd")])
def test_what_one_extension_meets_does_not_end_the_next(error: Exception) -> None:
    lease = Lease()
    lease.error = error
    renewal = LeaseRenewal(lease, Clock(), interval=1e-3, hangs=lambda: None)
    renewal.start()
    lease.error = None
    eventually(lambda: lease.extended > 1)
    renewal.stop()
    renewal.stop()

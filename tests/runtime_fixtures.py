"""A runtime on a file of its own, and no traces behind it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mini_workflow import LocalRuntime
from tests.unit.local import flows
from tests.waiting import WAIT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture(autouse=True)
def gates() -> Iterator[None]:
    """Open all gates at the end, so that no task keeps a thread."""
    yield
    for gate in flows.GATES.values():
        gate.opened.set()
    flows.GATES.clear()


@pytest.fixture
def runtime(path: Path) -> Iterator[LocalRuntime]:
    with LocalRuntime(path) as runtime:
        yield runtime


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], object]], "Outcome"]]:
    """Runs a function on a thread and keeps what becomes of it."""
    outcomes: list[Outcome] = []

    def start(function: Callable[[], object]) -> Outcome:
        outcomes.append(Outcome(function))
        return outcomes[-1]

    yield start
    for outcome in outcomes:
        outcome.thread.join(WAIT)


class Outcome:
    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._value: object = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error

    def get(self) -> object:
        self.thread.join(WAIT)
        assert not self.thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._value

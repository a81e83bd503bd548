"""What a command waits for after its request is saved."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from mini_workflow import ExecutionNotFound
from mini_workflow.cli import taken
from mini_workflow.cli.taken import wait_until_taken
from mini_workflow.engine.client import Client
from mini_workflow.engine.transport import Pauses
from mini_workflow.ports import Head
from tests.waiting import WAIT

RUNNING = Head("e", "w", "running", 0)
BLOCKED = Head("e", "w", "blocked", 0)
CLOSED = Head("e", "w", "terminated", 0, closed_at=1)
AGAIN = Head("e", "w", "running", 0, run=2)


@dataclass
class Scripted:
    """Shows one head after the other; None is that of an execution that is gone."""

    heads: list[Head | None]
    again: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(over={"e": 1}))

    def head(self, execution_id: str) -> Head:
        head = self.heads.pop(0)
        if head is None:
            raise ExecutionNotFound("it is gone", execution_id=execution_id)
        return head

    @contextmanager
    def changes(self, execution_id: str, wake: Callable[[], None]) -> Iterator[Pauses]:
        yield Pauses(0.0, 0.0)


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("terminate", [RUNNING, BLOCKED], CLOSED),
        ("retry", [CLOSED], AGAIN),
        ("restart", [CLOSED, CLOSED], AGAIN),
        ("pause", [RUNNING], BLOCKED),
        ("pause", [RUNNING], CLOSED),
        ("terminate", [RUNNING], None),
    ],
)
def test_a_command_waits_for_its_effect(
    verb: str, before: list[Head], after: Head | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taken, "PATIENCE", WAIT)
    store = Scripted([*before, after, RUNNING])
    assert wait_until_taken(cast(Client, store), verb, ["e"]) is None
    assert store.heads == [RUNNING]


def test_it_names_what_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken, "PATIENCE", 0.0)
    store = Scripted([CLOSED, RUNNING, RUNNING])
    assert wait_until_taken(cast(Client, store), "terminate", ["first", "second"]) == "second"


def test_what_has_no_mark_of_its_own_is_not_waited_for() -> None:
    store = Scripted([])
    assert wait_until_taken(cast(Client, store), "resume", ["e"]) is None
    assert wait_until_taken(cast(Client, store), "", ["e"]) is None

"""A mailbox that numbers messages before they are committed is caught, and one that does so then is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mini_workflow.ports import Backend, Clock, MailboxEntry
from mini_workflow.stores.memory import MemoryBackend, MemoryState
from mini_workflow.testing.contracts.mailbox import MailboxContract
from tests.contracts.catching import CAUGHT

READS_ON = "test_who_reads_on_behind_the_last_number_misses_no_writer_that_was_held_up"


class ManyWriters(MailboxContract):
    """Posts that are held between the insert and the commit, while others go on."""

    early: bool

    @pytest.fixture(autouse=True)
    def _state(self) -> None:
        self.state = MemoryState()

    def open_backend(self, owner: str, clock: Clock) -> Backend:
        return MemoryBackend(self.state, owner=owner, address=owner, clock=clock, lease=self.LEASE)

    def hold_post(self, execution_id: str, body: str, key: str) -> Callable[[], None]:
        number = self.state.number() if self.early else 0

        def commit() -> None:
            given = number or self.state.number()
            self.state.entries[given] = (MailboxEntry(given, execution_id, body), key)

        return commit


class TestNumberedWhenCommitted(ManyWriters):
    early = False


class TestNumberedBefore(ManyWriters):
    early = True

    def test_who_reads_on_behind_the_last_number_misses_no_writer_that_was_held_up(self) -> None:
        with pytest.raises(CAUGHT):
            getattr(super(), READS_ON)()

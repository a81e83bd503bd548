"""Compare the number of this owner's commits with the count of the server."""

from __future__ import annotations

from typing import Final

from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.postgres.connection import Connection


class Fence:
    """A check whether a commit was done whose answer was lost."""

    def __init__(self, writer: Connection, holding: Ownership) -> None:
        self._writer: Final = writer
        self._holding: Final = holding

    def settle(self) -> None:
        """Give up the lease if the last commit raised an error and was done all the same.

        The engine takes that commit for undone, so that its memory is out of date. Raises LeaseLost.
        """
        holding = self._holding
        if not holding.unconfirmed or holding.lease is None:
            return
        if self.is_done():
            holding.lost()
        holding.unconfirmed = False

    def is_done(self) -> bool:
        """Return whether the server has counted the unconfirmed commit.

        Raises LeaseLost if the server has no such lease, or another number of commits: then it is
        another server, to which some commits were not replicated.
        """
        holding = self._holding
        row = self._writer.row("SELECT commits FROM @owners WHERE id = %s", (holding.lease,))
        if row is None or row[0] not in (holding.commits, holding.commits + 1):
            holding.lost()
        return bool(row[0] > holding.commits)

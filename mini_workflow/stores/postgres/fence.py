"""Compare this owner's commits with the count of the server."""

from __future__ import annotations

from typing import Final

from mini_workflow.stores.ownership import Ownership
from mini_workflow.stores.postgres.connection import Connection


class Fence:
    """Finds out what has become of a commit whose answer was lost."""

    def __init__(self, writer: Connection, holding: Ownership) -> None:
        self._writer: Final = writer
        self._holding: Final = holding

    def settle(self) -> None:
        """Give up the lease if the last commit has raised and was done: the engine was told that nothing
        had happened, so that what it knows is out of date. Raises LeaseLost.
        """
        holding = self._holding
        if not holding.unconfirmed or holding.lease is None:
            return
        if self.is_done():
            holding.lost()
        holding.unconfirmed = False

    def is_done(self) -> bool:
        """Return whether the server has counted the commit that may have been done. Raises LeaseLost
        when the lease does not stand there, or with another number of commits: then this is another
        server, which has not heard of all that was committed.
        """
        holding = self._holding
        row = self._writer.row("SELECT commits FROM @owners WHERE id = %s", (holding.lease,))
        if row is None or row[0] not in (holding.commits, holding.commits + 1):
            holding.lost()
        return bool(row[0] > holding.commits)

"""Keep what an owner of a store with partitions holds now."""

from __future__ import annotations

from typing import Final, NoReturn

from mini_workflow.errors import LeaseLost

_KNOWN_LIMIT: Final = 65_536


class Ownership:
    """The holdings of this owner right now; the store, the agenda and the mailbox share it."""

    def __init__(self) -> None:
        self.lease: int | None = None
        self.partitions: list[int] = []
        self.lengths: dict[str, tuple[int, int]] = {}
        """The key and the number of events of executions that are held, of those that are remembered.

        That can be trusted while the lease stands: nobody else may append to what is held.
        """

        self.homes: list[int] = []
        """The partitions of new executions, one after the other, where an owner has several."""
        self.commits = 0
        """How many commits the store has counted for the lease, where it does."""
        self.unconfirmed = False
        """Whether the last commit may have been done although it has raised."""
        self.serves = ""
        """The names of the workers that the owner serves, with spaces between them."""
        self.read = 0
        """The number of the message that was read last, where messages are read in the order of their
        numbers."""
        self.former: int | None = None
        """The lease that was lost last."""

    def require(self) -> int:
        """Return the lease; raise LeaseLost while there is none."""
        if self.lease is None:
            raise LeaseLost("this owner holds no lease (any more); acquire one to go on")
        return self.lease

    def lost(self) -> NoReturn:
        """Forget everything, since the lease does not stand any more, and raise LeaseLost."""
        self.former = self.lease
        self.forget()
        raise LeaseLost(
            "another process has taken over the executions of this one, because the lease was "
            "not renewed in time; nothing was written"
        )

    def forget(self) -> None:
        """Forget everything that was held."""
        self.lease = None
        self.partitions = []
        self.homes = []
        self.lengths.clear()

    def remember(self, execution_id: str, key: int, length: int) -> None:
        """Remember the key and the number of events of an execution that is held."""
        lengths = self.lengths
        # Taken out and put in again it is the youngest; the oldest make room.
        lengths.pop(execution_id, None)
        lengths[execution_id] = (key, length)
        if len(lengths) > _KNOWN_LIMIT:
            del lengths[next(iter(lengths))]

"""Remember the lease, the partitions and the executions that an owner holds."""

from __future__ import annotations

from typing import Final, NoReturn

from mini_workflow.errors import LeaseLost

_KNOWN_LIMIT: Final = 65_536


class Ownership:
    """The present holdings of an owner, shared by its store, agenda and mailbox."""

    def __init__(self) -> None:
        self.lease: int | None = None
        self.partitions: list[int] = []
        self.lengths: dict[str, tuple[int, int]] = {}
        """The key and the number of events of executions that are held, by id, as far as remembered.

        They are right while the lease stands, since nobody else may append to these executions.
        """

        self.homes: list[int] = []
        """The partitions for new executions, which are used in turn."""
        self.commits = 0
        """The number of commits that the store has counted for the lease, in stores that count."""
        self.unconfirmed = False
        """Whether the last commit may have been done although it has raised."""
        self.serves = ""
        """The names of the workers that the owner serves, with spaces between them."""
        self.read = 0
        """The number of the message that was read last, in stores that read them by number."""
        self.former: int | None = None
        """The lease that was lost last."""

    def require(self) -> int:
        """Return the lease; raise LeaseLost while there is none."""
        if self.lease is None:
            raise LeaseLost("this owner holds no lease: acquire one to go on")
        return self.lease

    def lost(self) -> NoReturn:
        """Forget everything, since the lease is lost, and raise LeaseLost."""
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
        # Move it to the end; the oldest is dropped.
        lengths.pop(execution_id, None)
        lengths[execution_id] = (key, length)
        if len(lengths) > _KNOWN_LIMIT:
            del lengths[next(iter(lengths))]

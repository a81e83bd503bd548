"""What tests ask of a backend as a whole."""

from __future__ import annotations

from typing import Protocol

from mini_workflow.ports import Agenda, Leases, Mailbox, Store


class Backend(Protocol):
    """The four ports over one state, as one owner has it open."""

    @property
    def store(self) -> Store:
        """Heads and histories."""
        ...

    @property
    def agenda(self) -> Agenda:
        """What is due."""
        ...

    @property
    def mailbox(self) -> Mailbox:
        """Messages from other processes."""
        ...

    @property
    def leases(self) -> Leases:
        """Who runs what."""
        ...

    def close(self) -> None:
        """Close, without releasing anything. A second time does nothing."""
        ...

"""The queued backend in memory keeps the contracts."""

from tests.contracts.queue_cases import QueueInMemory, StoreInMemory


class TestStore(StoreInMemory): ...


class TestDispatch(QueueInMemory): ...

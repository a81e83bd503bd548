"""The queued backend in memory keeps the contracts."""

from tests.contracts.queue_cases import StoreInMemory


class TestStore(StoreInMemory): ...

"""Keep executions in memory: for tests, and for work that need not outlive the process."""

from mini_workflow.stores.memory.store import MemoryBackend, MemoryLeases, MemoryState

__all__ = ["MemoryBackend", "MemoryLeases", "MemoryState"]

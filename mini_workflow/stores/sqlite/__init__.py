"""Store executions in one SQLite file, which several processes may have open at once."""

from mini_workflow.stores.sqlite.backend import SQLiteBackend

__all__ = ["SQLiteBackend"]

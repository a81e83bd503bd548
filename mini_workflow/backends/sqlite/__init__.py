"""Executions in one SQLite file, which several processes may have open at once."""

from mini_workflow.backends.sqlite.backend import SQLiteBackend

__all__ = ["SQLiteBackend"]

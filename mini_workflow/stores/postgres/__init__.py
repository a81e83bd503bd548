"""Executions in a Postgres database, for processes on many machines."""

from mini_workflow.stores.postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]

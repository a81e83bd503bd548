"""Store executions in a Postgres database, for processes on many machines.

The import raises StoreUnavailable if the package psycopg is missing.
"""

from mini_workflow.errors import StoreUnavailable

try:
    import psycopg as psycopg
except ImportError as error:
    raise StoreUnavailable(
        f"Postgres needs the package psycopg, which cannot be imported ({error}): run "
        'pip install "mini-workflow[postgres]"'
    ) from error

from mini_workflow.stores.postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]

"""A Postgres server for the benchmarks, with the settings that keep what is committed: prints its address,
and lives until its input ends.
"""

from __future__ import annotations

import sys

from tests.postgres.server import server

SETTINGS = (
    "listen_addresses=",
    "max_connections=300",
    "shared_buffers=128MB",
    "max_wal_size=1GB",
)
"""All others are the server's own: fsync, synchronous_commit and full_page_writes are on."""


def main() -> None:
    """See the module."""
    with server(SETTINGS) as found:
        print(found.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

"""PgBouncer in transaction mode, before a server of the tests.

It comes with Debian: `make pooler` installs it. It refuses to run as root: then it runs as nobody.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.left_out import left_out
from tests.postgres.server import NOBODY, PostgresServer, start_program, wait_for_answer
from tests.waiting import WAIT

_CONFIGURATION: Final = """\
[databases]
* = host={server} user=postgres

[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
auth_type = any
pool_mode = {mode}
default_pool_size = {sessions}
max_client_conn = 500
logfile = {folder}/log
"""


class Pooler:
    """One pooler. All its clients share a few sessions of the server, a transaction at a time."""

    def __init__(
        self, program: str, server: PostgresServer, mode: str = "transaction", sessions: int = 3
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mini-workflow-pooler-"))
        configuration = self.folder / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(
                server=server.folder, folder=self.folder, mode=mode, sessions=sessions
            )
        )
        user: dict[str, Any] = {}
        if os.getuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
            user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self._command = [program, "--quiet", configuration]
        self._user = user
        self._server = server
        self.url: Final = f"postgresql://postgres@/postgres?host={self.folder}&port=6432"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = start_program(self._command, self._user)
        wait_for_answer(self.url, self._process)

    def schema(self) -> str:
        """A name that no schema has had."""
        return self._server.schema()

    def kill(self) -> None:
        """Have it die: the connections of all its clients end."""
        self._process.kill()
        self._process.wait(WAIT)

    def discard(self) -> None:
        """Stop it, and remove all that it has written."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(WAIT)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def pooler(
    server: PostgresServer, mode: str = "transaction", sessions: int = 3
) -> Iterator[Pooler]:
    """A pooler, until the block ends."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        left_out("Postgres behind PgBouncer", "pgbouncer is not here: `make pooler` installs it")
    found = Pooler(program, server, mode, sessions)
    try:
        yield found
    finally:
        found.discard()

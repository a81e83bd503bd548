"""Wakeups: wakes the processes that hold executions, by LISTEN and NOTIFY.

A wake-up has no content, and its receiver reads the database. A lost one costs time only, since every
owner also reads the database when it renews its lease. A wake-up is sent after its commit, in another
transaction: within the commit, the lock of NOTIFY would make all commits wait for each other.
"""

from __future__ import annotations

import logging
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

import psycopg

from mini_workflow.errors import StoreError
from mini_workflow.stores.postgres.arrays import texts
from mini_workflow.stores.postgres.connection import Address, Connection, Raw
from mini_workflow.stores.wakeup_socket import BURST, INTERVAL, Allowance
from mini_workflow.threads import NoThread, has_begun, join_thread, start_thread

log = logging.getLogger("mini_workflow.postgres")

_PAUSE: Final = 1.0
"""Seconds from a lost connection to the next one."""

_CHECK: Final = 30.0
"""Seconds without a wake-up after which the connection is tested."""

_LOOK: Final = 0.25
"""Seconds between two reads of the database while no wake-up can arrive."""

_UNHEARD: Final = 20
"""Reads after which a warning says that no wake-up arrives."""

CHANNEL: Final = "mini_workflow_"
"""The beginning of the names of channels; each process has one of its own."""


class Wakeups:
    """A sender of wake-ups, and a receiver at `address` after a call of `listen`.

    On a `borrowed` connection wake-ups are sent with the caller's transaction. A pooler that lends
    sessions for one transaction drops all wake-ups without an error. So behind a pooler, and without a
    `direct` address, this sends a wake-up to itself, and makes the owner read the database four times a
    second until it arrives.
    """

    def __init__(
        self,
        database: Address,
        borrowed: Connection | None = None,
        *,
        direct: Address | None = None,
    ) -> None:
        self._borrowed = borrowed
        self._heard_at = direct or database
        self.address: Final = CHANNEL + secrets.token_hex(8)
        self._database = database
        self._closed = threading.Event()
        self._listener: threading.Thread | None = None
        self._ends: tuple[socket.socket, socket.socket] | None = None
        """A pair of sockets that ends the listener: a byte sent to the second one arrives at the first."""
        self._notifier: threading.Thread | None = None
        self._to_notify: set[str] = set()
        self._condition = threading.Condition()

    def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard`, on a thread of its own, after each wake-up, and if one may have been lost."""
        self._ends = socket.socketpair()
        self._listener = threading.Thread(
            target=self._listen,
            args=(heard, self._ends[0]),
            name="mini-workflow-listener",
            daemon=True,
        )
        start_thread(self._listener)

    def notify(self, addresses: Iterable[str]) -> None:
        """Wake the owners at these addresses, without waiting. Any thread."""
        if self._borrowed is not None:
            self._borrowed.rows(_NOTIFY_WITH, (texts(sorted(set(addresses))),))
            return
        with self._condition:
            self._to_notify.update(one for one in addresses if one and one != self.address)
            if not self._to_notify or self._closed.is_set():
                return
            if not has_begun(self._notifier):
                self._notifier = threading.Thread(
                    target=self._send, name="mini-workflow-notifier", daemon=True
                )
                try:
                    start_thread(self._notifier)
                except NoThread as error:
                    log.error(
                        "others are not woken, and look by themselves a little later: %s", error
                    )
            self._condition.notify()

    def close(self) -> None:
        """Send pending wake-ups, and stop listening. Harmless if that has happened."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._ends is not None:
            self._ends[1].send(b"\0")
        with self._condition:
            self._condition.notify()
        for thread in (self._listener, self._notifier):
            join_thread(thread)
        for end in self._ends or ():
            end.close()

    def _send(self) -> None:
        connection = Connection(self._database)
        try:
            while True:
                with self._condition:
                    while not self._to_notify:
                        if self._closed.is_set():
                            return
                        self._condition.wait()
                    addresses, self._to_notify = self._to_notify, set()
                try:
                    connection.rows(_NOTIFY, (texts(sorted(addresses)),))
                except StoreError as error:
                    log.warning(
                        "wake-ups could not be sent, so that other processes go on a little later: %s",
                        error,
                    )
        finally:
            connection.close()

    def _listen(self, heard: Callable[[], None], ends: socket.socket) -> None:
        while not self._closed.is_set():
            connection = Connection(self._heard_at)
            try:
                connection.rows(f'LISTEN "{self.address}"')
                heard()  # wake-ups from before are lost
                self._hear(connection.raw, heard, ends)
            except (StoreError, psycopg.Error, OSError) as error:
                log.warning(
                    "the connection for wake-ups of other processes was lost, and is opened again: %s",
                    error,
                )
            finally:
                connection.close()
            self._closed.wait(_PAUSE)

    def _hear(self, raw: Raw, heard: Callable[[], None], ends: socket.socket) -> None:
        allowance = Allowance(BURST, INTERVAL)
        hears, looks = not self._heard_at.is_pooled, 0
        if not hears:
            notifier = Connection(self._database)
            try:
                notifier.rows(_NOTIFY, (texts([self.address]),))
            finally:
                notifier.close()
        with selectors.DefaultSelector() as selector:
            selector.register(raw.fileno(), selectors.EVENT_READ)
            selector.register(ends, selectors.EVENT_READ)
            while not self._closed.is_set():
                if not selector.select(_CHECK if hears else _LOOK):
                    if hears:
                        raw.execute("SELECT 1")
                    else:
                        heard()
                        looks += 1
                    if looks == _UNHEARD:
                        log.warning(_DEAF, self._heard_at.place)
                raw.pgconn.consume_input()
                notified = False
                while raw.pgconn.notifies() is not None:
                    notified = True
                if notified:
                    hears = True
                    heard()
                    pause = allowance.take(time.monotonic())
                    if pause:
                        self._closed.wait(pause)


_DEAF: Final = (
    "%s is a pooler that drops wake-ups of other processes, so that this process reads the database four "
    "times a second. Give the address of the server itself as direct_url=, or let the pooler keep sessions"
)

# A crash of the server may lose a wake-up, so that the transaction need not wait for the disk.
_NOTIFY: Final = """
    SELECT pg_notify(address, '') FROM unnest(%s::text[]) AS given (address),
        set_config('synchronous_commit', 'off', true)
"""
_NOTIFY_WITH: Final = "SELECT pg_notify(address, '') FROM unnest(%s::text[]) AS given (address)"

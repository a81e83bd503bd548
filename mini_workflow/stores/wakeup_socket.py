"""WakeupSocket: wakes other processes that have the same store open, over UDP on loopback.

A wake-up has no content, and its receiver reads the store. A lost one costs time only, since every
owner also reads the store when it renews its lease.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from mini_workflow.threads import join_thread, start_thread

_LOOPBACK: Final = "127.0.0.1"
_PAUSE: Final = 1.0
"""Seconds to wait after an error of the socket, so that a lasting one takes no processor time."""

BURST: Final = 20
"""Wake-ups that are received right after each other."""

INTERVAL: Final = 0.01
"""Seconds between wake-ups that are received after a burst. Any process of the machine can send them, as
often as it likes; this bounds their cost."""


class WakeupSocket:
    """A socket that receives wake-ups at `address`, and passes them on after a call of `listen`.

    Where no socket can be opened the address is empty, and no wake-up arrives.
    """

    def __init__(self) -> None:
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self.address = ""
        try:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((_LOOPBACK, 0))
            self.address = str(self._socket.getsockname()[1])
        except OSError:
            if self._socket is not None:
                self._socket.close()
            self._socket = None

    def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard`, on a thread of its own, after each wake-up, also those received before."""
        if self._socket is not None:
            self._thread = threading.Thread(
                target=self._listen,
                args=(self._socket, heard),
                name="mini-workflow-wakeup-socket",
                daemon=True,
            )
            start_thread(self._thread)

    def notify(self, addresses: Iterable[str]) -> None:
        """Wake the owners at these addresses, as far as they still listen."""
        sender = self._socket
        if sender is None:
            return
        for address in addresses:
            # An address in the store may be no port: OverflowError is for numbers that are too large.
            if address.isdecimal():
                with contextlib.suppress(OSError, OverflowError):
                    sender.sendto(b"", (_LOOPBACK, int(address)))

    def close(self) -> None:
        """Stop listening. Harmless if that has happened."""
        if self._socket is None:
            return
        self._closed.set()
        # Either of the two wakes the thread; some systems lack the first.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.notify([self.address])
        join_thread(self._thread)
        self._socket.close()
        self._socket = None

    def _listen(self, receiver: socket.socket, heard: Callable[[], None]) -> None:
        # Wake-ups that arrive meanwhile wait in the socket. A full socket drops them, and keeps
        # others, after each of which all that was written before is read.
        allowance = Allowance(BURST, INTERVAL)
        while True:
            try:
                receiver.recv(1)
            except OSError:
                self._closed.wait(_PAUSE)
            if self._closed.is_set():
                return
            heard()
            pause = allowance.take(time.monotonic())
            if pause:
                self._closed.wait(pause)


class Allowance:
    """A rate limit: `burst` at once, and one more per `interval`, in the unit of the times given."""

    def __init__(self, burst: int, interval: float) -> None:
        self._credit: Final = (burst - 1) * interval
        self._interval: Final = interval
        self._next = float("-inf")

    def take(self, now: float) -> float:
        """Count one, and return how long to wait before the next."""
        self._next = max(self._next, now) + self._interval
        return max(0.0, self._next - now - self._credit)

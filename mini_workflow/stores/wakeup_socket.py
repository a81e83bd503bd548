"""WakeupSocket: wakes other processes that have the same store open, over UDP on loopback.

A wake-up carries nothing and proves nothing: whoever receives it looks at the store. A lost one costs
time only, since every owner also looks around when it renews its lease.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

_LOOPBACK: Final = "127.0.0.1"
_PAUSE: Final = 1.0
"""Seconds to wait after an error of the socket, which might not be the last one."""

BURST: Final = 20
"""Rings that are heard one right after the other."""

INTERVAL: Final = 0.01
"""Seconds from one wake-up that is received to the next after such a burst. Anybody on the machine can
send one, as often as they like; this is what it may cost."""


class WakeupSocket:
    """Receives wake-ups at `address` from now on, and acts on them once there is somebody to `listen`.

    Where there are no sockets the address is empty: nobody can notify then.
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
        """Call `heard`, on a thread of its own, after each wake-up, also those from before."""
        if self._socket is not None:
            self._thread = threading.Thread(
                target=self._listen,
                args=(self._socket, heard),
                name="mini-workflow-wakeup-socket",
                daemon=True,
            )
            self._thread.start()

    def notify(self, addresses: Iterable[str]) -> None:
        """Wake the owners at these addresses, as far as they still listen."""
        bell = self._socket
        if bell is None:
            return
        for address in addresses:
            # What stands in the store need not be a port; OverflowError says that it is none.
            if address.isdecimal():
                with contextlib.suppress(OSError, OverflowError):
                    bell.sendto(b"", (_LOOPBACK, int(address)))

    def close(self) -> None:
        """Stop listening. Harmless if that has happened."""
        if self._socket is None:
            return
        self._closed.set()
        # Either of the two wakes the thread; not every system knows the first.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.notify([self.address])
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._socket.close()
        self._socket = None

    def _listen(self, bell: socket.socket, heard: Callable[[], None]) -> None:
        # Wake-ups meanwhile wait in the socket, or are dropped there when that is full: then
        # others are left, and whoever hears one of these sees all that was written before.
        allowance = Allowance(BURST, INTERVAL)
        while True:
            try:
                bell.recv(1)
            except OSError:
                self._closed.wait(_PAUSE)
            if self._closed.is_set():
                return
            heard()
            pause = allowance.take(time.monotonic())
            if pause:
                self._closed.wait(pause)


class Allowance:
    """So many at once, and one more per `interval` (in the unit of the times given)."""

    def __init__(self, burst: int, interval: float) -> None:
        self._credit: Final = (burst - 1) * interval
        self._interval: Final = interval
        self._next = float("-inf")

    def take(self, now: float) -> float:
        """Take one; how long to wait before the next."""
        self._next = max(self._next, now) + self._interval
        return max(0.0, self._next - now - self._credit)

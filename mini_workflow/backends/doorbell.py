"""Doorbell: wakes other processes that have the same store open, over UDP on loopback.

A ring carries nothing and proves nothing: whoever hears it looks at the store. A lost one costs
time only, since every owner also looks around when it renews its lease.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Final

_LOOPBACK: Final = "127.0.0.1"


class Doorbell:
    """Calls `heard`, on a thread of its own, whenever another process rings at `address`."""

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((_LOOPBACK, 0))
        self._closed = False
        self.address = str(self._socket.getsockname()[1])
        self._thread = threading.Thread(
            target=self._listen, name="mini-workflow-doorbell", daemon=True
        )
        self._thread.start()

    def ring(self, addresses: Iterable[str]) -> None:
        """Wake the owners at these addresses, as far as they still listen."""
        for address in addresses:
            if address.isdigit():
                with contextlib.suppress(OSError):
                    self._socket.sendto(b"", (_LOOPBACK, int(address)))

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        self.ring([self.address])
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                self._socket.recv(1)
            if self._closed:
                return
            self._heard()

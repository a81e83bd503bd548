"""Lock a file between processes, by the operating system."""

import sys
import time
from typing import IO

PAUSE = 0.1
"""Seconds between two tries, where the system cannot wait by itself."""

if sys.platform == "win32":
    import msvcrt

    def take(file: IO[bytes]) -> None:
        """Wait until no other process holds the lock on this file; it goes when the file is closed."""
        file.seek(0)
        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError:
                time.sleep(PAUSE)
            else:
                return

else:
    import fcntl

    def take(file: IO[bytes]) -> None:
        """Wait until no other process holds the lock on this file; it goes when the file is closed."""
        fcntl.flock(file, fcntl.LOCK_EX)

"""Name the process that keeps the write lock of a file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from mini_workflow.stores.process import is_stopped
from mini_workflow.stores.sqlite.connection import index_of

_LOCKS: Final = Path("/proc/locks")

_LINE: Final = re.compile(
    r"POSIX +ADVISORY +WRITE (?P<pid>\d+) (?P<device>[\da-f]+:[\da-f]+:\d+) (?P<first>\d+) (?P<last>\d+)$"
)

_WRITER_BYTE: Final = 120
"""The byte of the `-shm` file that whoever writes locks: the first one behind the two headers and the
marks of the readers, see "WAL-Index File Format" of SQLite."""


def find(path: Path) -> int | None:
    """Return the id of the process that keeps the write lock of the file, or None where nobody says so.

    Asks the kernel's table (Linux), and opens neither the file nor what is beside it: to close them again
    would drop the locks of this process.
    """
    try:
        status = Path(index_of(path)).stat()
        text = _LOCKS.read_text()
    except OSError:
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in text.splitlines():
        lock = _LINE.search(line)
        if lock is None or lock["device"] != device:
            continue
        # A process of another container has the id 0 or less here.
        if int(lock["first"]) <= _WRITER_BYTE <= int(lock["last"]) and int(lock["pid"]) > 0:
            return int(lock["pid"])
    return None


def describe(path: Path) -> str:
    """Return what a message says of the holder and of what to do, such as "by process 7, which is ..."."""
    process = find(path)
    if process is None:
        return "by another process: find the one that keeps a transaction open, and end it"
    if process == os.getpid():
        return "by this process: find the thread that keeps a transaction open, and end it"
    if is_stopped(process):
        return (
            f"by process {process}, which is stopped: continue it (kill -CONT {process}), "
            f"or end it (kill -KILL {process})"
        )
    return f"by process {process}: find out why it keeps a transaction open, or end it"

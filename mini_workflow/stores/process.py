"""Tell whether the process that wrote a row is dead, when it ran on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mini_workflow.core.records import frozen
from mini_workflow.ports.owner import Owner

_GONE = "gone"
_UNKNOWN = ""


@frozen
class Process:
    """A process among all: where it runs, its number there, and when it began.

    `host` covers everything within which process numbers mean the same: the machine, its boot and
    the namespace of a container. `born` tells a process from a later one of the same number; it is
    empty where that cannot be read.
    """

    host: str
    pid: int
    born: str

    @classmethod
    def current(cls) -> Process:
        """Return the process that asks."""
        pid = os.getpid()
        return cls(_host(), pid, _born(pid))

    def is_dead(self) -> bool:
        """Return whether the process has certainly ended. Of another machine nothing is certain."""
        # On other systems signal 0 is not a question: it would stop the process.
        if os.name != "posix" or self.host != _host():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # It exists, and is not ours.
        born = _born(self.pid)
        return born == _GONE or bool(self.born and born and born != self.born)


def dead_owners(owners: Sequence[Any], own: int | None, now: int) -> dict[int, int]:
    """Return the owners but one's own that are gone, and what each adds to the tries of the turn that it
    was in. A row has the owner, its address, until when it holds, host, pid and born.
    """
    dead: dict[int, int] = {}
    for owner, _, until, host, pid, born in owners:
        if owner != own:
            if Process(host, pid, born).is_dead():
                dead[owner] = 1
            elif until < now:
                dead[owner] = 2
    return dead


def served_by(owners: Iterable[Any], now: int) -> set[str]:
    """Return the workers that living owners serve. A row has what `dead_owners` takes, and the names of the
    workers with spaces between them.
    """
    rows = list(owners)
    dead = dead_owners([row[:6] for row in rows], None, now)
    return {name for row in rows if row[0] not in dead for name in row[6].split()}


def owners_of(rows: Iterable[Any], now: int) -> list[Owner]:
    """Return the owners of the rows of `OWNERS` that run executions: clients have no address."""
    found: list[Owner] = []
    for name, address, until, host, pid, born, held in rows:
        if address:
            alive = until >= now and not Process(host, pid, born).is_dead()
            found.append(Owner(name, host.partition(" ")[0], pid, until, held, alive))
    return sorted(found, key=lambda one: (not one.alive, one.name))


def _host() -> str:
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        pass  # Not Linux: the name of the machine has to do.
    return " ".join(parts)


def _born(pid: int) -> str:
    """Return the time of birth in ticks since boot, or what else is known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return _UNKNOWN
    # The name of the program, in parentheses, may contain anything: count from behind it.
    fields = stat[stat.rindex(b")") + 1 :].split()
    # A zombie is dead, even though its number is taken until its parent has looked.
    return _GONE if fields[0] in {b"Z", b"X"} else fields[19].decode()

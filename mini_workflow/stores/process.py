"""Find out whether the process that wrote a row is dead, if it ran on this machine."""

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
    """A process, by its host, its number there, and the time at which it began.

    `host` names the space of process numbers: the machine, its boot, and the namespace of a
    container. `born` tells a process from a later one with the same number; it is empty where the
    system does not say it.
    """

    host: str
    pid: int
    born: str

    @classmethod
    def current(cls) -> Process:
        """Return this process."""
        pid = os.getpid()
        return cls(_host(), pid, _born(pid))

    def is_dead(self) -> bool:
        """Return whether the process has certainly ended: False for one on another machine."""
        # On other systems signal 0 would stop the process.
        if os.name != "posix" or self.host != _host():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass  # It exists, and belongs to another user, or the number was damaged.
        born = _born(self.pid)
        return born == _GONE or bool(self.born and born and born != self.born)


def dead_owners(owners: Sequence[Any], own: int | None, now: int) -> dict[int, int]:
    """Return the other owners that are gone, each with the tries that it adds to the turn it was in.

    A row of `owners` has the owner, its address, the end of its lease, host, pid and born. `now` is
    in milliseconds.
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
    """Return the workers that living owners serve.

    A row has the fields that `dead_owners` takes, then the names of the workers with spaces between.
    """
    rows = list(owners)
    dead = dead_owners([row[:6] for row in rows], None, now)
    return {name for row in rows if row[0] not in dead for name in row[6].split()}


def owners_of(rows: Iterable[Any], now: int) -> list[Owner]:
    """Return the owners that run executions; those without an address are clients.

    A row has name, address, end of the lease, host, pid, born, and the number of busy executions.
    """
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
        pass  # Not Linux: the name of the machine is all there is.
    return " ".join(parts)


def elsewhere(host: str) -> bool:
    """Return whether a process with that `host` runs, or ran, on another machine, or before its last boot."""
    own, other = _host().split(" "), host.split(" ")
    return own[1:2] != other[1:2] if len(own) > 1 < len(other) else own[0] != other[0]


def is_stopped(pid: int) -> bool:
    """Return whether a process of this machine was stopped, by a signal or by a debugger."""
    return _state(pid)[:1] in ([b"T"], [b"t"])


def _born(pid: int) -> str:
    """Return the time of birth in ticks since boot, `_GONE` or `_UNKNOWN`."""
    fields = _state(pid)
    if not fields:
        return _UNKNOWN
    # A zombie is dead, although it keeps its number until its parent waits for it.
    return _GONE if fields[0] in {b"Z", b"X"} else fields[19].decode()


def _state(pid: int) -> list[bytes]:
    """Return the fields of a process from its state on; none where the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return []
    # The name of the program, in parentheses, may contain anything: count the fields behind it.
    return stat[stat.rindex(b")") + 1 :].split()

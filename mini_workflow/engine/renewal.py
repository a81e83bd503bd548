"""Renewal: keeps the lease of an engine that is busy, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from mini_workflow.errors import StoreError
from mini_workflow.ports import Clock, Leases

log = logging.getLogger("mini_workflow.engine")


class LeaseRenewal:
    """Extends the lease every `interval` seconds, unless `hangs` says that the engine will not come
    back: then the other executions are better off with another process.

    The engine renews too. This one goes on while a turn computes, a value is decoded or a commit
    waits, so that none of them costs the process what it holds.
    """

    def __init__(
        self, leases: Leases, clock: Clock, *, interval: float, hangs: Callable[[], str | None]
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._interval: Final = interval
        self._hangs = hangs
        self._ended = threading.Event()
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="mini-workflow-lease", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for that. May be repeated."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self.extend()

    def extend(self) -> None:
        """Extend the lease now, unless the engine hangs."""
        name = self._hangs()
        if name is not None:
            if not self._given_up:
                self._given_up = True
                log.critical(
                    "[%s] keeps the engine busy, and cannot be interrupted: the lease is no longer "
                    "renewed, so that another process can take over the other executions. Terminate "
                    "the execution and restart this process",
                    name,
                    extra={"execution_id": name},
                )
            return
        self._given_up = False
        try:
            self._leases.extend(self._clock.now())
        except StoreError as error:
            log.warning("the lease could not be extended: %s", error)
        except Exception:
            # The thread has to outlive whatever one attempt meets.
            log.exception("the lease could not be extended")

"""Many functions at the same time, on virtual time.

    with World(registry) as world:
        world.client.start_execution("flow", id="a")
        Fleet(world, concurrency=1_000, seconds=0.2).run()

Every invocation of the worker has a thread of its own, and one of them runs at a time: whoever
sleeps lets the one go on whose time comes first. So a thousand workers fill a queue as they would,
in a few seconds, and always in the same order.
"""

from __future__ import annotations

import threading
from heapq import heappop, heappush
from itertools import count
from typing import Any

from tests.aws.cloud import Context
from tests.aws.world import LAMBDA, World
from tests.waiting import WAIT

TURN = 30
"""Milliseconds that the orchestrator takes for a batch."""


class Fleet:
    """`concurrency` workers at most, whose tasks take `seconds`; one orchestrator, as the world has one
    group that matters. `most` is how many workers there were at a time.
    """

    def __init__(self, world: World, concurrency: int, seconds: float) -> None:
        self.world = world
        self.most = 0
        self._concurrency = concurrency
        self._task = round(seconds * 1000)
        self._running = 0
        self._due: list[tuple[int, int, Any]] = []
        self._order = count()
        self._baton = threading.Semaphore(0)
        self._ready = world.clock.now()
        world.worker._parts.sleep = self._sleep
        self._failures: list[BaseException] = []

    def run(self) -> None:
        """Go on until nothing moves any more."""
        world = self.world
        while True:
            while world.services.invoked and self._running < self._concurrency:
                self._running += 1
                self.most = max(self.most, self._running)
                event = world.services.invoked.pop(0)
                self._at(world.clock.now() + self._task, self._started(event))
            if world.services.queue and self._ready <= world.clock.now():
                world.deliver()
                self._ready = world.clock.now() + TURN
                continue
            times = [self._due[0][0]] if self._due else []
            if world.services.queue:
                times.append(self._ready)
            if not times:
                if not world.services.notify():
                    break
                continue
            world.clock.set(max(world.clock.now(), min(times)))
            world.services.pass_on()
            while self._due and self._due[0][0] <= world.clock.now():
                heappop(self._due)[2].release()
                assert self._baton.acquire(timeout=WAIT)
            if self._failures:
                raise self._failures[0]

    def _at(self, time: int, whom: threading.Semaphore) -> None:
        heappush(self._due, (time, next(self._order), whom))

    def _started(self, event: dict[str, Any]) -> threading.Semaphore:
        """A worker that begins when it is let."""
        turn = threading.Semaphore(0)
        threading.Thread(target=self._work, args=(event, turn), daemon=True).start()
        return turn

    def _work(self, event: dict[str, Any], turn: threading.Semaphore) -> None:
        turn.acquire()
        world = self.world
        try:
            world.worker.execute(event, Context(LAMBDA, world.clock))
        except Exception as error:
            world.lose(event, error)
        except BaseException as error:
            self._failures.append(error)
        finally:
            self._running -= 1
            self._baton.release()

    def _sleep(self, seconds: float) -> None:
        turn = threading.Semaphore(0)
        self._at(self.world.clock.now() + round(seconds * 1000), turn)
        self._baton.release()
        turn.acquire()

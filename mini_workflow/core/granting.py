"""Grant slots of a limit to the runs that wait for them.

The work for a message or a slot does not grow with the number of waiting runs.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Any, Final

from mini_workflow.core.limit import Plan

REMEMBERED: Final = 1_000
"""The number of ended runs that are remembered, so that their late messages have no effect. Our own bound."""

FINEST: Final = 100
"""The number of parts into which the span of a rate is divided. A slot counts for up to one part longer."""

Granted = dict[str, list[list[Any]]]
"""The grants of one turn: for each run a list of [key, priority, number of slots granted in all]."""


class _Line:
    """The slots of a run at one place: the number `wanted` more, `granted` in all, and `held` (granted and
    not given back, as far as is known).
    """

    __slots__ = ("granted", "held", "key", "priority", "wanted")

    def __init__(self, key: str, priority: int, granted: int) -> None:
        self.key = key
        self.priority = priority
        self.granted = granted
        self.held = 0
        self.wanted = 0


class _Asker:
    """A run, with the id of its execution. `at` is the length of its history at its last report."""

    __slots__ = ("at", "execution_id", "lines")

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.at = 0
        self.lines: dict[tuple[str, int], _Line] = {}


class _Pool:
    """Slots that are counted together: those of one key, or of all keys."""

    __slots__ = ("due", "held", "queues", "recent", "within")

    def __init__(self) -> None:
        self.held = 0
        self.due = 0
        """The time at which the rate may allow more slots (milliseconds since the epoch); 0 for none."""
        self.recent: deque[list[int]] = deque()
        """The slots that count for the rate, in order: [time at which they stop to count, number]."""
        self.within = 0
        """The number of those slots."""
        self.queues: dict[int, OrderedDict[str, OrderedDict[str, _Line]]] = {}
        """The waiting lines by priority, key and run. The next one stands first."""

    def wait(self, run: str, line: _Line) -> None:
        keys = self.queues.setdefault(line.priority, OrderedDict())
        keys.setdefault(line.key, OrderedDict()).setdefault(run, line)

    def leave(self, run: str, line: _Line) -> None:
        keys = self.queues.get(line.priority)
        runs = None if keys is None else keys.get(line.key)
        if keys is None or runs is None or runs.pop(run, None) is None or runs:
            return
        del keys[line.key]
        if not keys:
            del self.queues[line.priority]

    def next(self) -> tuple[str, _Line]:
        """Give a slot to the run whose turn it is, and move its key and the run to the end."""
        keys = self.queues[max(self.queues)]
        key, runs = next(iter(keys.items()))
        run, line = next(iter(runs.items()))
        keys.move_to_end(key)
        runs.move_to_end(run)
        line.wanted -= 1
        line.granted += 1
        line.held += 1
        self.held += 1
        if not line.wanted:
            self.leave(run, line)
        return run, line


class Granting:
    """The state of a limit."""

    def __init__(self) -> None:
        self.plan: Plan = {}
        self.declared: Plan = {}
        """The plan that the code declared last. Another one may be in force since."""
        self._askers: dict[str, _Asker] = {}
        self._pools: dict[str, _Pool] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._touched: dict[str, None] = {}
        """The pools that may have slots to grant."""
        self._due: list[tuple[int, str]] = []
        """The times at which the rate of a pool may allow more slots, with its name."""
        self._lost: dict[str, None] = {}
        """The runs that have not received their last grant."""
        self._size = 0

    def __len__(self) -> int:
        """Return the size of the state: the number of runs, and of places where they want or hold slots."""
        return self._size

    # Reports and changes

    def declare(self, plan: Plan | None) -> None:
        """Take the plan that the code declares. It comes into force if it differs from the last one."""
        if plan is not None and plan != self.declared:
            self.declared = plan
            self.change(plan)

    def change(self, plan: Plan) -> None:
        """Put a plan into force. Slots that are held stay held."""
        anew = plan.get("per_key") != self.plan.get("per_key")
        self.plan = plan
        if anew:
            self._pool_again()
        self._touched = dict.fromkeys(self._pools)

    def take_report(self, message: dict[str, Any]) -> None:
        """Take the report of a run about the slots that it holds and wants, or about its end."""
        run = message["as"]
        if "lines" not in message:
            self._left(run)
            return
        self.declare(message.get("plan"))
        if run in self._gone:
            return
        asker = self._askers.get(run)
        if asker is None:
            asker = self._askers[run] = _Asker(message["from"])
            self._size += 1
        elif message["at"] < asker.at:
            return
        again, asker.at = message["at"] == asker.at, message["at"]
        for key, priority, wants, knows, holds in message["lines"]:
            self._take_line(run, asker, (key, priority), (wants, knows, holds), again=again)

    def _take_line(
        self,
        run: str,
        asker: _Asker,
        place: tuple[str, int],
        numbers: tuple[int, int, int],
        *,
        again: bool,
    ) -> None:
        wants, knows, holds = numbers
        line = asker.lines.get(place)
        if line is None:
            line = asker.lines[place] = _Line(*place, knows)
            self._size += 1
        line.granted = max(line.granted, knows)
        coming = line.granted - knows  # granted, and not received by the run yet
        if again and coming:
            self._lost[run] = None
        pool = self._pool(line.key)
        pool.held += holds + coming - line.held
        line.held = holds + coming
        line.wanted = max(0, wants - coming)
        if line.wanted:
            pool.wait(run, line)
        else:
            pool.leave(run, line)
            if not line.held:
                del asker.lines[place]
                self._size -= 1
        self._touched[self._pool_of(line.key)] = None

    def _left(self, run: str) -> None:
        asker = self._askers.pop(run, None)
        self._size -= 0 if asker is None else 1 + len(asker.lines)
        for line in () if asker is None else asker.lines.values():
            pool = self._pool(line.key)
            pool.held -= line.held
            pool.leave(run, line)
            self._touched[self._pool_of(line.key)] = None
        self._lost.pop(run, None)
        self._gone[run] = None
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)

    def _pool_of(self, key: str) -> str:
        return key if self.plan.get("per_key") else ""

    def _pool(self, key: str) -> _Pool:
        name = self._pool_of(key)
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = _Pool()
        return pool

    def _pool_again(self) -> None:
        """Build the pools again after a change of `per_key`. Slots granted before count for no rate."""
        self._pools, self._due = {}, []
        for run, asker in self._askers.items():
            for line in asker.lines.values():
                pool = self._pool(line.key)
                pool.held += line.held
                if line.wanted:
                    pool.wait(run, line)

    # Grants

    def execution_of(self, run: str) -> str:
        """Return the id of the execution of a run that has not ended."""
        return self._askers[run].execution_id

    def grant(self, now: int) -> Granted:
        """Grant the free slots at the time `now` (milliseconds since the epoch), and return the grants."""
        while self._due and self._due[0][0] <= now:
            self._touched[heappop(self._due)[1]] = None
        touched, self._touched = self._touched, {}
        if not self.plan:
            return {}
        given: dict[str, dict[tuple[str, int], _Line]] = {}
        for name in touched:
            pool = self._pools.get(name)
            if pool is None:
                continue
            while pool.queues and self._room(name, pool, now):
                run, line = pool.next()
                given.setdefault(run, {})[line.key, line.priority] = line
            if not (pool.held or pool.queues or pool.recent):
                del self._pools[name]
        lost, self._lost = self._lost, {}
        for run in lost:
            if run in self._askers:
                given.setdefault(run, {}).update(self._askers[run].lines)
        return {
            run: [[line.key, line.priority, line.granted] for line in lines.values()]
            for run, lines in given.items()
        }

    def due(self) -> int | None:
        """Return the time at which a rate allows more slots (milliseconds since the epoch); None for none."""
        return self._due[0][0] if self._due else None

    def _room(self, name: str, pool: _Pool, now: int) -> bool:
        """Return whether a pool has one more slot now. If so, count it for the rate."""
        concurrency, rate = self.plan.get("concurrency"), self.plan.get("rate")
        if concurrency is not None and pool.held >= concurrency:
            return False
        while pool.recent and pool.recent[0][0] <= now:
            pool.within -= pool.recent.popleft()[1]
        if rate is None:
            return True
        most, span = rate
        if pool.within >= most:
            if pool.due != pool.recent[0][0]:
                pool.due = pool.recent[0][0]
                heappush(self._due, (pool.due, name))
            return False
        part = max(1, span // FINEST)
        ends = -(-(now + span) // part) * part
        if pool.recent and pool.recent[-1][0] >= ends:
            pool.recent[-1][1] += 1
        else:
            pool.recent.append([ends, 1])
        pool.within += 1
        return True

    # Descriptions

    def to_plain(self, now: int) -> dict[str, Any]:
        """Return the state as plain JSON, without the slots that count for no rate any more."""
        return {
            "plan": self.plan,
            "declared": self.declared,
            "runs": {
                run: [asker.execution_id, asker.at, list(map(_plain, asker.lines.values()))]
                for run, asker in self._askers.items()
            },
            "recent": {
                name: [list(pair) for pair in pool.recent]
                for name, pool in self._pools.items()
                if pool.recent and pool.recent[-1][0] > now
            },
            "queues": [list(entry) for entry in self._queued()],
            "gone": list(self._gone),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Granting:
        """Return the state that `to_plain` described."""
        granting = cls()
        granting.plan, granting.declared = plain["plan"], plain["declared"]
        granting._gone = OrderedDict.fromkeys(plain["gone"])
        for run, (execution_id, at, lines) in plain["runs"].items():
            asker = granting._askers[run] = _Asker(execution_id)
            asker.at = at
            for key, priority, granted, held, wanted in lines:
                line = asker.lines[key, priority] = _Line(key, priority, granted)
                line.held, line.wanted = held, wanted
                granting._pool(key).held += held
        for priority, key, runs in plain["queues"]:
            for run in runs:
                granting._pool(key).wait(run, granting._askers[run].lines[key, priority])
        for name, recent in plain["recent"].items():
            pool = granting._pools.setdefault(name, _Pool())
            pool.recent = deque(recent)
            pool.within = sum(count for _, count in recent)
        granting._touched = dict.fromkeys(granting._pools)
        granting._size = sum(1 + len(asker.lines) for asker in granting._askers.values())
        return granting

    def _queued(self) -> Iterator[tuple[int, str, list[str]]]:
        for pool in self._pools.values():
            for priority, keys in pool.queues.items():
                for key, runs in keys.items():
                    yield priority, key, list(runs)

    def totals(self) -> tuple[int, int]:
        """Return the numbers of the slots that are held and that are wanted."""
        lines = list(self._lines())
        return sum(line.held for _, line in lines), sum(line.wanted for _, line in lines)

    def described(self, most: int) -> dict[str, Any]:
        """Return a description as plain JSON, with at most `most` keys and `most` holders."""
        keys: dict[str, list[int]] = {}
        holders: list[list[Any]] = []
        for asker, line in self._lines():
            counts = keys.setdefault(line.key, [0, 0])
            counts[0] += line.held
            counts[1] += line.wanted
            if line.held and len(holders) < most:
                holders.append([asker.execution_id, line.key, line.held])
        held, waiting = self.totals()
        busiest = sorted(keys.items(), key=lambda entry: (-entry[1][1], -entry[1][0], entry[0]))
        return {
            "plan": self.plan,
            "held": held,
            "waiting": waiting,
            "keys": [[key, *counts] for key, counts in busiest[:most]],
            "holders": holders,
        }

    def _lines(self) -> Iterable[tuple[_Asker, _Line]]:
        for asker in self._askers.values():
            for line in asker.lines.values():
                yield asker, line


def _plain(line: _Line) -> list[Any]:
    return [line.key, line.priority, line.granted, line.held, line.wanted]

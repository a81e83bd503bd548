"""Grant slots of a limit to the runs that wait for them.

The work for a message, or for a slot, does not grow with how many wait.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Any, Final

from mini_workflow.core.limit import Plan

REMEMBERED: Final = 1_000
"""How many runs that have left are remembered, so that a late message of theirs counts no more. Our own
bound."""

FINEST: Final = 100
"""Into so many parts the span of a rate is divided: a slot counts for up to one part longer."""

Granted = dict[str, list[list[Any]]]
"""What is granted at once: for each run, the key, the priority and how many in all, of each place."""


class _Line:
    """The wants of a run at one place: how many slots more, how many it was granted in all, how many of
    those it has not given back, as far as is known.
    """

    __slots__ = ("granted", "held", "key", "priority", "wanted")

    def __init__(self, key: str, priority: int, granted: int) -> None:
        self.key = key
        self.priority = priority
        self.granted = granted
        self.held = 0
        self.wanted = 0


class _Asker:
    """A run, by the id of its execution; `at` is how far it had got when it last told how it stands."""

    __slots__ = ("at", "execution_id", "lines")

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.at = 0
        self.lines: dict[tuple[str, int], _Line] = {}


class _Pool:
    """Slots that are counted together: those of a key, or of all."""

    __slots__ = ("due", "held", "queues", "recent", "within")

    def __init__(self) -> None:
        self.held = 0
        self.due = 0
        """When it is looked at again because of the rate; 0 for never."""
        self.recent: deque[list[int]] = deque()
        """When slots count no more for the rate, and how many, in order."""
        self.within = 0
        """How many there are of those."""
        self.queues: dict[int, OrderedDict[str, OrderedDict[str, _Line]]] = {}
        """Those that wait, by priority, key and run. Whose turn it is comes first."""

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
        """Take one slot for whose turn it is; the key and the run come last then."""
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
        """What the code said last that uses it. Another plan may be in force since."""
        self._askers: dict[str, _Asker] = {}
        self._pools: dict[str, _Pool] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._touched: dict[str, None] = {}
        """The pools of which something may be granted."""
        self._due: list[tuple[int, str]] = []
        """When the rate of a pool may allow more."""
        self._lost: dict[str, None] = {}
        """The runs that have not heard of what they were granted."""
        self._size = 0

    def __len__(self) -> int:
        """Return how much it has to remember: runs, and places where they want or hold slots."""
        return self._size

    # What is told

    def declare(self, plan: Plan | None) -> None:
        """Note what the code says: it counts if it has changed."""
        if plan is not None and plan != self.declared:
            self.declared = plan
            self.change(plan)

    def change(self, plan: Plan) -> None:
        """Allow something else from now on. What is held is held."""
        anew = plan.get("per_key") != self.plan.get("per_key")
        self.plan = plan
        if anew:
            self._pool_again()
        self._touched = dict.fromkeys(self._pools)

    def told(self, message: dict[str, Any]) -> None:
        """Take how a run stands, or that it has left."""
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
            self._stands(run, asker, (key, priority), (wants, knows, holds), again=again)

    def _stands(
        self,
        run: str,
        asker: _Asker,
        place: tuple[str, int],
        stands: tuple[int, int, int],
        *,
        again: bool,
    ) -> None:
        wants, knows, holds = stands
        line = asker.lines.get(place)
        if line is None:
            line = asker.lines[place] = _Line(*place, knows)
            self._size += 1
        line.granted = max(line.granted, knows)
        coming = line.granted - knows  # the run has not heard of them yet
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
        """Count anew what is held and wanted together. Slots given before count for no rate."""
        self._pools, self._due = {}, []
        for run, asker in self._askers.items():
            for line in asker.lines.values():
                pool = self._pool(line.key)
                pool.held += line.held
                if line.wanted:
                    pool.wait(run, line)

    # What is granted

    def execution_of(self, run: str) -> str:
        """Return the id of the execution of a run that has not left."""
        return self._askers[run].execution_id

    def grant(self, now: int) -> Granted:
        """Grant what there is (now: milliseconds since the epoch)."""
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
        """Return when a rate allows more (milliseconds since the epoch), None if none is waited for."""
        return self._due[0][0] if self._due else None

    def _room(self, name: str, pool: _Pool, now: int) -> bool:
        """Return whether a pool has one more slot now; it counts for the rate."""
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

    # What is seen

    def to_plain(self, now: int) -> dict[str, Any]:
        """Return all of it, as JSON holds it, but for what does not count any more."""
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
        made = cls()
        made.plan, made.declared = plain["plan"], plain["declared"]
        made._gone = OrderedDict.fromkeys(plain["gone"])
        for run, (execution_id, at, lines) in plain["runs"].items():
            asker = made._askers[run] = _Asker(execution_id)
            asker.at = at
            for key, priority, granted, held, wanted in lines:
                line = asker.lines[key, priority] = _Line(key, priority, granted)
                line.held, line.wanted = held, wanted
                made._pool(key).held += held
        for priority, key, runs in plain["queues"]:
            for run in runs:
                made._pool(key).wait(run, made._askers[run].lines[key, priority])
        for name, recent in plain["recent"].items():
            pool = made._pools.setdefault(name, _Pool())
            pool.recent = deque(recent)
            pool.within = sum(count for _, count in recent)
        made._touched = dict.fromkeys(made._pools)
        made._size = sum(1 + len(asker.lines) for asker in made._askers.values())
        return made

    def _queued(self) -> Iterator[tuple[int, str, list[str]]]:
        for pool in self._pools.values():
            for priority, keys in pool.queues.items():
                for key, runs in keys.items():
                    yield priority, key, list(runs)

    def totals(self) -> tuple[int, int]:
        """Return how many slots are held, and how many are waited for."""
        lines = list(self._lines())
        return sum(line.held for _, line in lines), sum(line.wanted for _, line in lines)

    def described(self, most: int) -> dict[str, Any]:
        """Return what there is to see, with at most so many keys and holders."""
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

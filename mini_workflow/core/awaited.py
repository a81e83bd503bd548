"""Describe the awaits of a run at the end of a turn, as a store keeps them with the head.

The module only reads coroutines and futures; nothing is recorded. It costs next to nothing for code that
awaits one task after another, which the history shows anyway.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import islice
from json.encoder import encode_basestring_ascii
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, cast

from mini_workflow.core.records import defaults_of, record, replace
from mini_workflow.core.tasks import TaskFuture
from mini_workflow.core.timing import BEGIN, DEADLINE
from mini_workflow.loop.source_line import waiting_line

if TYPE_CHECKING:
    from mini_workflow.core.run import Run

DEEPEST: Final = 50
"""The number of futures, each awaiting the next, that are followed. Our own bound."""

WIDEST: Final = 100
"""The number of futures awaited together that are examined. Our own bound."""

SHOWN: Final = 3
"""The number of further futures awaited together that are described."""

LONGEST: Final = 200
"""Characters that are kept of a name. Our own bound."""

_ALONE: Final = (1, 0)
"""The shape of one future alone that does not wait for a slot: see `_shape`."""

_TASK: Final = '{"kind":"task"'
_ALSO: Final = ',"also":['

_dump = json.JSONEncoder(separators=(",", ":")).encode
_quote: Final[Callable[[str], str]] = encode_basestring_ascii
_quoted: Final = lru_cache(256)(encode_basestring_ascii)
"""`_quote` with a cache, for texts that are often repeated."""


@record
class Awaited:
    """An operation that code awaits: its `kind`, its `name` and number if it has them, and the time `since`
    which the code awaits it. All times are milliseconds since the epoch.

    `until` is the time at which a timer fires, `deadline` the time at which the code gives up, `line` the
    user's line as ``file:line in function``. `also` are other operations that are awaited together with
    it, as pairs of kind and name. If more are awaited than `also` names, `kinds` are pairs of a kind and
    the number of all operations of that kind, in the order of their description. At most WIDEST operations
    are counted.
    """

    kind: str
    name: str = ""
    seq: int = 0
    since: int = 0
    until: int | None = None
    deadline: int | None = None
    line: str = ""
    also: tuple[tuple[str, str], ...] = ()
    kinds: tuple[tuple[str, int], ...] = ()

    def to_text(self) -> str:
        """Return the JSON text, which `from_text` reads."""
        text = f'{{"kind":{_quote(self.kind)}'
        for name, defaults in _FIELDS:
            value = getattr(self, name)
            if value not in defaults:
                scalar = _quote(value) if type(value) is str else value
                text += f',"{name}":{_dump(value) if type(value) is tuple else scalar}'
        return text + "}"

    @classmethod
    def from_text(cls, text: str) -> Awaited | None:
        """Return the await that a text describes; None if the text is empty or not readable."""
        try:
            plain = json.loads(text)
            plain["also"] = tuple((str(kind), str(name)) for kind, name in plain.get("also", ()))
            plain["kinds"] = tuple((str(kind), int(n)) for kind, n in plain.get("kinds", ()))
            found = cls(**{k: v for k, v in plain.items() if k in _DEFAULTS})
        except (ValueError, TypeError, AttributeError):
            return None
        return found if all(type(getattr(found, k)) in t for k, t in _TYPES.items()) else None

    def same(self, other: Awaited | None) -> bool:
        """Return whether both are the same operation, awaited at the same place."""
        return other is not None and _place(self) == _place(other)


_NUMBER: Final = (int,)
_TIME: Final = (int, type(None))
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "kind": (str,),
    "name": (str,),
    "seq": _NUMBER,
    "since": _NUMBER,
    "until": _TIME,
    "deadline": _TIME,
    "line": (str,),
}
_DEFAULTS: Final[dict[str, tuple[Any, ...]]] = {
    **dict.fromkeys(_TYPES, ("", 0, None)),
    "also": ((),),
    "kinds": ((),),
}
"""The values of the fields that are not written."""

_FIELDS: Final = tuple((n, _DEFAULTS[n]) for n in defaults_of(Awaited) if n != "kind")


def _place(awaited: Awaited) -> tuple[Any, ...]:
    return awaited.kind, awaited.name, awaited.seq, awaited.line


@lru_cache(256)
def is_of_task(text: str) -> bool:
    """Return whether a text says only that a task is awaited, as the history does too. Cached, since the
    question comes at every step.
    """
    return not text or (text.startswith(_TASK) and _ALSO not in text)


def waits_of(run: Run) -> str:
    """Return a text that describes what the code of a run awaits; empty if it awaits nothing."""
    waiter = run.waiter()
    known = run.awaited
    if type(waiter) is TaskFuture and run.main is not None and not run.state.timers:
        # A short way for the most frequent case.
        if known is not None and known[0] is waiter and known[1] == _ALONE:
            return known[2]
        name, seq, at = waiter.name, waiter.seq, run.state.now
        # The outermost coroutine is one of the run, which is no code of the user.
        line = waiting_line(getattr(run.main.get_coro(), "cr_await", None))
        if name and seq and at and line:
            text = _task_text(name, line, seq, at)
            run.awaited = (waiter, _ALONE, text)
            return text
    leaves = _leaves(run, run.main) if waiter is not None else []
    first, shape = leaves[0].future if leaves else None, _shape(leaves)
    since = None
    if known is not None and known[0] is first:
        if known[1] == shape:
            return known[2]
        # The same operation, as long as it is the first, was awaited before.
        before = Awaited.from_text(known[2])
        since = None if before is None else before.since
    text = _text(run, leaves, since)
    run.awaited = (first, shape, text)
    return text


def _shape(leaves: list[_Leaf]) -> tuple[int, int]:
    """Return the number of the futures, and of those among them that wait for a slot."""
    slots = sum(leaf.subject is not None and leaf.subject[0] == "slot" for leaf in leaves)
    return len(leaves), slots


def _task_text(name: str, line: str, seq: int, at: int) -> str:
    """Return the same text as `Awaited.to_text` for a task with that line."""
    named, placed = _quoted(name[:LONGEST]), _quoted(line)
    return f'{_TASK},"name":{named},"seq":{seq},"since":{at},"line":{placed}}}'


def recall(run: Run, text: str) -> None:
    """Give a replayed run the description `text` from before, which has the begin of its wait."""
    if not text:
        return
    leaves = _leaves(run, run.main) if run.waiter() is not None else []
    before = Awaited.from_text(text)
    now = Awaited.from_text(_text(run, leaves))
    if now is not None and now.same(before):
        run.awaited = (leaves[0].future if leaves else None, _shape(leaves), text)


class _Leaf:
    """A future that awaits no other one, with its operation and the asyncio tasks which await it."""

    __slots__ = ("future", "subject", "tasks")

    def __init__(
        self,
        future: Any,
        subject: tuple[str, str, int] | None,
        tasks: tuple[asyncio.Task[Any], ...],
    ) -> None:
        self.future = future
        self.subject = subject
        self.tasks = tasks


def _text(run: Run, leaves: list[_Leaf], since: int | None = None) -> str:
    state = run.state
    if not leaves:
        begins, slot = state.timers.get(BEGIN), state.own_slot
        if run.main is None and begins is not None:
            return Awaited("start", until=begins, since=state.now).to_text()
        if run.main is None and slot is not None and slot.waits:
            return Awaited("queue", slot.limit["name"], since=state.now).to_text()
        return ""
    leaf = leaves[0]
    kind, name, seq = leaf.subject or ("", "", 0)
    found = Awaited(
        kind,
        name[:LONGEST],
        seq,
        state.now if since is None else since,
        until=state.timers.get(seq) if kind == "timer" else None,
        deadline=_deadline(run, leaf.tasks),
        line=_line(leaf.tasks),
    )
    if len(leaves) > 1:
        others = (other.subject or ("", "", 0) for other in leaves[1 : 1 + SHOWN])
        also = tuple((kind, name[:LONGEST]) for kind, name, _ in others)
        found = replace(found, also=also)
    if len(leaves) > 1 + SHOWN:
        kinds = Counter("" if leaf.subject is None else leaf.subject[0] for leaf in leaves)
        found = replace(found, kinds=tuple(kinds.items()))
    return found.to_text()


def _line(tasks: Sequence[asyncio.Task[Any]]) -> str:
    """Return the line where the innermost task waits that waits in the user's code."""
    for task in reversed(tasks):
        if line := waiting_line(task.get_coro()):
            return line
    return ""


_RANKS: Final = {
    kind: rank
    for rank, kind in enumerate(
        ("task", "slot", "map", "signal", "promise", "child", "condition", "timer")
    )
}
"""The order in which several operations are described. Kinds that are missing come behind the first three."""


def _rank(leaf: _Leaf) -> float:
    return len(_RANKS) if leaf.subject is None else _RANKS.get(leaf.subject[0], 2.5)


def _leaves(run: Run, main: asyncio.Task[Any] | None) -> list[_Leaf]:
    """Return the futures that a task awaits in the end, in the order of their description."""
    found: list[_Leaf] = []
    if main is not None:
        _follow(run, main, (), found, 0)
        found.sort(key=_rank)
    return found


def _follow(
    run: Run,
    future: Any,
    tasks: tuple[asyncio.Task[Any], ...],
    found: list[_Leaf],
    depth: int,
) -> None:
    if len(found) >= WIDEST or depth >= DEEPEST:
        return
    before = tasks
    if isinstance(future, asyncio.Task):
        task = cast("asyncio.Task[Any]", future)
        tasks = (*tasks, task)
        future = getattr(task, "_fut_waiter", None)
        if future is None:
            return
    elif future.done():
        return
    subject = _subject(run, future)
    members: Iterable[Any] = ()
    if subject is None:
        # The frames of a task name the futures that the task itself awaits, and no others.
        members = _members(future, None if tasks is before else tasks[-1])
    if not members:
        if isinstance(future, asyncio.Task):
            _follow(run, future, tasks, found, depth + 1)
        else:
            found.append(_Leaf(future, subject, tasks))
        return
    for member in islice(members, WIDEST):
        if not member.done():
            _follow(run, member, tasks, found, depth + 1)


def _subject(run: Run, future: Any) -> tuple[str, str, int] | None:
    """Return kind, name and number of the operation that a future is of; None if it is of none."""
    subject_of_future = getattr(future, "subject", None)
    if subject_of_future is not None and (subject := subject_of_future()) is not None:
        found: tuple[str, str, int] = subject
        if (
            found[0] == "task"
            and (task := run.state.tasks.get(found[2])) is not None
            and task.waits
        ):
            return "slot", found[1], found[2]
        return found
    queues: dict[str, Any] = getattr(run.messages, "_queues")  # noqa: B009 - only looked at
    for name, queue in queues.items():
        if future in getattr(queue, "_getters", ()):
            return "signal", name, 0
    return None


def _members(future: Any, task: asyncio.Task[Any] | None) -> Iterable[Any]:
    """Return the futures that a future of `gather`, `wait`, `wait_for` or a task group stands for."""
    children = getattr(future, "_children", None)  # gather
    if children is not None:
        return children
    coroutine: Any = None if task is None else task.get_coro()
    found: Iterable[Any] = ()
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        look = None if frame is None else _WAITERS.get(frame.f_code)
        if look is not None and frame is not None:
            found = look(frame.f_locals)
        coroutine = getattr(coroutine, "cr_await", None)
    return found


def _code(function: Any) -> CodeType:
    code: CodeType = function.__code__
    return code


def _of_group(variables: dict[str, Any]) -> Iterable[Any]:
    return variables["self"]._tasks


def _of_wait(variables: dict[str, Any]) -> Iterable[Any]:
    return variables.get("fs") or ()


def _of_wait_for(variables: dict[str, Any]) -> Iterable[Any]:
    future: asyncio.Future[Any] | None = variables.get("fut")
    return () if future is None else (future,)


_WAITERS: Final[dict[CodeType, Callable[[dict[str, Any]], Iterable[Any]]]] = {
    _code(asyncio.TaskGroup.__aexit__): _of_group,
    _code(getattr(asyncio.TaskGroup, "_aexit", asyncio.TaskGroup.__aexit__)): _of_group,
    _code(getattr(asyncio.tasks, "_wait")): _of_wait,  # noqa: B009 - it has no public name
    _code(asyncio.wait_for): _of_wait_for,
}
"""For coroutines of asyncio that wait on a future of their own: how their variables name the real futures."""


def _deadline(run: Run, tasks: tuple[asyncio.Task[Any], ...]) -> int | None:
    """Return the earliest end of the timeouts around the awaits, the execution's own among them."""
    timers = run.state.timers
    if not timers:
        return None
    found = [timers[DEADLINE]] if DEADLINE in timers else []
    waiters = [getattr(task, "_fut_waiter", None) for task in tasks]
    for handle in islice(run.timers.handles(), WIDEST):
        owner = getattr(handle.callback, "__self__", None)
        # Before Python 3.12 wait_for() has no Timeout, but a callback with its future as argument.
        if (isinstance(owner, asyncio.Timeout) and getattr(owner, "_task", None) in tasks) or (
            handle.args and any(handle.args[0] is waiter for waiter in waiters)
        ):
            found.append(timers.get(handle.seq, 0))
    return min(found, default=None)

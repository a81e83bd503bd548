"""Put the work and the waits of an execution into words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from mini_workflow.core.awaited import WIDEST
from mini_workflow.engine.activity import Activity, Progress, Wait
from mini_workflow.engine.instants import duration
from mini_workflow.errors import ExecutionPaused
from mini_workflow.printable import printable

SHOWN: Final = 3
"""The number of other waits that are named behind the first."""

LONGEST: Final = 60
"""Characters of the details of a heartbeat that are shown."""


def sentence_of(
    status: str,
    activity: Activity,
    now: datetime,
    started_at: datetime,
    closed_at: datetime | None = None,
    blocked_kind: str | None = None,
    blocked_reason: str | None = None,
    *,
    busy: bool = False,
    unserved: Sequence[str] = (),
    error: str = "",
) -> str:
    """Return the work and the waits of an execution `now`, as one or more sentences in one line."""
    if closed_at is not None:
        ended = f"{status.capitalize()} after {duration(closed_at - started_at)}"
        return _printable(f"{ended}: {error}" if error else f"{ended}.")
    if status == "blocked":
        return _printable(_blocked(blocked_kind, blocked_reason or ""))
    waits = activity.waits
    if activity.cancelling is not None:
        asked = f"Was asked to cancel {_age(activity.cancelling, now)} ago"
        asked += f" by {activity.by}" if activity.by else ""
        asked += f": {activity.reason}." if activity.reason else "."
        does = _clause(waits[0], activity, now) if waits else ""
        return _printable(f"{asked} Cleans up: {does}." if does else asked)
    if activity.undoing and waits:
        names = _listed([one.name.removeprefix("undo ") for one in waits if one.kind in _TASKS])
        return _printable(f"Undoes what it did: {names}.")
    if not waits:
        return "Runs a task." if busy else "Runs."
    numbers, told = dict(activity.kinds), 1
    if waits[0].worker in unserved and waits[0].worker:
        first = f"waits for worker {waits[0].worker} to run task {waits[0].name}"
        said = first + _since(waits[0], now)
    elif len(same := _alike(waits[0], waits)) > 1 and waits[0].kind in _PLURAL:
        told = max(len(same), numbers.get(waits[0].kind, 0))
        said = _together(same, now, told)
        waits = (waits[0], *(one for one in waits if one not in same))
    else:
        said = _clause(waits[0], activity, now)
    text = f"{said[0].upper()}{said[1:]}."
    others = _meanwhile(waits[1:], activity, now, numbers)
    shown = [words for words, _ in others[:SHOWN]]
    named = told + sum(number for _, number in others)
    more = sum(number for _, number in others[SHOWN:]) + max(0, sum(numbers.values()) - named)
    if shown:
        text += f" Meanwhile {', '.join(shown)}{f', and {more} more' if more else ''}."
    elif more:
        text += f" Meanwhile {more} more."
    return _printable(text)


def _alike(wait: Wait, waits: Sequence[Wait]) -> list[Wait]:
    """Return the waits that are told together with one: those of its kind, and for slots of its limit."""
    of_limit = None if wait.kind != "slot" else wait.limit
    return [one for one in waits if one.kind == wait.kind and of_limit in (None, one.limit)]


def _meanwhile(
    waits: Sequence[Wait], activity: Activity, now: datetime, numbers: Mapping[str, int]
) -> list[tuple[str, int]]:
    """Return the words for what is open beside the first, each with the number of waits that they tell of:
    those for slots of one limit together. `numbers` are those of all waits of a kind that is not named whole.
    """
    found: list[tuple[str, int]] = []
    told: set[str] = set()
    for one in waits:
        if one.kind != "slot":
            found.append((_clause(one, activity, now, brief=True), 1))
        elif one.limit not in told:
            told.add(one.limit)
            same = _alike(one, waits)
            number = max(len(same), numbers.get("slot", 0))
            words = (
                _clause(one, activity, now, brief=True)
                if number == 1
                else _together(same, now, number)
            )
            found.append((words, number))
    return found


def _printable(text: str) -> str:
    return printable(" ".join(text.split()))


def _blocked(kind: str | None, reason: str) -> str:
    why = reason.partition(": ")[2] or reason
    if kind == ExecutionPaused.__name__:
        return f"Paused: {why}." if why else "Paused."
    return f"Blocked: {reason}."


def _clause(wait: Wait, activity: Activity, now: datetime, *, brief: bool = False) -> str:
    words = KINDS.get(wait.kind, _elsewhere)(wait, activity, now)
    if brief or wait.kind in _UNLIMITED:
        return words
    if wait.deadline is not None:
        verb = "times out" if wait.kind == "task" else "gives up"
        return f"{words}; {verb} in {_age(now, wait.deadline)}"
    return f"{words}; without a time limit" if wait.kind in _OUTSIDE else words


def _task(wait: Wait, activity: Activity, now: datetime) -> str:
    words = f"runs task {wait.name}{_attempt(wait)}"
    words = f"{words} for {_age(wait.since, now)}" if wait.since is not None else words
    if wait.heartbeat is None:
        return words
    details = "" if wait.details is None else f" ({_shortened(wait.details)})"
    return f"{words}; its last heartbeat was {_age(wait.heartbeat, now)} ago{details}"


def _shortened(details: object) -> str:
    text = details if isinstance(details, str) else repr(details)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def _attempt(wait: Wait) -> str:
    if wait.attempt == 1:
        return ""
    of = f" of {wait.attempts}" if wait.attempts is not None else ""
    return f", attempt {wait.attempt}{of},"


def _backoff(wait: Wait, activity: Activity, now: datetime) -> str:
    words = f"tries {wait.name} again {_ahead(wait, now)}{_attempt(wait).rstrip(',')}"
    return f"{words}. Before: {wait.error}" if wait.error else words


def _slot(wait: Wait, activity: Activity, now: datetime) -> str:
    return (
        f"waits for a slot of {_limit(wait)} to run {wait.name}{_attempt(wait)}{_since(wait, now)}"
    )


def _limit(wait: Wait) -> str:
    return f"limit {wait.limit!r}" if wait.limit else "its limit"


def _map(wait: Wait, activity: Activity, now: datetime) -> str:
    found = [one for one in activity.progress if one.name == wait.name and one.total is not None]
    return f"runs {wait.name}: {counts(found[-1])}" if found else f"runs map {wait.name}"


def counts(progress: Progress) -> str:
    """Return a progress in words."""
    done = f"{progress.done:g}" if progress.done != int(progress.done) else f"{progress.done:.0f}"
    words = [f"{done} done" if progress.total is None else f"{done} of {progress.total:g} done"]
    if progress.open:
        words.append(f"{progress.open} at work")
    if progress.failed:
        words.append(f"{progress.failed} failed")
    return ", ".join(words)


def _timer(wait: Wait, activity: Activity, now: datetime) -> str:
    if wait.until is None:
        return "sleeps"
    return f"sleeps until {_clock(wait.until)}, for {_age(now, wait.until)} more"


def _start(wait: Wait, activity: Activity, now: datetime) -> str:
    return f"starts {_ahead(wait, now)}"


def _queue(wait: Wait, activity: Activity, now: datetime) -> str:
    return f"waits for a slot of limit {wait.name!r} to begin{_since(wait, now)}"


def _condition(wait: Wait, activity: Activity, now: datetime) -> str:
    name = wait.name
    if name.isidentifier():  # of a function
        name = name.replace("_", " ").strip()
    return f"waits until {name or 'a condition holds'}{_since(wait, now)}"


def _update(wait: Wait, activity: Activity, now: datetime) -> str:
    return f"handles update {wait.name}{_since(wait, now)}"


def _result(wait: Wait, activity: Activity, now: datetime) -> str:
    return f"waits for the result of {wait.name}{_since(wait, now)}"


def _answer(wait: Wait, activity: Activity, now: datetime) -> str:
    return f"waits for the answer to {wait.name}{_since(wait, now)}"


def _waits(what: str) -> Callable[[Wait, Activity, datetime], str]:
    def words(wait: Wait, activity: Activity, now: datetime) -> str:
        return f"waits for {what} {wait.name or f'#{wait.number}'}{_since(wait, now)}"

    return words


def _elsewhere(wait: Wait, activity: Activity, now: datetime) -> str:
    """Return the words for a kind that is not in KINDS, or for a wait with only a place in the code."""
    if wait.kind:
        return _waits(wait.kind)(wait, activity, now)
    return f"waits at {wait.line}{_since(wait, now)}" if wait.line else "waits"


KINDS: Final[dict[str, Callable[[Wait, Activity, datetime], str]]] = {
    "task": _task,
    "backoff": _backoff,
    "slot": _slot,
    "map": _map,
    "timer": _timer,
    "start": _start,
    "queue": _queue,
    "condition": _condition,
    "update": _update,
    "result": _result,
    "answer": _answer,
}
"""The words for each kind of wait, without a capital and a full stop. Other kinds use their name: "waits for
signal approve"."""

_TASKS: Final = ("task", "backoff", "slot")
_PLURAL: Final = {"task": "tasks", "slot": "tasks", "child": "children", "promise": "promises"}
_UNLIMITED: Final = ("timer", "start", "queue", "backoff", "map", "slot")
"""The kinds of waits that end by themselves."""

_OUTSIDE: Final = ("signal", "promise")
"""The kinds of waits that end by an action from outside."""


def _together(waits: Sequence[Wait], now: datetime, number: int) -> str:
    """Return the words for so many operations of one kind, of which `waits` are named."""
    kind = waits[0].kind
    verb = "runs" if kind == "task" else "waits for"
    if kind == "slot":
        verb = f"waits for slots of {_limit(waits[0])} to run"
    names = _listed([one.name or f"#{one.number}" for one in waits], number)
    since = min((one.since for one in waits if one.since is not None), default=None)
    oldest = "" if since is None else f"; the oldest for {_age(since, now)}"
    least = "at least " if number >= WIDEST and number > len(waits) else ""
    return f"{verb} {least}{number} {_PLURAL[kind]}: {names}{oldest}"


def _listed(names: Sequence[str], number: int = 0) -> str:
    more = max(number, len(names)) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _since(wait: Wait, now: datetime) -> str:
    return "" if wait.since is None else f" since {_age(wait.since, now)}"


def _ahead(wait: Wait, now: datetime) -> str:
    return "soon" if wait.until is None else f"in {_age(now, wait.until)}, at {_clock(wait.until)}"


def _age(begin: datetime | None, end: datetime) -> str:
    return duration(max(timedelta(0), end - (begin or end)))


def _clock(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"

"""Declare limits: bounds that all executions of a store share, on work at a time and on its rate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from mini_workflow.core.validation import EXECUTION_ID, shown
from mini_workflow.durations import MAXIMUM_DURATION, milliseconds, seconds
from mini_workflow.errors import UsageError

LIMIT: Final = "mini_workflow.limit"
"""The name of the built-in workflow of a limit."""

LIMIT_PREFIX: Final = "limit:"
"""The beginning of the ids of the executions of limits."""

LONGEST_NAME: Final = 70
"""Characters of the name of a limit."""

LONGEST_KEY: Final = 200
"""Characters of a key."""

PRIORITIES: Final = 100
"""The highest priority; the lowest is as far below 0. Our own bound."""

MOST: Final = 1_000_000
"""The highest number of slots, and of slots within a time, of a limit. Our own bound."""

Plan = dict[str, Any]
"""The bounds of a limit as plain JSON: `concurrency` and `rate` ([number, milliseconds]), if it has them, and
`per_key`."""

_DECLARED: Final[dict[str, Limit]] = {}

_OF_WORKFLOWS: Final[dict[str, dict[str, Any]]] = {}
"""The slots that the executions of workflows need, by the name of the workflow: see `wish_of`."""


class Limit:
    """A limit, declared beside the workflows that use it by its name: ``ctx.task(..., limit="openai")``.

    The limit holds for all executions of a store, on all machines. Another declaration with other numbers
    comes into force when an execution next asks for a slot, so that the last deployment decides.

    Args:
        name: 1 to 70 letters, digits and ``_-.``.
        concurrency: the number of slots that may be held at a time: a whole number of 1 or more, or None
            for any number.
        rate: a pair of the number of slots and the seconds (or a timedelta) within which no more are
            granted, or None for any number. It holds for every span of that length.
        per_key: whether each key has these bounds for itself. If not, all keys share them.

    Raises:
        UsageError: an argument is out of range, or neither `concurrency` nor `rate` is given.
    """

    __slots__ = ("name", "plan")

    def __init__(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        rate: tuple[int, float | timedelta] | None = None,
        per_key: bool = False,
    ) -> None:
        check_limit_name(name)
        self.name = name
        self.plan = make_limit_plan(name, concurrency, rate, per_key)
        _DECLARED[name] = self

    @property
    def concurrency(self) -> int | None:
        """The number of slots that may be held at a time; None for any number."""
        return self.plan.get("concurrency")

    @property
    def rate(self) -> tuple[int, timedelta] | None:
        """The number of slots that are granted within a time, and that time; None for any number."""
        return rate_of(self.plan)

    @property
    def per_key(self) -> bool:
        """Whether each key has the bounds for itself."""
        return bool(self.plan["per_key"])

    def __repr__(self) -> str:
        return f"<limit {self.name!r}: {text_of_plan(self.plan)}>"


def declared_plan(name: str) -> Plan | None:
    """Return the plan of the limit of that name that the code of this process declares, or None."""
    found = _DECLARED.get(name)
    return None if found is None else found.plan


def declare_for(workflow: str, wish: dict[str, Any] | None) -> None:
    """Declare the slot that the executions of a workflow need before their code begins; None for none."""
    if wish is None:
        _OF_WORKFLOWS.pop(workflow, None)
    else:
        _OF_WORKFLOWS[workflow] = wish


def limit_of(workflow: str) -> dict[str, Any] | None:
    """Return the slot that the executions of a workflow need by the code of this process; None for none."""
    return _OF_WORKFLOWS.get(workflow)


def queue_of(
    what: str, workflow: str, queue: object, key: object, priority: object
) -> dict[str, Any] | None:
    """Return the slot that an execution needs by the options of its start: of the limit `queue`, or by
    default of the one that its workflow declares, with that key and priority.

    Return None without options; then the workflow's own declaration holds. Raises UsageError, which names
    the call `what`.
    """
    if queue is key is priority is None:
        return None
    if queue is None:
        own = limit_of(workflow)
        if own is None:
            raise UsageError(
                f"{what}: limit_key= and priority= are for an execution that needs a slot of a limit; give "
                f"queue= too, or declare @workflow(limit=...) for {workflow!r}"
            )
        queue, key = own["name"], own.get("key") if key is None else key
        priority = own.get("priority") if priority is None else priority
    return wish_of(queue, key, priority, what)


def limit_id(name: str) -> str:
    """Return the id of the execution of a limit."""
    return LIMIT_PREFIX + name


def check_limit_name(name: object) -> None:
    """Raise UsageError unless `name` can be the name of a limit."""
    ok = isinstance(name, str) and len(name) <= LONGEST_NAME
    if not ok or EXECUTION_ID.fullmatch(str(name)) is None or set(str(name)) & set(":@"):
        raise UsageError(
            f"{shown(name)} cannot be the name of a limit: use 1 to {LONGEST_NAME} letters, digits and '_', "
            "'-', '.', beginning with a letter, a digit or '_'"
        )


def make_limit_plan(name: str, concurrency: object, rate: object, per_key: object) -> Plan:
    """Return the plan of a limit. Raises UsageError if an argument is out of range, or both are None."""
    plan: Plan = {"per_key": bool(per_key)}
    if concurrency is None and rate is None:
        raise UsageError(f"limit {name!r}: give concurrency=, rate= or both")
    if concurrency is not None:
        if type(concurrency) is not int or not 1 <= concurrency <= MOST:
            raise UsageError(
                f"limit {name!r}: concurrency={concurrency!r}: give a whole number from 1 to {MOST:,}"
            )
        plan["concurrency"] = concurrency
    if rate is not None:
        plan["rate"] = _checked_rate(name, rate)
    return plan


def _checked_rate(name: str, rate: Any) -> list[int]:
    wrong = UsageError(
        f"limit {name!r}: rate={rate!r}: give a number from 1 to {MOST:,} and the seconds for it, "
        "as in rate=(100, 60) or rate=(100, timedelta(minutes=1))"
    )
    if not isinstance(rate, Sequence) or isinstance(rate, str) or len(rate) != 2:  # pyright: ignore[reportUnknownArgumentType]
        raise wrong
    count, span = rate[0], milliseconds(seconds(rate[1]))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if type(count) is not int or not (1 <= count <= MOST and 1 <= span <= MAXIMUM_DURATION):  # pyright: ignore[reportUnknownArgumentType]
        raise wrong
    return [count, span]


def rate_of(plan: Plan) -> tuple[int, timedelta] | None:
    """Return the rate of a plan, a number and the time for it; None if it has none."""
    rate = plan.get("rate")
    return None if rate is None else (rate[0], timedelta(milliseconds=rate[1]))


def text_of_plan(plan: Plan) -> str:
    """Return a plan in words."""
    parts: list[str] = []
    if "concurrency" in plan:
        parts.append(f"{plan['concurrency']} at a time")
    if "rate" in plan:
        parts.append(f"{plan['rate'][0]} within {plan['rate'][1] / 1000:g} s")
    return ", ".join(parts) + (" for each key" if plan["per_key"] else "")


def wish_of(name: object, key: object, priority: object, what: str) -> dict[str, Any] | None:
    """Return the slot that an operation needs, as it is recorded; None if it needs none.

    Raises UsageError, which names the call `what`, if an argument is out of range.
    """
    if name is None:
        if key is not None or priority is not None:
            given = "limit_key" if key is not None else "priority"
            raise UsageError(f"{what}: {given}= works with a limit only; give limit= too")
        return None
    name = name.name if isinstance(name, Limit) else name
    check_limit_name(name)
    wish: dict[str, Any] = {"name": name}
    if key is not None:
        if not isinstance(key, str) or len(key) > LONGEST_KEY:
            raise UsageError(
                f"{what}: limit_key={shown(key)}: give a text of at most {LONGEST_KEY} characters"
            )
        if key:
            wish["key"] = key
    if priority is not None:
        if type(priority) is not int or abs(priority) > PRIORITIES:
            raise UsageError(
                f"{what}: priority={priority!r}: give a whole number from -{PRIORITIES} to {PRIORITIES}"
            )
        if priority:
            wish["priority"] = priority
    return wish


def check_declared(name: str, what: str) -> None:
    """Raise UsageError unless the code of this process declares a limit of that name."""
    if name not in _DECLARED:
        raise UsageError(
            f"{what}: no limit {shown(name)} is declared: write Limit({shown(name)}, concurrency=...) at "
            "the top of a module that is imported wherever the workflow runs"
        )

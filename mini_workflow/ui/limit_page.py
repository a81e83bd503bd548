"""Show the limits: their slots, the holders, the waiting operations, and the form that changes a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mini_workflow.core.limit import check_limit_name
from mini_workflow.core.records import frozen
from mini_workflow.engine.client import Client
from mini_workflow.engine.limits import LimitDescription, LimitHandle
from mini_workflow.engine.picture import words
from mini_workflow.errors import MiniWorkflowError, UsageError

LIMITS: Final = 100
"""Limits on a page: each is asked how it stands."""

DRAWN: Final = 50
"""Slots that are drawn one by one; of more the share that is held is drawn."""


@frozen
class SlotShape:
    """A slot in the picture, in percent of its width: whether it is held, where it begins, how wide it is."""

    held: bool
    x: float
    width: float


@frozen
class LimitLine:
    """A limit on the page. A limit that does not answer has an error in place of a description."""

    name: str
    description: LimitDescription | None
    sentence: str = ""
    allows: str = ""
    shapes: tuple[SlotShape, ...] = ()
    problem: str = ""

    @classmethod
    def of(cls, limit: LimitHandle) -> LimitLine:
        """Return the line of a limit."""
        try:
            found = limit.describe()
        except (MiniWorkflowError, TimeoutError) as error:
            return cls(limit.name, None, problem=f"{type(error).__name__}: {error}")
        return cls(limit.name, found, _sentence(found), found.allows, _shapes(found))

    @property
    def fullness(self) -> tuple[int, int]:
        """The key of the order: the number that wait, then the slots that are held."""
        one = self.description
        return (0, 0) if one is None else (one.waiting, one.held)


def lines_of_limits(client: Client) -> tuple[list[LimitLine], int]:
    """Return the limits, the fullest first, and how many more there are."""
    found = client.limits.list()
    lines = [LimitLine.of(one) for one in found[:LIMITS]]
    lines.sort(key=lambda line: line.fullness, reverse=True)
    return lines, max(0, len(found) - LIMITS)


def limit_of_page(client: Client, name: str, timeout: float | None = None) -> LimitHandle:
    """Return a limit by the name in an address. Raises UsageError or ExecutionNotFound."""
    check_limit_name(name)
    return client.limits.get(name, timeout=timeout)


NO_FIELDS: Final = {"concurrency": "", "count": "", "seconds": "", "per_key": ""}
"""The form of a limit that allows anything."""


def form_of(one: LimitDescription) -> dict[str, str]:
    """Return the form of a limit as it is."""
    found = {**NO_FIELDS, "per_key": "yes" if one.per_key else ""}
    if one.concurrency is not None:
        found["concurrency"] = f"{one.concurrency}"
    if one.rate is not None:
        found |= {"count": f"{one.rate[0]}", "seconds": f"{one.rate[1].total_seconds():.0f}"}
    return found


def changes_of(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the changes of a form to a limit; an empty field removes the number. Raises UsageError."""
    count, span = _number(form, "count"), _number(form, "seconds")
    if (count is None) != (span is None):
        raise UsageError("a rate has two numbers, slots and seconds: give both, or neither")
    return {
        "concurrency": _number(form, "concurrency"),
        "rate": None if count is None else (count, span),
        "per_key": form.get("per_key", "") == "yes",
    }


def _number(form: Mapping[str, str], field: str) -> int | None:
    text = form.get(field, "").strip()
    try:
        return int(text) if text else None
    except ValueError:
        raise UsageError(
            f"{field}={text!r}: give a whole number, or leave the field empty for no bound"
        ) from None


def _sentence(about: LimitDescription) -> str:
    most = about.concurrency
    if not about.held and not about.waiting:
        return "Nothing holds it, nothing waits."
    if most is None or about.per_key:
        held = f"{words.count(about.held, 'slot is', 'slots are')} held"
    elif about.held >= most:
        held = f"All {words.number(most)} slots are held" if most > 1 else "Its one slot is held"
    else:
        held = f"{words.number(about.held)} of {words.number(most)} slots are held"
    if not about.waiting:
        return f"{held}; nothing waits."
    return f"{held}, and {words.count(about.waiting, 'one is', 'more are')} waited for."


def _shapes(about: LimitDescription) -> tuple[SlotShape, ...]:
    most = about.concurrency
    if most is None or about.per_key:
        return ()
    if most > DRAWN:
        share = min(100.0, 100 * about.held / most)
        return (SlotShape(True, 0, share), SlotShape(False, share, 100 - share))
    each = 100 / most
    return tuple(
        SlotShape(number < about.held, number * each + 0.2, each - 0.4) for number in range(most)
    )

"""Actions: what a person may ask of an execution, when, and how it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mini_workflow.engine.execution import Description, Execution
from mini_workflow.errors import ExecutionPaused, UsageError

Form = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Action:
    """An action: what its button says, what it does, and what becomes of the execution.

    `fields` are those that a person fills in, of ``reason``, ``name`` and ``value``; `harms` says that
    it cannot be taken back.
    """

    name: str
    label: str
    does: str
    do: Callable[[Execution[Any], Form], Any]
    fields: tuple[str, ...] = ()
    harms: bool = False
    bulk: bool = True


def _value(form: Form) -> Any:
    """Return what was typed, as JSON or else as a text; nothing typed is None."""
    text = form.get("value", "").strip()
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _arguments(form: Form) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments: a JSON list is those by position, an object those by name."""
    value = _value(form)
    if value is None:
        return [], {}
    if isinstance(value, list):
        return value, {}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return [], value  # pyright: ignore[reportUnknownVariableType]
    return [value], {}


def _name(form: Form) -> str:
    name = form.get("name", "").strip()
    if not name:
        raise UsageError("give a name")
    return name


def _update(execution: Execution[Any], form: Form) -> Any:
    args, kwargs = _arguments(form)
    return execution.update(_name(form), *args, timeout=ANSWER, **kwargs)


def _query(execution: Execution[Any], form: Form) -> Any:
    args, kwargs = _arguments(form)
    return execution.query(_name(form), *args, **kwargs)


ANSWER: Final = 30.0
"""Seconds that a page waits for the answer of an update; it goes on all the same."""

ACTIONS: Final = {
    one.name: one
    for one in (
        Action(
            "signal",
            "Signal…",
            "The signal is kept until the code takes it.",
            lambda execution, form: execution.signal(_name(form), _value(form)),
            ("name", "value"),
            bulk=False,
        ),
        Action(
            "update",
            "Update…",
            "Its handler may refuse it; the answer is shown.",
            _update,
            ("name", "value"),
            bulk=False,
        ),
        Action(
            "query",
            "Query…",
            "Nothing is changed; the answer is shown.",
            _query,
            ("name", "value"),
            bulk=False,
        ),
        Action(
            "resume",
            "Resume",
            "It goes on where it stopped. If what blocked it is still there, it is blocked again.",
            lambda execution, form: execution.resume(),
        ),
        Action(
            "retry",
            "Retry",
            "It goes on from its last good point with today's code: what has failed is made again, and "
            "results that are recorded stay.",
            lambda execution, form: execution.retry(),
        ),
        Action(
            "restart",
            "Restart",
            "It begins anew with the same id and arguments, in a new run. Every task is made again.",
            lambda execution, form: execution.restart(),
        ),
        Action(
            "pause",
            "Pause…",
            "No code of it runs and no task begins until it is resumed. Attempts that have begun run on.",
            lambda execution, form: execution.pause(form.get("reason", "")),
            ("reason",),
        ),
        Action(
            "cancel",
            "Cancel…",
            "Its code is told to stop where it waits, and may clean up.",
            lambda execution, form: execution.cancel(form.get("reason", "")),
            ("reason",),
            harms=True,
        ),
        Action(
            "terminate",
            "Terminate…",
            "None of its code runs: no cleanup, no undo.",
            lambda execution, form: execution.terminate(form.get("reason", "")),
            ("reason",),
            harms=True,
        ),
    )
}


def possible(description: Description) -> list[str]:
    """Return the names of the actions that an execution takes as it is now."""
    match description.status:
        case "running":
            return ["signal", "update", "query", "pause", "cancel", "terminate"]
        case "blocked":
            paused = description.blocked_kind == ExecutionPaused.__name__
            return ["resume", "signal", *([] if paused else ["query"]), "cancel", "terminate"]
        case "completed":
            return ["query", "restart"]
        case _:
            return ["query", "retry", "restart"]

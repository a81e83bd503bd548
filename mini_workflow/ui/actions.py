"""Offer the actions on an execution to a person, and carry them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mini_workflow.core.records import frozen
from mini_workflow.engine.client import Client
from mini_workflow.engine.description import Description
from mini_workflow.engine.execution import Execution
from mini_workflow.errors import ExecutionPaused, PromiseNotOpen
from mini_workflow.ui.forms import (
    LONGEST_REASON,
    Form,
    name_in,
    number_in,
    read_arguments,
    read_signal,
    read_value,
)


@frozen
class Asked:
    """A request of a person for an execution, with the form that was filled in."""

    client: Client
    execution: Execution[Any]
    form: Form

    @classmethod
    def of(cls, client: Client, name: str, form: Form) -> Asked:
        """Return the request for an execution. Raises ExecutionNotFound."""
        return cls(client, client.get_execution(name), form)

    @property
    def reason(self) -> str:
        """The reason that was given."""
        return self.form.get("reason", "")

    @property
    def why(self) -> str:
        """The reason without the name of the person, where that is kept beside it."""
        return " ".join(self.form.get("why", "").split())[:LONGEST_REASON]

    @property
    def by(self) -> str:
        """The name of the person, empty if it is not known."""
        return self.form.get("by", "")


@frozen
class Action:
    """An action: the text of its button, its call, and its consequence for the execution.

    A person fills in the `fields`, of ``reason``, ``name``, ``value``, ``promise``, ``at`` and ``id``;
    `harms` says that the action cannot be taken back, and `reason_is` what becomes of the reason. The
    answer of `do` is shown if the action `answers`; a text is the id of the execution to go on with.
    """

    name: str
    label: str
    does: str
    do: Callable[[Asked], Any]
    fields: tuple[str, ...] = ()
    harms: bool = False
    bulk: bool = True
    answers: bool = False
    reason_is: str = "kept in the history"

    @property
    def plain(self) -> str:
        """The name of the action where no dialog follows."""
        return self.label.rstrip("\N{HORIZONTAL ELLIPSIS}")


def _update(asked: Asked) -> Any:
    name = asked.execution.id
    args, kwargs = read_arguments(asked.client, name, "update", asked.form)
    updates = asked.client.updates.for_people()
    return updates.ask(name, name_in(asked.form), args, kwargs, None, ANSWER, asked.by)


def _query(asked: Asked) -> Any:
    name = asked.execution.id
    args, kwargs = read_arguments(asked.client, name, "query", asked.form)
    return asked.client.queries.ask(name, name_in(asked.form), args, kwargs, for_people=True)


def _token(asked: Asked) -> str:
    """Return the token of the promise that was chosen. Raises PromiseNotOpen."""
    number = number_in(asked.form, "promise", "the number of a promise")
    for one in asked.execution.open_promises():
        if one.number == number:
            return one.token
    raise PromiseNotOpen(f"promise #{number} of {asked.execution.id!r} is not open any more")


def _complete(asked: Asked) -> None:
    asked.client.complete_promise(_token(asked), read_value(asked.form), by=asked.by)


def _fail(asked: Asked) -> None:
    why = asked.reason or "failed on the page"
    asked.client.fail_promise(_token(asked), why, by=asked.by)


def _fork(asked: Asked) -> str:
    kept = number_in(asked.form, "at", "how many events are kept")
    name = asked.form.get("id", "").strip() or None
    return asked.execution.fork(at=kept, id=name, by=asked.by).id


ANSWER: Final = 30.0
"""Seconds that a page waits for the answer of an update, which goes on after that."""

ACTIONS: Final = {
    one.name: one
    for one in (
        Action(
            "signal",
            "Signal…",
            "The signal is kept until the code takes it.",
            lambda asked: asked.execution.signal(
                name_in(asked.form),
                read_signal(asked.client, asked.execution.id, asked.form),
                by=asked.by,
            ),
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
            answers=True,
        ),
        Action(
            "query",
            "Query…",
            "Nothing is changed; the answer is shown.",
            _query,
            ("name", "value"),
            bulk=False,
            answers=True,
        ),
        Action(
            "resume",
            "Resume",
            "It goes on where it stopped. If the cause is still there, it is blocked again.",
            lambda asked: asked.execution.resume(by=asked.by),
        ),
        Action(
            "retry",
            "Retry",
            "It goes on from its last good point with today's code: operations that failed run again, and "
            "recorded results stay.",
            lambda asked: asked.execution.retry(by=asked.by),
        ),
        Action(
            "restart",
            "Restart",
            "It begins anew with the same id and arguments, in a new run. Every task runs again.",
            lambda asked: asked.execution.restart(by=asked.by),
        ),
        Action(
            "complete-promise",
            "Complete a promise\N{HORIZONTAL ELLIPSIS}",
            "Its code goes on with the value. A promise is completed or failed once.",
            _complete,
            ("promise", "value"),
            bulk=False,
        ),
        Action(
            "fail-promise",
            "Fail a promise\N{HORIZONTAL ELLIPSIS}",
            "A RuntimeError with the reason is raised where its code waits for it.",
            _fail,
            ("promise", "reason"),
            harms=True,
            bulk=False,
            reason_is="the message of the error",
        ),
        Action(
            "fork",
            "Fork\N{HORIZONTAL ELLIPSIS}",
            "A new execution begins with the first events of this one and goes on with today's "
            "code: recorded results stay, and operations open at the cut begin anew. This one stays.",
            _fork,
            ("at", "id"),
            bulk=False,
        ),
        Action(
            "pause",
            "Pause…",
            "No code of it runs and no task begins until it is resumed. Attempts that have begun run on.",
            lambda asked: asked.execution.pause(asked.reason),
            ("reason",),
        ),
        Action(
            "cancel",
            "Cancel…",
            "Its code is told to stop where it waits, and may clean up.",
            lambda asked: asked.execution.cancel(asked.reason),
            ("reason",),
            harms=True,
        ),
        Action(
            "terminate",
            "Terminate…",
            "None of its code runs: no cleanup, no undo.",
            lambda asked: asked.execution.terminate(asked.reason),
            ("reason",),
            harms=True,
        ),
        Action(
            "delete",
            "Delete\N{HORIZONTAL ELLIPSIS}",
            "Its history, its tags and the messages to it are deleted; its children stay. To keep the "
            "history, download it first.",
            lambda asked: asked.execution.delete(asked.why, by=asked.by),
            ("reason",),
            harms=True,
            reason_is="logged, since no history is left",
        ),
    )
}


def possible(description: Description) -> list[str]:
    """Return the names of the actions that an execution takes in its present state."""
    promises = any(wait.kind == "promise" for wait in description.waits)
    match description.status:
        case "running":
            settle = ["complete-promise", "fail-promise"] if promises else []
            return ["signal", "update", "query", *settle, "pause", "fork", "cancel", "terminate"]
        case "blocked":
            paused = description.blocked_kind == ExecutionPaused.__name__
            asks = [] if paused else ["query"]
            return ["resume", "signal", *asks, "fork", "cancel", "terminate"]
        case "completed":
            return ["query", "fork", "restart", "delete"]
        case _:
            return ["query", "retry", "fork", "restart", "delete"]


def remedy(description: Description) -> tuple[str, str]:
    """Return the action that would end the first wait, and the name of its message; empty if none would."""
    if description.status == "blocked":
        return "resume", ""
    first = description.waits[0] if description.waits else None
    if first is not None and first.kind == "signal":
        return "signal", first.name
    if first is not None and first.kind == "promise":
        return "complete-promise", str(first.number or "")
    return "", ""

"""Hand over state from a run to the next one: open children, the last answers to updates, and the ids of
the last signals.

The first event of the next run holds them as plain JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.core import events
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload, dump_json
from mini_workflow.errors import WireError

if TYPE_CHECKING:
    from mini_workflow.core.state import ExecutionState

CARRIED_UPDATES: Final = 100
"""The number of updates that are handed over, the last answered ones: enough for callers that repeat an
update because its answer was lost. Our own bound."""

CARRIED_SIGNALS: Final = 100
"""The number of ids of signals that are handed over, the last received ones: more than a queue delivers
twice. Our own bound."""

CARRIED_ANSWER: Final = 2_000
"""Characters of JSON that an answer may have to be handed over. For a longer one only the id is, so that
the first event of a run has at most about 200 KB of answers. Our own bound."""

Answered = events.UpdateCompleted | events.UpdateFailed | events.UpdateRefused

Answers = dict[str, dict[str, Any]]
"""The last answered updates by id. Each has its `id`, `at` (milliseconds since the epoch) and its
`result`, `failure` or `refusal`; none of these if the answer is too long. A refused update was not
handled: the same id may be requested again."""


class OpenChild:
    """A child execution that has not closed, as far as its parent knows."""

    __slots__ = ("id", "on_parent_close")

    def __init__(self, id: str, on_parent_close: str) -> None:  # noqa: A002
        self.id = id
        self.on_parent_close = on_parent_close


def remember(answers: Answers, at: int, answered: Answered) -> None:
    """Add an answer, given `at` milliseconds since the epoch. Drop the oldest one if there are too many."""
    about: dict[str, Any] = {"id": answered.id, "at": at}
    if isinstance(answered, events.UpdateCompleted):
        if len(answered.result.text) <= CARRIED_ANSWER:
            about["result"] = answered.result.tree
    else:
        refused = isinstance(answered, events.UpdateRefused)
        about["refusal" if refused else "failure"] = _shortened(answered.failure.to_plain())
    answers.pop(answered.id, None)
    answers[answered.id] = about
    if len(answers) > CARRIED_UPDATES:
        del answers[next(iter(answers))]


def carried_updates(answers: Answers, cut: Iterable[str]) -> list[dict[str, Any]] | None:
    """Return the answers for the next run. The updates in `cut` were being handled when the run ended:
    their failure counts as a refusal.
    """
    handed = {**answers}
    for update_id in cut:
        about = handed.get(update_id)
        if about is not None and "failure" in about:
            handed[update_id] = {
                "refusal" if key == "failure" else key: value for key, value in about.items()
            }
    return list(handed.values()) or None


def carried_children(children: Mapping[int, OpenChild]) -> list[dict[str, Any]] | None:
    """Return the children for the next run: all but those that are abandoned when their parent closes."""
    return [
        {"seq": seq, "id": child.id, "on_parent_close": child.on_parent_close}
        for seq, child in children.items()
        if child.on_parent_close != "abandon"
    ] or None


def carried_signals(known: Iterable[str], waiting: Iterable[str]) -> list[str] | None:
    """Return the ids of signals for the next run. Those still `waiting` are left out, since the signals
    are delivered to the next run again.
    """
    still = frozenset(waiting)
    return [name for name in known if name not in still][-CARRIED_SIGNALS:] or None


def take_over(state: ExecutionState, started: events.ExecutionStarted) -> None:
    """Take over the state of the run before from the first event. Raises WireError if it is damaged."""
    try:
        state.inherited = {
            child["seq"]: OpenChild(child["id"], child["on_parent_close"])
            for child in started.children or ()
        }
        state.answers = inherited_answers(started)
        state.signal_ids = dict.fromkeys(started.signals or ())
    except (KeyError, TypeError) as error:
        raise WireError(f"the state that {started!r} has from the run before is damaged") from error
    state.updates = {name: True for name, about in state.answers.items() if "refusal" not in about}


def inherited_answers(started: events.ExecutionStarted) -> Answers:
    """Return the answers of the runs before. Raises KeyError or TypeError if they are damaged."""
    return {about["id"]: about for about in started.updates or ()}


def inherited_answer(
    started: events.ExecutionStarted, update_id: str, asked: int
) -> Answered | None:
    """Return the answer of the runs before to an update; None if they have none.

    `asked` is the time of the request (milliseconds since the epoch).
    """
    about = inherited_answers(started).get(update_id)
    if about is None:
        updates = started.updates or []
        if len(updates) < CARRIED_UPDATES or updates[0]["at"] <= asked:
            return None
        why = (
            f"more than {CARRIED_UPDATES} others were answered, and the run has ended, since it "
            "was requested: whether it was handled is not known any more"
        )
        return events.UpdateRefused(asked, update_id, _closed(update_id, why))
    if "result" in about:
        return events.UpdateCompleted(update_id, Payload(tree=about["result"]))
    if "failure" in about:
        return events.UpdateFailed(update_id, Failure.from_plain(about["failure"]))
    if "refusal" in about:
        if about["at"] < asked:
            return None
        failure = Failure.from_plain(about["refusal"])
        return events.UpdateRefused(about["at"], update_id, failure)
    why = (
        "it was handled by a run that is over, and only answers of up to "
        f"{CARRIED_ANSWER:,} characters are handed over to the next run"
    )
    return events.UpdateFailed(update_id, _closed(update_id, why))


def _shortened(failure: dict[str, Any]) -> dict[str, Any]:
    """Return the failure without its traceback, cause and state, as far as it is too long."""
    for part in ("traceback", "cause", "state"):
        if len(dump_json(failure)) <= CARRIED_ANSWER:
            return failure
        failure = {key: value for key, value in failure.items() if key != part}
    return {"type": failure["type"], "message": failure["message"][:CARRIED_ANSWER]}


def _closed(update_id: str, why: str) -> Failure:
    message = f"the answer to update {update_id!r} is not available: {why}"
    kind = "mini_workflow.errors:ExecutionClosed"
    return Failure(
        type=kind,
        message=message,
        lineage=(kind, "builtins:Exception"),
        state={"args": [message], "how": "call"},
    )

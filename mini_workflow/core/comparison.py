"""Compare the calls that code makes now with the recorded ones, and describe a mismatch.

Kind, number and name identify an operation; the values that it is given decide whether its recorded
result may be taken. Different values mean either that the code was edited, perhaps on purpose, or that
results would go to other calls. The second is certain if the code makes the recorded call elsewhere, or
the new call is recorded elsewhere. That is always refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.core.payload import Payload
from mini_workflow.core.records import record
from mini_workflow.errors import NonDeterminismError

_CALLS: Final = (
    events.TaskScheduled,
    events.InlineTaskCompleted,
    events.InlineTaskFailed,
)
_SENT: Final = (events.SignalSent, events.CancelSent, events.CompletionSent, events.AskSent)
COMPARED: Final = frozenset({*_CALLS, events.ChildStarted, events.StartSent, *_SENT})
"""The events that are compared by more than their kind, number and name."""


class Comparison:
    """Compares the operations of one run with the recorded ones.

    `outline` returns a text that is the same for equal values of an execution. With `strict`, different
    values are refused even if the code was edited on purpose. `warn` logs a tolerated difference.
    """

    __slots__ = ("_outline", "_strict", "_warn", "moved")

    def __init__(
        self, outline: Callable[[Payload, str], str], strict: bool, warn: Callable[[str], None]
    ) -> None:
        self._outline = outline
        self._strict = strict
        self._warn = warn
        self.moved: dict[tuple[Any, ...], str] = {}
        """The keys of recorded calls in whose place the code has made another call, which is described."""

    def check(self, recorded: Event, asked: Event, later: Callable[[], Sequence[Event]]) -> None:
        """Compare the event `asked` with its recorded counterpart, and with the events recorded `later`.

        Raises NonDeterminismError, without the place in the code.
        """
        if _says_nothing(recorded):
            return
        mine, theirs = self._key(asked), self._key(recorded)
        if mine == theirs:
            if self.moved:
                self.check_new(asked)
            return
        if isinstance(recorded, _CALLS) and _calls_another(recorded, asked):
            raise NonDeterminismError(
                f"{_shown(recorded)} is recorded, but the workflow's code asks for {_shown(asked)}"
            )
        if any(
            type(event) in COMPARED and not _says_nothing(event) and self._key(event) == mine
            for event in later()
        ):
            raise NonDeterminismError(
                f"{_shown(asked)} is recorded later in the history, and {_shown(recorded)} was given "
                "other values: the recorded results would go to other calls"
            )
        self.check_new(asked)
        what = _difference(recorded, asked)
        if self._strict and what != "constants":
            raise NonDeterminismError(
                f"{_shown(recorded)} was given other {what} than the workflow's code gives it now, "
                'and the workflow was declared with changed_values="block"'
            )
        self.moved.setdefault(theirs, _shown(asked))
        self._warn(
            f"{_shown(recorded)} was recorded with other {what} than the workflow's code gives it "
            "now; its recorded result is taken all the same"
        )

    def check_new(self, asked: Event) -> None:
        """Check that the result of a call was not taken for another one. Raises like `check`."""
        if self.moved and type(asked) in COMPARED and not _says_nothing(asked):
            instead = self.moved.get(self._key(asked))
            if instead is not None:
                raise NonDeterminismError(
                    f"{_shown(asked)} was done before, and its recorded result has gone to "
                    f"{instead}, in whose place it is recorded: something was put in front of it, "
                    "or the order has changed",
                    recorded=f"{_shown(asked)}, whose result has gone to {instead}",
                    asked=_shown(asked),
                )

    def _key(self, event: Any) -> tuple[Any, ...]:
        """Return a key that only equal calls share."""
        if isinstance(event, _CALLS):
            return ("task", event.name, event.call)
        if isinstance(event, (events.ChildStarted, events.StartSent)):
            kind = "child" if isinstance(event, events.ChildStarted) else "start"
            return (kind, event.name, self._outline(event.arguments, event.id))
        if isinstance(event, events.AskSent):
            outline = self._outline(event.value, event.target)
            return ("ask", event.kind, event.name, event.target, outline)
        if isinstance(event, events.SignalSent):
            outline = self._outline(event.value, event.target)
            return ("signal", event.name, event.target, outline)
        if isinstance(event, events.CompletionSent):
            failed = event.failure is not None
            outline = self._outline(event.value, event.target)
            return ("completion", event.target, event.promise, failed, outline)
        return ("cancel", event.target)


def _says_nothing(event: Event) -> bool:
    """Return whether the event is of a task without a fingerprint, as older histories have it."""
    return isinstance(event, _CALLS) and not event.call


def _called(event: Any) -> str:
    return event.call.rpartition("#")[0] or event.name


def _calls_another(recorded: Any, asked: Any) -> bool:
    """Return whether another function is called. Not so if the task keeps the name of a function that
    was renamed.
    """
    if _called(recorded) == _called(asked):
        return False
    return not recorded.call.startswith("#")


def _difference(recorded: Any, asked: Any) -> str:
    if isinstance(recorded, events.CancelSent):
        return "targets"
    if not isinstance(recorded, _CALLS):
        return "arguments"
    same = recorded.call.rpartition(".")[2] == asked.call.rpartition(".")[2]
    return "constants" if same else "values"


def _shown(event: Any) -> str:
    kind = type(event).__name__
    if isinstance(event, events.CancelSent | events.CompletionSent):
        return f"{kind} #{event.seq} to {event.target!r}"
    if isinstance(event, events.AskSent):
        what = f"{event.kind} {event.name!r}" if event.name else event.kind
        return f"{kind} #{event.seq}, {what} of {event.target!r}"
    text = f"{kind} #{event.seq} {event.name!r}"
    if isinstance(event, _CALLS) and not event.call.startswith("#"):
        text += f" (which calls {_called(event)})"
    return text


@record
class Mismatch:
    """The two sides of a mismatch in words: the operation `recorded` at the event of that number (0 if
    there is none), and the one that the code has `asked` for; an empty side has nothing more. `line` is
    the user's line, if it is known.
    """

    recorded: str = ""
    asked: str = ""
    event: int = 0
    line: str = ""

    def to_text(self) -> str:
        """Return the mismatch as JSON text, which `read_mismatch` reads."""
        from dataclasses import asdict

        return json.dumps({_NAME: asdict(self)})


_NAME: Final = "mismatch"
_TYPES: Final[dict[str, type]] = {"recorded": str, "asked": str, "event": int, "line": str}


def mismatch_of(error: BaseException) -> Mismatch | None:
    """Return the mismatch that an error is about; None if it is another error."""
    if not isinstance(error, NonDeterminismError) or not (error.recorded or error.asked):
        return None
    return Mismatch(error.recorded, error.asked, error.event, error.line)


def read_mismatch(text: str) -> Mismatch | None:
    """Return the mismatch in the text of a head; None if the text is about something else."""
    try:
        plain: Any = json.loads(text)[_NAME] if text.startswith(f'{{"{_NAME}"') else None
        if plain is None or any(type(plain[name]) is not kind for name, kind in _TYPES.items()):
            return None
        return Mismatch(*(plain[name] for name in _TYPES))
    except (ValueError, KeyError, TypeError):
        return None

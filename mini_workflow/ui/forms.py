"""Build forms for messages, from the signature of the handler where that is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mini_workflow.annotations import Text
from mini_workflow.core.handlers import ANY
from mini_workflow.core.records import frozen
from mini_workflow.engine.client import Client
from mini_workflow.engine.description import Description
from mini_workflow.errors import UsageError
from mini_workflow.parameters import Parameter, Parameters
from mini_workflow.testing.handlers import Handlers, handlers_of

Form = Mapping[str, str]

LONGEST_REASON: Final = 500
"""Characters of a reason that a person gives."""

MESSAGES: Final = ("signal", "update", "query")
"""The kinds of messages whose handlers are known."""

OF_PARAMETER: Final = "arg-"
"""The name of the field of a parameter begins so; `TYPED` says that a form has such fields."""

TYPED: Final = "typed"


@frozen
class Asking:
    """The form of a message: the names that the execution takes, the one that is chosen, and the
    parameters of its handler; None where they are not known, so that a value is typed freely.
    """

    names: Sequence[str]
    name: str
    fields: Sequence[Parameter] | None
    is_typed: bool

    @classmethod
    def of(cls, client: Client, one: Description, kind: str, given: str) -> Asking:
        """Return the form of a message of a kind, for the name that is given in the address, if one is."""
        handlers = handlers_of(client, one.id)
        names = sorted(name for of_kind, name in handlers if of_kind == kind and name != ANY)
        if kind == "signal":
            awaited = [w.name for w in one.waits if w.kind == "signal" and w.name]
            names = [*dict.fromkeys((*awaited, *names))]
        name = given or (names[0] if names else "")
        fields = _fields(handlers, kind, name)
        return cls(names, name, fields, fields is not None)


def _fields(handlers: Handlers, kind: str, name: str) -> Sequence[Parameter] | None:
    handler = handlers.get((kind, name))
    return None if handler is None else Parameters(handler).listed()


def read_arguments(
    client: Client, name: str, kind: str, form: Form
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a message, by position and by name. Raises UsageError.

    Fields of parameters are built to their annotations; an empty one that has a default is left out.
    Typed freely, a JSON list has the arguments by position, and an object those by name.
    """
    if form.get(TYPED):
        handler = handlers_of(client, name).get((kind, name_in(form)))
        if handler is None:
            raise UsageError(
                f"{name_in(form)!r} is handled in another way now: load the page again"
            )
        parameters = Parameters(handler)
        given = {
            one.name: Text(form.get(OF_PARAMETER + one.name, ""))
            for one in parameters.listed() or ()
            if one.required or form.get(OF_PARAMETER + one.name, "")
        }
        return parameters.arguments(given)
    value = read_value(form)
    if value is None:
        return [], {}
    if isinstance(value, list):
        return value, {}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return [], value  # pyright: ignore[reportUnknownVariableType]
    return [value], {}


def read_signal(client: Client, name: str, form: Form) -> Any:
    """Return the value of a signal. Raises UsageError."""
    if not form.get(TYPED):
        return read_value(form)
    args, named = read_arguments(client, name, "signal", form)
    return next(iter((*args, *named.values())), None)


def read_value(form: Form) -> Any:
    """Return the value that was typed, as JSON or else as a text; nothing typed is None."""
    text = form.get("value", "").strip()
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
    except RecursionError as error:
        raise UsageError("the value is nested too deeply") from error


def name_in(form: Form) -> str:
    """Return the name that was given. Raises UsageError."""
    name = form.get("name", "").strip()
    if not name:
        raise UsageError("give a name")
    return name


def number_in(form: Form, field: str, what: str) -> int:
    """Return the number that was given. Raises UsageError."""
    text = form.get(field, "").strip()
    if not text.isdecimal() or len(text) > 18:
        raise UsageError(f"{text!r} is no number: give {what}")
    return int(text)

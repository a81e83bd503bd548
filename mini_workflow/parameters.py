"""Read the parameters of functions, and build arguments for them from JSON or from texts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from mini_workflow.annotations import Unfit, annotations_of, build
from mini_workflow.core.records import frozen
from mini_workflow.errors import UsageError
from mini_workflow.workflow import Workflow


@frozen
class Parameter:
    """A parameter for people: its name, its annotation and its default as texts, empty if it has none."""

    name: str
    annotation: str
    default: str
    required: bool


class Parameters:
    """The annotations of the parameters of a function; of None nothing is known. The context of a
    workflow is none of them.
    """

    def __init__(self, function: Callable[..., Any] | None) -> None:
        found: list[inspect.Parameter] = []
        self._annotations: dict[str, Any] = {}
        if function is not None:
            with suppress(TypeError, ValueError):  # it has no signature
                found = list(inspect.signature(function).parameters.values())
            if isinstance(function, Workflow) and found[0].kind is not found[0].VAR_POSITIONAL:
                del found[0]
            self._annotations = annotations_of(function)
        self._all = found
        self._positional = [
            p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        self._named = {
            p.name: p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }
        self._others = {p.kind: p for p in found}

    def listed(self) -> Sequence[Parameter] | None:
        """Return the parameters, in order, or None if any number of arguments is taken."""
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in self._all):
            return None
        return [
            Parameter(
                p.name,
                _text_of(self._annotations.get(p.name, p.annotation)),
                "" if p.default is p.empty else repr(p.default),
                p.default is p.empty,
            )
            for p in self._all
        ]

    def arguments(self, given: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return arguments, by their names, as those by position and those by name. Raises UsageError."""
        built = {name: self.build(value, name) for name, value in given.items()}
        args: list[Any] = []
        for one in self._positional:
            if one.kind is not one.POSITIONAL_ONLY or one.name not in built:
                break
            args.append(built.pop(one.name))
        return args, built

    def build(self, value: Any, place: int | str) -> Any:
        """Return the argument at a position, or of a name, from JSON or a `Text`. Those that there are
        not, others refuse. Raises UsageError.
        """
        if isinstance(place, str):
            parameter = self._named.get(place, self._others.get(inspect.Parameter.VAR_KEYWORD))
            parameter = parameter or next((p for p in self._positional if p.name == place), None)
        elif place < len(self._positional):
            parameter = self._positional[place]
        else:
            parameter = self._others.get(inspect.Parameter.VAR_POSITIONAL)
        annotation = Any if parameter is None else self._annotations.get(parameter.name, Any)
        name = place if isinstance(place, str) else getattr(parameter, "name", place + 1)
        try:
            return build(value, annotation, f"argument {name!r}")
        except Unfit as error:
            raise UsageError(str(error)) from error


_SILENT: Final = (inspect.Parameter.empty, Any)


def _text_of(annotation: Any) -> str:
    if annotation in _SILENT:
        return ""
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)

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
    """A parameter for people to read: its name, and its annotation and default as texts, empty for none."""

    name: str
    annotation: str
    default: str
    required: bool


class Parameters:
    """The parameters of a function and their annotations, without the context of a workflow. For None the
    parameters are not known.
    """

    def __init__(self, function: Callable[..., Any] | None) -> None:
        found: list[inspect.Parameter] = []
        self._annotations: dict[str, Any] = {}
        if function is not None:
            with suppress(TypeError, ValueError):  # the function has no signature
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
        """Return the parameters in order, or None if the function takes any number of arguments."""
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
        """Return arguments that are given by name as (positional, by name). Raises UsageError if a value
        does not fit its annotation.
        """
        built = {name: self.build(value, name) for name, value in given.items()}
        args: list[Any] = []
        for parameter in self._positional:
            if parameter.kind is not parameter.POSITIONAL_ONLY or parameter.name not in built:
                break
            args.append(built.pop(parameter.name))
        return args, built

    def build(self, value: Any, place: int | str) -> Any:
        """Return the argument at a position, or of a name, built from JSON or a `Text`. A place without a
        parameter is not refused here. Raises UsageError if the value does not fit the annotation.
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

"""Workflows and arguments as they are written on a command line."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from mini_workflow.cli.annotations import Text, Unfit, annotations_of, build
from mini_workflow.cli.failures import USAGE, Failed
from mini_workflow.engine.client import Client
from mini_workflow.engine.watchdog import DEFAULT_LIMIT
from mini_workflow.errors import MiniWorkflowError, UsageError
from mini_workflow.workflow import REGISTRY, Workflow


def import_modules(names: Iterable[str]) -> None:
    """Import modules, with the current directory on the path, so that their workflows are known.

    A path to a file stands for its module. Raises Failed.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    for name in names:
        module = _module_name(name)
        try:
            importlib.import_module(module)
        except MiniWorkflowError:
            raise
        except (Exception, SystemExit) as error:
            raise Failed(
                f"cannot import {module}: {type(error).__name__}: {error} (looked in {here} too)",
                USAGE,
            ) from error


def _module_name(name: str) -> str:
    if not name.endswith(".py"):
        return name
    path, here = Path(name).resolve(), Path.cwd().resolve()
    if not path.is_file():
        raise UsageError(f"there is no file {name}")
    if not path.is_relative_to(here):
        raise UsageError(f"{name} is not below {here}, where modules are found: go to its folder")
    return ".".join(path.relative_to(here).with_suffix("").parts)


def find_workflow(place: str) -> Workflow[Any, Any]:
    """Return the workflow that MODULE:WORKFLOW names, by its variable or by its own name."""
    module, colon, name = place.partition(":")
    if not colon or not module or not name:
        raise UsageError(f"{place!r} is not MODULE:WORKFLOW, as in orders:order")
    import_modules([module])
    value = getattr(sys.modules.get(_module_name(module)), name, None)
    return cast("Workflow[Any, Any]", value) if isinstance(value, Workflow) else REGISTRY.get(name)


def read_arguments(
    words: Sequence[str], function: Callable[..., Any] | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments from key=value, JSON arrays and JSON objects.

    For a function whose parameters are annotated, values are built to the annotations (see
    `annotations.build`); the context of a workflow is none of them. Others are JSON where they can
    be, and text otherwise. Raises UsageError.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if equals and key.isidentifier():
            found: dict[str, Any] = {key: Text(text)}
        else:
            value = _json(word)
            if isinstance(value, list):
                args.extend(cast("list[Any]", value))
                continue
            if not isinstance(value, dict):
                raise UsageError(
                    f"{word!r} is not an argument: give key=value, a JSON array of positional "
                    "arguments, or a JSON object"
                )
            found = cast("dict[str, Any]", value)
        for name, value in found.items():
            if name in kwargs:
                raise UsageError(f"the argument {name!r} is given twice")
            kwargs[name] = value
    parameters = _Parameters(function)
    return (
        [parameters.build(value, number) for number, value in enumerate(args)],
        {name: parameters.build(value, name) for name, value in kwargs.items()},
    )


def read_value(text: str, function: Callable[..., Any] | None = None) -> Any:
    """One value, for the only parameter of a function: see `read_arguments`."""
    return _Parameters(function).build(Text(text), 0)


class _Parameters:
    """What the parameters of a function are annotated with."""

    def __init__(self, function: Callable[..., Any] | None) -> None:
        found: list[inspect.Parameter] = []
        self._annotations: dict[str, Any] = {}
        if function is not None:
            with suppress(TypeError, ValueError):  # it has no signature
                found = list(inspect.signature(function).parameters.values())
            if isinstance(function, Workflow) and found[0].kind is not found[0].VAR_POSITIONAL:
                del found[0]
            self._annotations = annotations_of(function)
        self._positional = [
            p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        self._named = {
            p.name: p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }
        self._others = {p.kind: p for p in found}

    def build(self, value: Any, place: int | str) -> Any:
        """Return the argument at a position, or of a name. Those that there are
        not, others refuse.
        """
        if isinstance(place, str):
            parameter = self._named.get(place, self._others.get(inspect.Parameter.VAR_KEYWORD))
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


class _NotJson:
    pass


_NOT_JSON = _NotJson()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return _NOT_JSON
    except RecursionError as error:
        raise UsageError(f"{text[:20]!r}... is nested too deeply") from error


def handler_of(
    client: Client, execution_id: str, kind: str, name: str
) -> Callable[..., Any] | None:
    """Return the function of a workflow that handles a signal, query or update of that name, for
    its annotations; None where it is not known.

    It is known where the module of the workflow is imported: the history is replayed to find it, by a
    client that only reads.
    """
    execution = client.get_execution(execution_id)
    if execution.describe().workflow not in REGISTRY.names():
        return None
    from mini_workflow.testing.replaying import replay

    with suppress(MiniWorkflowError):
        replayed = replay(execution.recording(), codec=client.codec, turn_timeout=DEFAULT_LIMIT)
        return replayed.handlers.get((kind, name))
    return None

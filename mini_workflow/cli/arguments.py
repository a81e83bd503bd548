"""Read workflows and arguments as they are written on a command line."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from mini_workflow.annotations import Text
from mini_workflow.cli.failures import USAGE, Failed, status_of
from mini_workflow.engine.client import Client
from mini_workflow.errors import MiniWorkflowError, UsageError
from mini_workflow.parameters import Parameters
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
        except MiniWorkflowError as error:
            raise Failed(f"cannot import {module}: {error}", status_of(error)) from error
        except (Exception, SystemExit) as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name
            remedy = (
                f"change from {here} to the folder where {missing} is, or put that into PYTHONPATH"
                if missing and (module == missing or module.startswith(f"{missing}."))
                else "fix the module, or its requirements"
            )
            raise Failed(
                f"cannot import {module}: {type(error).__name__}: {error}; {remedy}", USAGE
            ) from error


def _module_name(name: str) -> str:
    if not name.endswith(".py"):
        return name
    path, here = Path(name).resolve(), Path.cwd().resolve()
    if not path.is_file():
        raise UsageError(f"there is no file {name}: give a file that exists, or a module's name")
    if not path.is_relative_to(here):
        raise UsageError(
            f"{name} is not below {here}, where modules are found: change to its folder"
        )
    return ".".join(path.relative_to(here).with_suffix("").parts)


def find_workflow(place: str) -> Workflow[Any, Any]:
    """Return the workflow that MODULE:WORKFLOW names, by its variable or by its own name.

    Raises UsageError, UnknownWorkflow, and Failed if the module cannot be imported.
    """
    module, colon, name = place.partition(":")
    if not colon or not module or not name:
        raise UsageError(f"{place!r} names no workflow: give MODULE:WORKFLOW, as in orders:order")
    import_modules([module])
    value = getattr(sys.modules.get(_module_name(module)), name, None)
    return cast("Workflow[Any, Any]", value) if isinstance(value, Workflow) else REGISTRY.get(name)


def read_arguments(
    words: Sequence[str], function: Callable[..., Any] | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Return positional and keyword arguments from key=value, JSON arrays and JSON objects.

    Values of annotated parameters are built to the annotations (see `annotations.build`), the
    context of a workflow left out. Other values are JSON where they can be, and text otherwise.
    Raises UsageError.
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
    parameters = Parameters(function)
    return (
        [parameters.build(value, number) for number, value in enumerate(args)],
        {name: parameters.build(value, name) for name, value in kwargs.items()},
    )


def read_value(text: str, function: Callable[..., Any] | None = None) -> Any:
    """Return one value, for the only parameter of a function: see `read_arguments`."""
    return Parameters(function).build(Text(text), 0)


class _NotJson:
    pass


_NOT_JSON = _NotJson()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return _NOT_JSON
    except RecursionError as error:
        raise UsageError(f"{text[:20]!r}... is nested too deeply: give flatter JSON") from error


def handler_of(
    client: Client, execution_id: str, kind: str, name: str
) -> Callable[..., Any] | None:
    """Return the function with which an execution handles a signal, query or update of that name.

    Replays the history to find it, so that the module of the workflow has to be imported and the
    client has to be one that only reads. None for a handler that is not found. `kind` is "signal",
    "query" or "update".
    """
    from mini_workflow.testing.handlers import handlers_of

    return handlers_of(client, execution_id).get((kind, name))

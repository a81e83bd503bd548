"""Workflows and arguments as they are written on a command line."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from mini_workflow.cli.failures import USAGE, Failed
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
        except Exception as error:
            raise Failed(
                f"cannot import {module}: {type(error).__name__}: {error} (looked in {here} too)",
                USAGE,
            ) from error


def _module_name(name: str) -> str:
    return ".".join(Path(name).with_suffix("").parts) if name.endswith(".py") else name


def find_workflow(place: str) -> Workflow[Any, Any]:
    """The workflow that MODULE:WORKFLOW names, by its variable or by its own name."""
    module, colon, name = place.partition(":")
    if not colon or not module or not name:
        raise UsageError(f"{place!r} is not MODULE:WORKFLOW, as in orders:order")
    import_modules([module])
    value = getattr(sys.modules.get(_module_name(module)), name, None)
    return cast("Workflow[Any, Any]", value) if isinstance(value, Workflow) else REGISTRY.get(name)


def read_arguments(
    words: Sequence[str], workflow: Workflow[Any, Any] | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments from key=value, JSON arrays and JSON objects.

    Values are JSON where they can be, and text otherwise; for a parameter that is annotated as
    `str` they are text unless they are a JSON text. Raises UsageError.
    """
    texts = set[str]() if workflow is None else _text_parameters(workflow)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if equals and key.isidentifier():
            found = {key: read_value(text, as_text=key in texts)}
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
    return args, kwargs


def read_value(text: str, *, as_text: bool = False) -> Any:
    """One value: JSON where it is JSON, text otherwise."""
    value = _json(text)
    if value is _NOT_JSON or (as_text and not isinstance(value, str)):
        return text
    return value


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


def _text_parameters(workflow: Workflow[Any, Any]) -> set[str]:
    try:
        parameters = inspect.signature(workflow.handler, eval_str=True).parameters
    except Exception:  # an annotation that cannot be evaluated says nothing
        parameters = inspect.signature(workflow.handler).parameters
    return {name for name, one in parameters.items() if one.annotation in (str, "str")}

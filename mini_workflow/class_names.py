"""Write the names of modules and classes so that they are the same in every process.

A script is `__main__` where it was started, `__mp_main__` in the processes that it spawned, and has its
own name where it is imported. Histories contain its own name, if an import of that name finds the
script's file. A module that no import finds, as in a notebook or `python -c`, stays `__main__`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

MAIN: Final = "__main__"
SPAWNED_MAIN: Final = "__mp_main__"

_known: tuple[ModuleType | None, str] = (None, MAIN)


def main_module() -> ModuleType:
    """Return the module of the user's script, which a spawned process has as `__mp_main__`."""
    return sys.modules.get(SPAWNED_MAIN) or sys.modules[MAIN]


def main_name() -> str:
    """Return the name under which the main script can be imported, or `__main__`.

    Return `__main__` also if the script was imported too, since that other module has the name.
    """
    global _known
    main = main_module()
    known, name = _known
    if known is not main:
        name = _importable_name(main)
        _known = main, name
    return name if sys.modules.get(name, main) is main else MAIN


def is_main(module: str) -> bool:
    """Return whether a module name is one of the names of the main script."""
    return module in (MAIN, SPAWNED_MAIN) or module == main_name()


def module_name(module: str) -> str:
    """Return the name of a module as histories contain it."""
    return main_name() if module in (MAIN, SPAWNED_MAIN) else module


def name_of(named: Any) -> str:
    """Return ``module:qualname`` of a class or a function."""
    module = getattr(named, "__module__", None) or "builtins"
    return f"{module_name(module)}:{named.__qualname__}"


def current_name(name: str) -> str:
    """Return the present ``module:qualname`` for one that `name_of` wrote, perhaps with `__main__`."""
    module, _, qualname = name.partition(":")
    return f"{module_name(module)}:{qualname}"


def _importable_name(main: ModuleType) -> str:
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name
    file = Path(getattr(main, "__file__", None) or "")
    name = file.stem
    try:
        found = importlib.util.find_spec(name) if name.isidentifier() else None
        if found is not None and found.origin and file.samefile(found.origin):
            return name
    except (ImportError, ValueError, OSError):
        pass
    return MAIN

"""Find the module and the function that a handler names, without running them.

The module is read, not imported, since its environment variables and dependencies may be missing where
the program deploys.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulumi_component.errors import BadPackage

_PATTERN = re.compile(r"(?P<module>[A-Za-z_]\w*(?:[./][A-Za-z_]\w*)*)\.(?P<function>[A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler: `text` as Lambda takes it, its module's name and file, and its function."""

    text: str
    module: str
    function: str
    file: Path

    @property
    def package(self) -> str:
        """The top of the module's name: the package that is deployed, or the module itself."""
        return self.module.partition(".")[0]


def find(text: str, root: Path) -> Handler:
    """Return the handler that "package.module.function" or "package/module.function" names below
    `root`.

    Raises BadPackage: a name of another form, no such module, a module that cannot be read, no such
    function.
    """
    match = check_form(text)
    module = match["module"].replace("/", ".")
    handler = Handler(text, module, match["function"], _file(text, module, root))
    names = _names(handler)
    if names is not None and handler.function not in names:
        defined = ", ".join(sorted(name for name in names if not name.startswith("_"))) or "nothing"
        raise BadPackage(
            f"the handler {text!r}: {handler.file} defines no {handler.function!r} (it defines "
            f"{defined})"
        )
    return handler


def check_form(text: Any) -> re.Match[str]:
    """Raise BadPackage for a text that cannot be a handler, wherever its module is."""
    match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise BadPackage(
            f'the handler {text!r} is not of the form "package.module.function" or '
            '"package/module.function"'
        )
    return match


def _file(text: str, module: str, root: Path) -> Path:
    place = root.joinpath(*module.split("."))
    candidates = [place.with_name(f"{place.name}.py"), place / "__init__.py"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = " or ".join(path.relative_to(root).as_posix() for path in candidates)
    raise BadPackage(
        f"the handler {text!r}: there is no module {module!r}: no {looked} in {root}. Modules are "
        "looked for in the folder of the Pulumi program; the option root names another one"
    )


def _names(handler: Handler) -> set[str] | None:
    """Return what the module defines at its top level; None if that cannot be told
    from its text.
    """
    try:
        parsed = ast.parse(handler.file.read_bytes(), str(handler.file))
    except (SyntaxError, ValueError) as error:
        raise BadPackage(
            f"the handler {handler.text!r}: {handler.file} is not Python: {error}"
        ) from None
    found: set[str] = set()
    for node in _top_level(parsed):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                found.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                if any(alias.name == "*" for alias in aliases):
                    return None
                found |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
    return found


def _top_level(module: ast.Module):
    """Return the nodes of a module that are run when it is imported: none inside of functions."""
    waiting: list[ast.AST] = list(module.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))

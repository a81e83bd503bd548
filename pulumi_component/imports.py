"""Find imports of a handler that a function would not have, before it is deployed."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from pulumi_component.errors import BadPackage
from pulumi_component.handlers import Handler

LAMBDA_HAS = frozenset(
    {
        "awslambdaric",
        "boto3",
        "botocore",
        "dateutil",
        "jmespath",
        "s3transfer",
        "simplejson",
        "six",
        "snapshot_restore_py",
        "urllib3",
    }
)
"""What Lambda's Python runtimes hold besides the standard library. Source: AWS Lambda Developer
Guide, "Building Lambda functions with Python"."""


def check(handler: Handler, folder: Path) -> None:
    """Raise BadPackage if importing the handler needs a module that is not in the folder.

    Looked at are the imports that always take place, in the handler's own package: not those inside
    of functions, conditions and `try`.
    """
    own = [handler.package]
    waiting, seen = [(handler.module, handler.module)], set[str]()
    while waiting:
        module, importer = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top in LAMBDA_HAS:
            continue
        if not _there(folder, top):
            raise BadPackage(
                f"the handler {handler.text!r}: {importer} imports {top}, which its function would "
                "not have. Name its package in requirements, or its folder in include"
            )
        if top in own:
            source = _source(folder, module)
            if source is not None:
                waiting += [(name, module) for name in _imported(source, module)]


def _there(folder: Path, top: str) -> bool:
    # Compiled modules have longer endings.
    return (folder / top).is_dir() or any(folder.glob(f"{top}.*"))


def _source(folder: Path, module: str) -> Path | None:
    place = folder.joinpath(*module.split("."))
    candidates = [place.with_name(f"{place.name}.py"), place / "__init__.py"]
    return next((path for path in candidates if path.is_file()), None)


def _imported(source: Path, module: str) -> Iterator[str]:
    """Return the modules that a module imports whenever it is imported, its own
    packages included.
    """
    package = module if source.name == "__init__.py" else module.rpartition(".")[0]
    try:
        parsed = ast.parse(source.read_bytes(), str(source))
    except (SyntaxError, ValueError):
        return  # The handler's own module has been parsed; others fail where they are imported.
    if "." in module:
        yield module.rpartition(".")[0]
    for node in parsed.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                kept = parents[: len(parents) - node.level + 1]
                base = ".".join([*kept, *filter(None, [node.module])])
            if base:
                yield base
                # Each may be a module of the package, or a name in it.
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")

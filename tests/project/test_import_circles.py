"""No module of the library needs, while it is imported, one that is being imported because of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.paths import ROOT


def module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported, but for those for the type checker."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from module_level(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from module_level(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from module_level(handler.body)


def imported(text: str, modules: set[str]) -> set[str]:
    """Which of the modules a module imports by name, at its own level."""
    found: set[str] = set()
    for node in module_level(ast.parse(text).body):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert not node.level, "imports are absolute"
            names = {f"{node.module}.{name.name}" for name in node.names}
            found |= names & modules
            if not names <= modules:
                found.add(node.module)
    return found & modules


def imports_of(package: str) -> dict[str, set[str]]:
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / package).rglob("*.py")
    }
    modules = set(files)
    return {name: imported(path.read_text("utf-8"), modules) for name, path in files.items()}


@pytest.mark.parametrize("package", ["mini_workflow", "pulumi_component"])
def test_imports_go_in_no_circle(package: str) -> None:
    graph = imports_of(package)
    assert any(graph.values())
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" <- ".join(error.args[1])) from None


def test_a_circle_is_found_and_what_is_imported_later_is_none() -> None:
    modules = {"a", "a.b", "a.c"}
    text = "import os\nfrom a import b\nif TYPE_CHECKING:\n    import a.c\n"
    assert imported(text, modules) == {"a.b"}
    assert imported("def f():\n    import a.c\n", modules) == set()
    assert imported("try:\n    from a.c import x\nexcept E:\n    import a\n", modules) == {
        "a.c",
        "a",
    }
    assert imported("class C:\n    from a.c import x\n", modules) == {"a.c"}
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()

"""The project around the library: what is shipped, what an import costs, and house rules."""

import ast
import builtins
import io
import os
import re
import subprocess
import sys
import tarfile
import tokenize
import tomllib
import venv
import zipfile
from collections import Counter
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

import mini_workflow
from mini_workflow import errors
from tests.paths import ROOT
from tools import hygiene, pythons

LIBRARY = ROOT / "mini_workflow"
COMPONENTS = ROOT / "pulumi_component"
MODULES = sorted([*LIBRARY.rglob("*.py"), *COMPONENTS.rglob("*.py")])

LONGEST_MODULE = 450
"""Lines of code: docstrings, comments and blank lines do not count, so that no limit asks for a cut
that is no seam."""

LONGEST_VERB = 350
"""Lines of a durable verb, all counted."""

every_module = pytest.mark.parametrize(
    "module", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# The public door


def test_importing_the_library_imports_no_optional_dependency() -> None:
    listed = run(sys.executable, "-c", "import sys, mini_workflow; print(*sys.modules)")
    loaded = {name.partition(".")[0] for name in listed.split()}
    optional = {"boto3", "botocore", "click", "rich", "pydantic", "pytest", "hypothesis"}
    assert "mini_workflow" in loaded
    assert loaded.isdisjoint(optional | {"pulumi", "pulumi_aws", "pulumi_random"})


def test_all_is_sorted_and_complete() -> None:
    public = mini_workflow.__all__
    assert list(public) == sorted(set(public))
    assert [name for name in public if not hasattr(mini_workflow, name)] == []


def test_every_error_is_public() -> None:
    assert set(error_classes()) <= set(mini_workflow.__all__)


# The tree of errors


def error_classes() -> dict[str, type[BaseException]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.MiniWorkflowError)
    }


def drawn_tree() -> list[tuple[str, str, str]]:
    """(name, name of the parent, note) for each line of the tree in the module's docstring."""
    path: list[str] = []
    drawn: list[tuple[str, str, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.fullmatch(r"((?:[│ ] {3})*(?:[├└]── )?)([A-Z]\w+)(?: {2,}(.*))?", line):
            depth = len(match[1]) // 4
            del path[depth:]
            drawn.append((match[2], path[-1] if path else "Exception", match[3] or ""))
            path.append(match[2])
    return drawn


def test_the_tree_is_drawn_as_the_classes_inherit() -> None:
    inherited = {name: value.__bases__[0].__name__ for name, value in error_classes().items()}
    assert {name: parent for name, parent, _ in drawn_tree()} == inherited


def test_the_tree_is_drawn_in_the_order_of_the_classes() -> None:
    assert [name for name, _, _ in drawn_tree()] == list(error_classes())


def test_notes_about_second_bases_are_true() -> None:
    for name, _, note in drawn_tree():
        if match := re.match(r"\(also an? (\w+)\)", note):
            bases = [base.__name__ for base in error_classes()[name].__mro__]
            assert match[1] in bases, name


def test_every_error_says_what_it_means() -> None:
    assert [name for name, value in error_classes().items() if not value.__dict__["__doc__"]] == []


# House rules


def code_lines(text: str) -> int:
    """How many lines of a module hold code."""
    not_code = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    not_code |= {tokenize.ENCODING, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in not_code:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        for inner in body if isinstance(body, list) else ():
            if (
                isinstance(inner, ast.Expr)
                and isinstance(inner.value, ast.Constant)
                and isinstance(inner.value.value, str)
            ):
                lines -= set(range(inner.lineno, (inner.end_lineno or inner.lineno) + 1))
    return len(lines)


def test_lines_of_code_are_counted_without_docstrings_comments_and_blanks() -> None:
    text = '"""What it is.\n\nMore."""\n\n# a reason\nX = """\ntext\n"""\n"""Its meaning."""\n'
    assert code_lines(text) == 3


@pytest.mark.parametrize(
    "verb", ["tasks", "timers", "promises", "children", "messages", "conditions"]
)
def test_a_durable_verb_is_one_file(verb: str) -> None:
    """It owns what the code asks for and what arrives, and can be read at one go."""
    text = (LIBRARY / "core" / f"{verb}.py").read_text()
    assert f"class {verb.capitalize()}:" in text
    assert len(text.splitlines()) <= LONGEST_VERB


def bases_of_classes() -> dict[str, list[str]]:
    """The classes of the library and the components with their bases, all by their full names."""
    found: dict[str, list[str]] = {}
    for module in MODULES:
        name = ".".join(module.relative_to(ROOT).with_suffix("").parts)
        tree = ast.parse(module.read_text())
        imported = {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = (
                    base.value if isinstance(base, ast.Subscript) else base for base in node.bases
                )
                texts = map(ast.unparse, bases)
                found[f"{name}.{node.name}"] = [
                    imported.get(text, f"{name}.{text}") for text in texts
                ]
    return found


def is_exception(name: str, classes: dict[str, list[str]]) -> bool:
    builtin = getattr(builtins, name.rpartition(".")[2], None)
    if isinstance(builtin, type) and issubclass(builtin, BaseException):
        return True
    return any(is_exception(base, classes) for base in classes.get(name, ()))


def test_no_class_is_cut_in_two_by_inheritance() -> None:
    """A base class with a single subclass beside it is one class in two places: let the one hold the
    other. Protocols and exceptions are no such bases.
    """
    classes = bases_of_classes()
    derived = Counter(base for bases in classes.values() for base in bases)
    cut = [
        f"{base} <- {name}"
        for name, bases in classes.items()
        for base in bases
        if base in classes
        and derived[base] == 1
        and base.split(".")[:2] == name.split(".")[:2]
        and "typing.Protocol" not in classes[base]
        and not is_exception(base, classes)
    ]
    assert cut == []


@every_module
def test_module_has_a_purpose_and_a_bound(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    lines = code_lines(text)
    assert lines <= LONGEST_MODULE, f"{lines} lines of code: find the seam"
    assert ast.get_docstring(ast.parse(text)), "the first line says what the module is for"
    assert module.stem not in {"utils", "util", "helpers", "common", "misc"}


VERBS = frozenset(
    re.findall(
        r"\w+",
        """
        Acquire Add Allow Answer Append Apply Archive Ask Assert Begin Bring Call Cancel Change
        Check Close Commit Compare Complete Copy Count Create Cut Decide Declare Delete Deliver
        Dispatch Do Draw Drop Encode End Enter Evict Exchange Execute Export Extend Fail Feed
        Fill Find Finish Forget Free Give Go Grant Hand Handle Have Hear Hold Import Install
        Iterate Join Jump Keep Kill Know Leave Lend Let List Log Look Make Mark Measure Move
        Note Notice Open Post Print Put Query Quit Raise Read Receive Record Reduce Refuse
        Release
        Remember Remove Replace Replay Report Resume Return Run Save Say See Send Set Show
        Start Stop Submit Surround Sweep Take Talk Tell Terminate Try Turn Wait Wake Warn Watch
        Write
        """,
    )
)
"""The first words of docstrings: in the imperative. Add a verb if none of these says what is done."""

NO_SUBJECT = r"(?:who(?:m|se)?|what|which|when|where|whether|how|why|it)\b"
"""The beginning of a sentence without a noun, such as "What has arrived"."""


def documented(module: Path) -> Iterator[tuple[str, str, str]]:
    """(place, first line, pattern that it must not match) of a module, its classes and functions."""
    text = module.read_text(encoding="utf-8")
    tree = ast.parse(text)
    unnamed = rf"(?:\w+(?: \w+)?(?:\(\))?: )?{NO_SUBJECT}"
    not_a_verb = rf"(?!(?:{'|'.join(VERBS)})\b)"
    # The shapes of the simulation are workflows, which do what their docstrings describe.
    any_function = NO_SUBJECT if "simulation" in module.parts else not_a_verb
    yield module.name, (ast.get_docstring(tree) or "").partition("\n")[0], unnamed
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        place, line = f"{module.name}:{node.lineno} {node.name}", ast.get_docstring(node) or ""
        marks = " ".join(map(ast.unparse, node.decorator_list))
        if isinstance(node, ast.ClassDef):
            yield place, line.partition("\n")[0], NO_SUBJECT
        elif line and not (
            node.name.startswith(("_", "test_")) or re.search("property|fixture", marks)
        ):
            yield place, line.partition("\n")[0], any_function


@every_module
def test_docstrings_begin_with_a_verb(module: Path) -> None:
    """Public functions say what they do, in the imperative. Modules and classes have a subject."""
    wrong = [
        f"{place}: {line}"
        for place, line, pattern in documented(module)
        if re.match(pattern, line, re.IGNORECASE)
    ]
    assert wrong == []


# What is shipped


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in requirements}


def test_dill_is_the_only_dependency() -> None:
    assert names(project()["dependencies"]) == {"dill"}


def test_extras() -> None:
    extras = {extra: names(needs) for extra, needs in project()["optional-dependencies"].items()}
    assert extras["aws"] == {"boto3"}
    assert extras["cli"] == {"click", "rich"}
    assert extras["pulumi"] == {"pulumi", "pulumi-aws", "pulumi-random"}
    assert extras["dev"] >= {"mini-workflow", "import-linter", "pyright", "ruff"}


@pytest.mark.parametrize("profile", ["dev", "test"])
def test_pins_cover_what_the_project_asks_for(profile: str) -> None:
    pins = (ROOT / "requirements" / f"{profile}.txt").read_text().splitlines()
    extras = project()["optional-dependencies"]
    wanted = {"dill"} | names(extras["aws"] + extras["cli"] + extras["test"])
    if profile == "dev":
        wanted |= names(extras["dev"])
    assert names(pins) >= wanted - {"mini-workflow"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sources")
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder)
    (built,) = folder.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
    assert {"mini_workflow/py.typed", "pulumi_component/py.typed"} <= shipped
    assert "pulumi_component/PulumiPlugin.yaml" in shipped
    assert {path.relative_to(ROOT).as_posix() for path in MODULES} <= shipped
    tops = {name.partition("/")[0] for name in shipped}
    assert {top for top in tops if not top.endswith(".dist-info")} <= {
        "mini_workflow",
        "pulumi_component",
    }


def test_wheel_asks_for_dill_alone(metadata: Message) -> None:
    needs = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert names(needs) == {"dill"}
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"


def test_the_page_of_a_package_index_links_to_no_file_beside_it(metadata: Message) -> None:
    page = str(metadata.get_payload())
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "# " in page
    assert [link for link in re.findall(r"\]\(([^)]*)\)", page) if "://" not in link] == []
    assert "the guide (`docs/guide.md`)" in page


def test_the_source_distribution_holds_what_a_checkout_holds(sources: Path) -> None:
    for path in ("Makefile", ".ci/run", "docs/guide.md", "requirements/dev.txt", "tools/env.py"):
        assert (sources / path).is_file(), path
    assert not list(sources.rglob(".mini-workflow")), "what a run leaves behind"
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")} == {
        path.relative_to(sources).as_posix() for path in (sources / "tests").rglob("test_*.py")
    }


def test_the_tests_of_the_source_distribution_run(sources: Path) -> None:
    said = run(sys.executable, "-m", "pytest", "-q", "tests/unit/core/test_wire.py", cwd=sources)
    assert " passed" in said
    place = "import mini_workflow; print(mini_workflow.__file__)"
    assert Path(run(sys.executable, "-c", place, cwd=sources).strip()).is_relative_to(sources)


def test_wheel_works_where_there_is_nothing_but_dill(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "empty", symlinks=True)
    python = tmp_path / "empty" / "bin" / "python"
    install = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile", wheel]
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, *install)
    # No network here: dill is lent by the environment of the tests, dill alone.
    (site,) = (tmp_path / "empty").glob("lib/python*/site-packages")
    (site / "dill").symlink_to(Path(str(distribution("dill").locate_file("dill"))))
    source = "import mini_workflow, sys; print(mini_workflow.__file__, sys.prefix, sep='\\n')"
    place, prefix = run(python, "-I", "-W", "error", "-c", source, cwd=tmp_path).splitlines()
    assert Path(prefix) == tmp_path / "empty"
    assert Path(place).is_relative_to(site)


# The tools


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("docs/a.md", "see " + "/".join(["", "home", "ann", "notes"])),
        ("tools/a.py", f"open('{ROOT}/a')"),
        ("docs/a.md", "from https:" + "//mirror.local/simple/"),
        ("requirements/a.txt", "--extra-index-url=somewhere"),
        ("requirements/a.txt", "dill @ file:///a.whl"),
    ],
)
def test_hygiene_finds_traces_of_a_machine(path: str, line: str) -> None:
    assert [number for number, _ in hygiene.findings(path, f"six==1.0\n{line}", [])][:1] == [2]


def test_hygiene_leaves_the_rest_alone() -> None:
    lines = [
        "http://localhost:5000 http://127.0.0.1:8000/x https://api.example.com",
        "https:" + "//docs.known.org/page",
        "runs/home/work and ~/work/x and .venv/bin/python and /var/task",
    ]
    assert list(hygiene.findings("docs/a.md", "\n".join(lines), ["known.org"])) == []


def test_the_running_python_is_found() -> None:
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in pythons.find()


def test_a_python_that_does_not_start_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert "3.99" not in pythons.find()


def test_a_python_that_is_missing_is_an_error() -> None:
    with pytest.raises(pythons.MissingPython, match=r"no usable Python 3\.999"):
        pythons.choose(["3.999"])

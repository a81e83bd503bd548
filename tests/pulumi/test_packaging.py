"""Packaging: from a handler to a folder that runs where there is nothing else, always the same."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pulumi_component import BadPackage, staging, wheels
from pulumi_component.wheels import Target
from tests.paths import ROOT
from tests.pulumi.runtime_api import InitFailed, RuntimeAPI
from tools import env

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
TARGET = Target(PYTHON, "x86_64")


def stage(
    root: Path,
    handler: str = "app.index.api",
    target: Target = TARGET,
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Path:
    return staging.stage(staging.plan(handler, root, target, **options), root, say)


def content(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Path -> (mode, time, hash) of everything in a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_mode,
            round(path.stat().st_mtime),
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


def top(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# What goes in


def test_a_function_gets_its_package_the_library_and_dill(root: Path) -> None:
    assert top(stage(root)) == {"app", "mini_workflow", "dill"}


def test_a_module_by_itself_comes_alone(root: Path) -> None:
    (root / "single.py").write_text("def handle(event, context):\n    return event\n")
    assert top(stage(root, "single.handle")) == {"single.py", "mini_workflow", "dill"}


def test_what_a_function_cannot_use_stays_out(root: Path) -> None:
    for name in ("__pycache__/x.pyc", ".git/config", ".env", "old.pyc", "node_modules/a.js"):
        (root / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "app" / name).write_text("x")
    (root / "app" / "data.json").write_text("{}")
    folder = stage(root)
    assert top(folder / "app") == {"__init__.py", "index.py", "data.json"}
    assert not list(folder.rglob("*.pyc"))
    assert not {"testing", "cli"} & top(folder / "mini_workflow")


def test_include_adds_files_and_folders(root: Path) -> None:
    for name in ("shared/a.json", "shared/deep/b.json", "shared/c.txt", "whole/d/e.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    folder = stage(root, include=["shared/**/*.json", "whole"])
    included = [path for path in content(folder) if path.startswith(("shared", "whole"))]
    assert included == [
        "shared", "shared/a.json", "shared/deep", "shared/deep/b.json", "whole", "whole/d",
        "whole/d/e.txt",
    ]  # fmt: skip


# The same every time


def test_the_same_sources_give_the_same_bytes_wherever_and_whenever(
    root: Path, tmp_path: Path
) -> None:
    first = stage(root)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "app").mkdir(parents=True)
    for name in ("index.py", "__init__.py"):
        (elsewhere / "app" / name).write_bytes((root / "app" / name).read_bytes())
        os.utime(elsewhere / "app" / name, (1, 1))
        (elsewhere / "app" / name).chmod(0o600)
    second = stage(elsewhere)
    assert second.name == first.name
    assert content(second) == content(first)


def test_the_second_time_nothing_is_done(root: Path) -> None:
    said: list[str] = []
    first = stage(root, say=said.append)
    assert len(said) == 1
    assert said[0].startswith("app.index.api: packaged, ")
    made = first.stat().st_ctime_ns
    assert stage(root, "app.index.execute", say=said.append) == first
    assert first.stat().st_ctime_ns == made
    assert len(said) == 1


def test_a_change_gives_another_folder(root: Path) -> None:
    before = stage(root)
    with (root / "app" / "index.py").open("a") as source:
        source.write("\nMORE = 1\n")
    after = stage(root)
    assert after != before
    assert (after / "app" / "index.py").read_text().endswith("MORE = 1\n")


def test_what_was_interrupted_is_begun_again(root: Path) -> None:
    whole = stage(root)
    expected = content(whole)
    half = whole.with_name(f"{whole.name}.part")
    whole.rename(half)
    (half / "app" / "index.py").unlink()
    (half / "rest of an earlier attempt").touch()
    assert content(stage(root)) == expected
    assert not half.exists()


def test_the_cache_is_not_for_git(root: Path) -> None:
    stage(root)
    assert (root / ".mini-workflow" / ".gitignore").read_text() == "*\n"


# What runs


def test_a_function_answers_where_there_is_nothing_else(root: Path) -> None:
    (root / "app" / "tasks.py").write_text(
        "import dill, mini_workflow\n"
        "def run(event, context):\n"
        "    @mini_workflow.workflow('double')\n"
        "    async def double(ctx, n):\n"
        "        return 2 * n\n"
        "    task = dill.loads(dill.dumps(lambda: event['n'] + 1))\n"
        "    return [task(), mini_workflow.__file__, dill.__file__]\n"
    )
    folder = stage(root, "app.tasks.run")
    with RuntimeAPI(folder, "app.tasks.run") as function:
        value, library, dill = function.call({"n": 41})
    assert value == 42
    assert Path(library).is_relative_to(folder)
    assert Path(dill).is_relative_to(folder)


@pytest.mark.parametrize("handler", ["app.index.api", "app/index.api"])
def test_both_forms_of_a_handler_are_taken(root: Path, handler: str) -> None:
    with RuntimeAPI(stage(root, handler), handler) as function:
        assert function.call(1) == ["api", 1]


def test_a_package_that_is_not_asked_for_is_missing(root: Path) -> None:
    source = "try:\n    import yaml\nfinally:\n    pass\ndef api(event, context): pass\n"
    (root / "app" / "index.py").write_text(source)
    with (
        pytest.raises(InitFailed, match="No module named 'yaml'"),
        RuntimeAPI(stage(root), "app.index.api"),
    ):
        pass


@pytest.mark.parametrize(
    ("source", "importer"),
    [
        ("import yaml", "app.index"),
        ("from yaml.nodes import Node", "app.index"),
        ("from . import helper", "app.helper"),
        ("from app import helper as h", "app.helper"),
        ("import app.helper", "app.helper"),
        ("from .helper import x", "app.helper"),
    ],
)
def test_an_import_that_the_function_would_not_have(root: Path, source: str, importer: str) -> None:
    (root / "app" / "helper.py").write_text("import json, yaml\nx = 1\n")
    (root / "app" / "index.py").write_text(f"{source}\ndef api(event, context): pass\n")
    with pytest.raises(BadPackage, match=f"{importer} imports yaml, which its function would not"):
        stage(root)


def test_imports_that_there_are_and_those_that_may_not_take_place(
    root: Path, packages: Path
) -> None:
    (root / "shared").mkdir()
    (root / "shared" / "thing.py").write_text("")
    wheel(packages, "stated", "1", "py3-none-any")
    (root / "app" / "index.py").write_text(
        "from __future__ import annotations\n"
        "import os.path, boto3, dill, mini_workflow.errors, shared.thing, stated\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import unheard_of\n"
        "def api(event, context):\n    import unheard_of\n"
    )
    stage(root, include=["shared"], requirements=["stated"])


def test_the_example_runs_as_it_is_packaged() -> None:
    root = ROOT
    folder = stage(root, "example.index.api")
    request = {"requestContext": {"http": {"method": "GET"}}, "rawPath": "/"}
    with RuntimeAPI(folder, "example.index.api", {"BUCKET": "b"}) as function:
        assert function.call(request)["statusCode"] == 404


# Handlers that are not there


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        ("app.index", "no module 'app'|defines no 'index'"),
        ("index", "is not of the form"),
        ("app.index:api", "is not of the form"),
        ("../app.index", "is not of the form"),
        (
            "app.missing.api",
            "no module 'app.missing': no app/missing.py or app/missing/__init__.py",
        ),
        ("app.index.apu", "index.py defines no 'apu' \\(it defines api, execute, orchestrate\\)"),
    ],
)
def test_handlers_that_are_not_there(root: Path, handler: str, told: str) -> None:
    with pytest.raises(BadPackage, match=told):
        stage(root, handler)
    assert not (root / ".mini-workflow").exists()


@pytest.mark.parametrize(
    "source",
    [
        "class api: pass",
        "async def api(): pass",
        "from somewhere import api",
        "from somewhere import other as api",
        "from somewhere import *",
        "import api.submodule",
        "one, (api, two) = several()",
        "api = runtime.execute",
        "if True:\n    api = 1\nelse:\n    pass",
        "try:\n    from a import api\nexcept ImportError:\n    api = None",
    ],
)
def test_whatever_gives_a_module_a_name_counts(root: Path, source: str) -> None:
    (root / "app" / "index.py").write_text(source)
    assert staging.plan("app.index.api", root, TARGET).handler.function == "api"


@pytest.mark.parametrize("source", ["def f():\n    api = 1", "class C:\n    api = 1", "api", ""])
def test_what_is_inside_of_something_does_not(root: Path, source: str) -> None:
    (root / "app" / "index.py").write_text(source)
    with pytest.raises(BadPackage, match="defines no 'api'"):
        staging.plan("app.index.api", root, TARGET)


def test_nothing_of_the_program_is_run(root: Path) -> None:
    (root / "app" / "index.py").write_text("api = 1\nraise SystemExit('it was run')\n")
    assert stage(root).is_dir()


def test_sources_that_are_no_python(root: Path) -> None:
    (root / "app" / "index.py").write_text("def api(:\n")
    with pytest.raises(BadPackage, match=r"index\.py is not Python"):
        stage(root)


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../secret", "missing/*"])
def test_patterns_that_lead_nowhere_or_elsewhere(root: Path, pattern: str) -> None:
    with pytest.raises(BadPackage, match="include"):
        stage(root, include=[pattern])


def test_another_python_than_the_deploying_one(root: Path) -> None:
    with pytest.raises(BadPackage, match=rf"Python 3\.99 and this program on {PYTHON}"):
        stage(root, target=Target("3.99", "x86_64"))


def test_a_function_that_is_too_large(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "LARGEST_UNZIPPED", 10_000)
    (root / "app" / "large.bin").write_bytes(os.urandom(5_000_000))
    with pytest.raises(BadPackage, match=r"Lambda takes 0\.0 MB \(the largest parts: app 5\.0 MB"):
        stage(root)
    assert [path.name for path in (root / staging.CACHE).iterdir()] == ["lock"]


# Wheels


def wheel(folder: Path, name: str, version: str, tag: str, needs: str = "") -> None:
    """A package in a folder, which pip finds there, with a script."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    if needs:
        metadata += f"Requires-Dist: {needs}\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as package:
        package.writestr(f"{name}/__init__.py", f"VERSION = {version!r}\nTAG = {tag!r}\n")
        package.writestr(f"{info}/METADATA", metadata)
        package.writestr(
            f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
        )
        package.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name} = {name}:main\n")
        package.writestr(f"{info}/RECORD", "")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of packages in a folder, the only one that pip looks into."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    minor = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    wheel(folder, "pure", "1.0", "py3-none-any", needs="deeper")
    wheel(folder, "deeper", "2.0", "py3-none-any")
    for machine in ("x86_64", "aarch64"):
        wheel(folder, "native", "1.0", f"{minor}-{minor}-manylinux2014_{machine}")
    wheel(folder, "intel", "1.0", f"{minor}-{minor}-manylinux_2_17_x86_64")
    wheel(folder, "foreign", "1.0", f"{minor}-{minor}-macosx_11_0_arm64")
    (folder / "source-1.0.tar.gz").write_bytes(b"whatever")
    return folder


def test_requirements_come_with_what_they_need(root: Path, packages: Path) -> None:
    said: list[str] = []
    folder = stage(root, requirements=["pure==1.0"], say=said.append)
    assert said[0] == "app.index.api: fetching pure==1.0"
    assert {"pure", "deeper"} <= top(folder)
    # Scripts hold the path of an interpreter, and records when they were made.
    assert "bin" not in top(folder)
    assert top(folder / "pure-1.0.dist-info") == {"METADATA", "WHEEL", "entry_points.txt"}


def test_wheels_are_those_of_the_function_and_not_of_this_machine(
    root: Path, packages: Path
) -> None:
    for architecture, machine in (("x86_64", "x86_64"), ("arm64", "aarch64")):
        folder = stage(root, target=Target(PYTHON, architecture), requirements=["native"])
        assert machine in (folder / "native" / "__init__.py").read_text()


def test_requirements_may_be_in_a_file(root: Path, packages: Path) -> None:
    lines = "# what we need\n\npure  # for a reason\nmini-workflow[aws]>=0.1\n"
    (root / "requirements.txt").write_text(lines)
    folder = stage(root, requirements="requirements.txt")
    assert {"pure", "deeper", "mini_workflow"} <= top(folder)


def test_wheels_are_fetched_once(
    root: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stage(root, requirements=["pure"])
    monkeypatch.setenv("PIP_FIND_LINKS", os.devnull)
    (root / "app" / "index.py").write_text("api = 2\n")
    second = stage(root, requirements=["pure"])
    assert second != first
    assert "pure" in top(second)


def test_wheels_installed_twice_are_the_same_bytes(root: Path, packages: Path) -> None:
    first = content(stage(root, requirements=["pure", "native"]))
    shutil.rmtree(root / ".mini-workflow")
    assert content(stage(root, requirements=["pure", "native"])) == first


@pytest.mark.parametrize(
    ("requirement", "architecture", "told"),
    [
        ("source", "x86_64", rf"no wheel of source for Python {PYTHON} on x86_64"),
        ("foreign", "x86_64", r"no wheel of foreign"),
        ("intel", "arm64", rf"no wheel of intel for Python {PYTHON} on arm64"),
        ("nowhere==9", "x86_64", r"no wheel of nowhere==9"),
        ("dill==0.0.1", "x86_64", r"dill==0\.0\.1 cannot be installed|no wheel of dill"),
        ("--index-url=x", "x86_64", r"'--index-url=x' is not the name of a package"),
        ("./local", "x86_64", r"'\./local' is not the name of a package"),
        ("git+https://example.com/x", "x86_64", r"is not the name of a package"),
    ],
)
def test_requirements_without_a_wheel_are_refused(
    root: Path, packages: Path, requirement: str, architecture: str, told: str
) -> None:
    with pytest.raises(BadPackage, match=told):
        stage(root, target=Target(PYTHON, architecture), requirements=[requirement])
    cache = root / staging.CACHE
    assert not [path for path in cache.glob("*-*") if not path.name.endswith(".part")]


def test_uv_fetches_where_there_is_no_pip(
    root: Path, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(packages, "stated", "1", "py3-none-any")
    monkeypatch.setattr(wheels, "has_pip", lambda: False)
    monkeypatch.setenv("PATH", str(env.tools()))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(packages))
    folder = stage(root, requirements=["stated"])
    assert (folder / "stated" / "__init__.py").is_file()
    with pytest.raises(BadPackage, match=r"requirements: nowhere==9 cannot be installed"):
        stage(root, requirements=["nowhere==9"])


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.14"])
@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
def test_uv_knows_the_platforms(
    python: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "has_pip", lambda: False)
    monkeypatch.setenv("PATH", str(env.tools()))
    asked = [*wheels._installer(Target(python, architecture)), "--help"]
    assert subprocess.run(asked, capture_output=True, check=False).returncode == 0


def test_neither_pip_nor_uv(
    root: Path, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "has_pip", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadPackage, match=r"neither pip is installed for .*, nor uv anywhere"):
        stage(root, requirements=["stated"])


def test_a_file_of_requirements_that_is_not_there(root: Path) -> None:
    with pytest.raises(BadPackage, match=r"requirements: missing\.txt cannot be read"):
        stage(root, requirements="missing.txt")


@pytest.mark.parametrize(
    ("python", "newest"), [("3.11", "manylinux_2_26_x86_64"), ("3.12", "manylinux_2_34_x86_64")]
)
def test_platforms_are_those_of_the_runtime(python: str, newest: str) -> None:
    platforms = Target(python, "x86_64").platforms
    assert platforms[0] == newest
    assert platforms[-2:] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64"]

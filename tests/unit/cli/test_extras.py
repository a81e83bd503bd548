"""Whatever needs a package of an extra says which extra that is, where it is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.unit.cli.world import PROGRAM, World


def without(folder: Path, *packages: str) -> dict[str, str]:
    """An environment in which these packages cannot be imported."""
    place = folder / "without"
    place.mkdir()
    (place / "sitecustomize.py").write_text(
        f"import sys\nfor name in {packages!r}:\n    sys.modules[name] = None\n"
    )
    return {"PYTHONPATH": f"{place}{os.pathsep}{ROOT}"}


def python(environment: dict[str, str], program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ("--bucket", "b", "ls"),
        ("--bucket", "b", "get", "x"),
        ("--bucket", "b", "export", "histories"),
        ("--bucket", "b", "start", "cli_flows:who"),
        ("--bucket", "b", "replay", "x", "cli_flows"),
        ("--bucket", "b", "dlq", "ls"),
    ],
    ids=lambda words: words[2],
)
def test_the_command_on_aws(mw: World, words: tuple[str, ...]) -> None:
    mw.environment |= {
        **without(mw.folder, "boto3"),
        "MINI_WORKFLOW_SIGNING_KEY": "k" * 32,
        "QUEUE_URL": "http://127.0.0.1:1/q",
    }
    said = mw(*words, status=6)
    assert 'pip install "mini-workflow[aws]"' in said.err
    assert len(said.err.splitlines()) == 1


def test_doctor_on_aws(mw: World) -> None:
    mw.environment |= without(mw.folder, "boto3")
    said = mw("--bucket", "b", "doctor", "--json", status=1).json
    (problem,) = [one for one in said["findings"] if one["level"] == "problem"]
    assert 'pip install "mini-workflow[aws]"' in problem["what"]


def test_the_runtime_on_aws(tmp_path: Path) -> None:
    told = python(
        without(tmp_path, "boto3"),
        "from mini_workflow import AWSRuntime\n"
        "AWSRuntime.from_env({'BUCKET_NAME': 'b'}).list_executions()",
    )
    assert 'pip install "mini-workflow[aws]"' in told


@pytest.mark.parametrize("name", ["PostgresRuntime", "PostgresClient"])
def test_the_runtime_on_postgres(tmp_path: Path, name: str) -> None:
    told = python(
        without(tmp_path, "psycopg"),
        f"from mini_workflow import *\n{name}('postgresql://127.0.0.1:1/db')",
    )
    assert 'pip install "mini-workflow[postgres]"' in told


def test_the_command_on_postgres(mw: World) -> None:
    mw.environment |= without(mw.folder, "psycopg")
    said = mw("--backend", "postgresql://127.0.0.1:1/db", "ls", status=6)
    assert "mini-workflow[postgres]" in said.err
    assert len(said.err.splitlines()) == 1


def test_the_pages(mw: World) -> None:
    mw("start", "cli_flows:who")
    mw.environment |= without(mw.folder, "starlette")
    assert "pip install 'mini-workflow[ui]'" in mw("ui", status=6).err


@pytest.mark.parametrize("package", ["pulumi", "pulumi_aws", "pulumi_random"])
def test_the_component(tmp_path: Path, package: str) -> None:
    told = python(without(tmp_path, package), "import pulumi_component")
    assert package in told
    assert 'pip install "mini-workflow[pulumi]"' in told


@pytest.mark.parametrize("package", ["click", "rich"])
def test_the_command(tmp_path: Path, package: str) -> None:
    done = subprocess.run(
        [PROGRAM, "ls"],
        env={**os.environ, **without(tmp_path, package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6
    assert f"the package {package}" in done.stderr
    assert 'pip install "mini-workflow[cli]"' in done.stderr

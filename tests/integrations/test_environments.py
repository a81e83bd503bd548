"""Tests that run in environments of their own: of frameworks that are made durable by hand, and of the
oldest releases that the integrations support.
"""

from __future__ import annotations

import subprocess
import tomllib

import pytest

from tests.paths import ROOT
from tools import env

OF_AGENTS = [
    *(f"tests/integrations/test_{name}.py" for name in ("both_frameworks", "golden_agents")),
    *(f"tests/integrations/test_{name}.py" for name in ("openai_agents", "pydantic_ai")),
    *("-k", "replay or pinned"),
]
"""Golden histories, and the rest with a replay at every event."""


@pytest.mark.parametrize(
    ("profile", "asked"),
    [
        pytest.param("frameworks", ["tests/frameworks"], id="frameworks"),
        pytest.param("oldest-agents", OF_AGENTS, id="oldest-agents"),
    ],
)
def test_in_an_environment_of_its_own(profile: str, asked: list[str]) -> None:
    command = [env.beside(profile), "-m", "pytest", "-q", "--durations=5", *asked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize("extra", ["openai-agents", "pydantic-ai"])
def test_the_oldest_release_that_is_tested_is_the_bound(extra: str) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    (bound,) = extras[extra]
    assert bound.replace(">=", "==") in extras["oldest-agents"]

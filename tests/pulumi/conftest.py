"""Where the handlers of the tests are."""

from pathlib import Path

import pytest

from pulumi_component import bundle, staging
from tests.pulumi.recording import give_loop

HANDLERS = '''\
"""Handlers that answer with who they are."""


def execute(event, context):
    return ["worker", event]


def orchestrate(event, context):
    return ["orchestrator", event]


def api(event, context):
    return ["api", event]
'''


@pytest.fixture(autouse=True)
def _loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any test that has called asyncio.run before has left this thread without an event loop. All
    programs of a process have the same one: the SDK keeps what belongs to it.
    """
    loop = give_loop()
    monkeypatch.setattr(bundle, "_loop", lambda: loop)


@pytest.fixture(scope="session")
def _packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages") / "kept"


@pytest.fixture
def packaged_once(_packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has packaged, the next one finds: most have the same handlers."""
    monkeypatch.setattr(staging, "CACHE", str(_packages))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a program, with a package `app` in it."""
    return new_root(tmp_path)


def new_root(parent: Path) -> Path:
    folder = parent / "program"
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "__init__.py").touch()
    (folder / "app" / "index.py").write_text(HANDLERS)
    return folder

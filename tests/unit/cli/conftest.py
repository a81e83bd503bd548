"""Folders in which the installed command is run, and those who serve them."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dill
import pytest

import mini_workflow
from mini_workflow.settings import ORCHESTRATOR_FUNCTION_NAME
from tests.unit.cli.world import World

if TYPE_CHECKING:
    from tests.aws.emulator.server import Server

FLOWS = Path(__file__).with_name("cli_flows.py")


def _import_flows() -> None:
    """Under the name that it has where the command runs: values name their classes by it."""
    spec = importlib.util.spec_from_file_location("cli_flows", FLOWS)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["cli_flows"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


_import_flows()

HANDLER = """\
import cli_flows
from mini_workflow import AWSRuntime

orchestrate = AWSRuntime.from_env().orchestrate
"""


@pytest.fixture
def mw(tmp_path: Path) -> World:
    """The command in a folder of its own, on a file that nobody serves."""
    return new_world(tmp_path)


@pytest.fixture(scope="module", params=["sqlite", "aws"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The command where somebody runs the executions, for all tests of a module."""
    world = new_world(tmp_path_factory.mktemp("served"))
    if request.param == "sqlite":
        with world.served():
            yield world
    else:
        with on_aws(world, request.getfixturevalue("aws")):
            yield world


def new_world(folder: Path) -> World:
    shutil.copy(FLOWS, folder)
    return World(folder)


@contextmanager
def on_aws(world: World, server: Server) -> Iterator[None]:
    """Executions on the emulator. Its queue and the worker function are served here; what the
    command asks the orchestrator directly is answered by a function on the emulator.
    """
    from tests.aws.cloud import EmulatedCloud
    from tests.aws.emulator import functions
    from tests.unit.cli.dead_letter_queues import deploy_queues

    cloud = EmulatedCloud(server)
    try:
        world.environment |= {
            "MINI_WORKFLOW_BACKEND": "aws",
            **server.environment(),
            **cloud.environment,
        }
        package = {"handler.py": HANDLER, "cli_flows.py": FLOWS.read_text()}
        for module in (mini_workflow, dill):
            assert module.__file__ is not None
            folder = Path(module.__file__).parent
            for path, content in functions.files_of(folder).items():
                package[f"{folder.name}/{path}"] = content
        functions.create(
            server,
            cloud.environment[ORCHESTRATOR_FUNCTION_NAME],
            "handler.orchestrate",
            functions.archive(package),
            variables=deploy_queues(server, cloud.name, cloud.environment),
        )
        with cloud.runtime() as runtime, cloud.serving(runtime):
            yield
    finally:
        cloud.close()

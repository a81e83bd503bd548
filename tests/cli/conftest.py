"""Folders in which the installed command is run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.world import World

FLOWS = Path(__file__).with_name("cli_flows.py")


def new_world(folder: Path) -> World:
    shutil.copy(FLOWS, folder)
    return World(folder)


@pytest.fixture
def mw(tmp_path: Path) -> World:
    """The command in a folder of its own, on a file that nobody serves."""
    return new_world(tmp_path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The command in a folder whose file a worker serves, for all tests of a module."""
    world = new_world(tmp_path_factory.mktemp("served"))
    with world.served():
        yield world

"""Settings that hold for every test, and what tests of several folders share."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests import left_out

if TYPE_CHECKING:
    from tests.aws.emulator.server import Server
    from tests.postgres.pooler import Pooler
    from tests.postgres.server import PostgresServer

# What is tested in an environment of its own: tests/integrations/test_environments.py starts it.
collect_ignore = [] if find_spec("strands") else ["frameworks"]

# No deadline and no database: the machine may be busy, and a test leaves nothing behind. What
# fails prints how to reproduce it. In CI the same commit must always give the same answer.
settings.register_profile("explore", deadline=None, database=None, print_blob=True)
settings.register_profile("ci", settings.get_profile("explore"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "explore")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Whoever has started this in the background has it ignore Ctrl-C; what the tests start and then
    # interrupt must not inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Whoever exports it has each process of the tests compile all that it imports anew, which takes longer
# than what most of them do.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.dont_write_bytecode = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Workers for `--numprocesses=auto`: three for two cores. A test in three waits for something else: a
    process, the end of a time limit, the second in which a schedule begins.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return cores + (cores + 1) // 2


def pytest_collection() -> None:
    """Collect the tests without the garbage collector, which would walk through all of them each time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what stays until the end: thousands of tests and all modules,
    which it would walk through again and again while the tests run."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what needs something that is not here."""
    left_out.check(item)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was left out."""
    texts = left_out.found(terminalreporter.stats)
    left_out.record(texts)
    if texts:
        terminalreporter.write_line(f"{left_out.MARK}{'; '.join(texts)}")


_modules = count(1)


@pytest.fixture(autouse=True, scope="module")
def small_heap() -> None:
    """Let it pass over what the modules before this one have imported and kept, too: some tests collect
    garbage for each event of a history. What of it has become garbage since, files among it, goes now and
    then.
    """
    if next(_modules) % 50 == 0:
        gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def no_running_loop() -> Iterator[None]:
    """Name the module that leaves an event loop running in the thread in which all others are tested."""
    yield
    running = asyncio.events._get_running_loop()
    assert running is None, f"a fixture of this module leaves {running} running"


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An AWS account on loopback, which asks nobody for permission."""
    from tests.aws.emulator.server import emulator

    with emulator(folder=tmp_path_factory.mktemp("aws")) as server:
        yield server


@pytest.fixture(scope="session")
def strict_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An AWS account on loopback that enforces signatures and policies."""
    from tests.aws.emulator.server import emulator

    with emulator(auth=True, folder=tmp_path_factory.mktemp("strict-aws")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A Postgres server."""
    from tests.postgres.server import server

    with server() as found:
        yield found


@pytest.fixture(scope="session")
def pooler(postgres: PostgresServer) -> Iterator[Pooler]:
    """PgBouncer in transaction mode before the server."""
    from tests.postgres.pooler import pooler

    with pooler(postgres) as found:
        yield found

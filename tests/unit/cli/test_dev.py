"""`dev`: the tasks of one developer's executions on AWS run here, and everybody else's where they are."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import cli_flows
import pytest

from mini_workflow import AWSRuntime
from mini_workflow.settings import DEV_WORKER, WORKERS
from tests.aws.cloud import EmulatedCloud
from tests.aws.emulator.server import Server
from tests.unit.cli.conftest import new_world
from tests.unit.cli.world import World
from tests.waiting import WAIT

STACK = """#!{python}
import json, os, sys
assert sys.argv[-2:] == ["--stack", "staging"], sys.argv
print({outputs!r})
"""


class Staging(World):
    """A world with a stack that is deployed, and its functions in this process."""

    runtime: AWSRuntime


@pytest.fixture
def staging(aws: Server, tmp_path: Path) -> Iterator[Staging]:
    url = aws.client("sqs").create_queue(QueueName=f"dev-{uuid4().hex[:8]}")["QueueUrl"]
    cloud = EmulatedCloud(aws)
    cloud.environment[WORKERS] = json.dumps({"dev-ann": url, "big": url, "other": "a-function"})
    made = new_world(tmp_path)
    # What runs beside it has its settings from the environment of the process.
    world = Staging(made.folder, made.environment, alone=True)
    program = tmp_path / "bin" / "pulumi"
    program.parent.mkdir()
    outputs = json.dumps({"engine": {"environment": cloud.environment}})
    program.write_text(STACK.format(python=sys.executable, outputs=outputs))
    program.chmod(0o755)
    world.environment.pop("MINI_WORKFLOW_BACKEND", None)
    world.environment |= {**aws.environment(), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    try:
        with cloud.runtime() as runtime, cloud.serving(runtime):
            world.runtime = runtime
            yield world
    finally:
        cloud.close()


def test_all_tasks_of_a_developers_executions_run_here_and_no_others(staging: Staging) -> None:
    mine = {**staging.environment, DEV_WORKER: "dev-ann"}
    theirs = staging.runtime.start_execution(cli_flows.places)
    with staging.served("dev", "--stack", "staging", "cli_flows", "--as", "ann") as laptop:
        process = World(staging.folder, mine, alone=True)
        started = process("--stack", "staging", "-m", "cli_flows", "start", "cli_flows:places")
        places = staging.runtime.get_execution(started.out).result(WAIT)
        assert set(places) == {laptop.pid}
        assert len(places) == 3
        assert theirs.result(WAIT) == [os.getpid()] * 3
        laptop.send_signal(signal.SIGTERM)
        laptop.wait(WAIT)
        assert laptop.returncode == 0


def test_what_is_run_beside_it_starts_executions_of_the_developer(staging: Staging) -> None:
    (staging.folder / "server.py").write_text(
        "import cli_flows\nfrom mini_workflow import AWSRuntime\n"
        "with AWSRuntime.from_env() as runtime:\n"
        f"    places = runtime.start_execution(cli_flows.places).result({WAIT})\n"
        "assert len(set(places)) == 1\n"
        "print(places[0])\nraise SystemExit(7)\n"
    )
    command = f"{sys.executable} server.py"
    laptop = staging.popen(
        "dev", "--stack", "staging", "cli_flows", "--as", "ann", "--run", command
    )
    out, err = laptop.communicate(timeout=WAIT)
    assert laptop.returncode == 7, err
    assert out.splitlines()[-1] == str(laptop.pid)
    assert "wait in their queue until `dev` runs again" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--as", "ben"), "has no worker 'dev-ben' that pulls; it has dev-ann"),
        (("--as", "big"), 'Give the component workers={"dev-big": {"pull": true}}'),
        (("--as", "a b"), "--as 'a b': 'dev-a b' is not the name of a worker"),
        (("--as", "ann", "--run", "not-there"), "--run not-there: "),
    ],
)
def test_what_is_wrong_is_told(staging: Staging, words: tuple[str, ...], told: str) -> None:
    said = staging("dev", "--stack", "staging", "cli_flows", *words, status=2)
    assert told in said.err


@pytest.mark.parametrize("worker", ["dev-ben", "big", "other"])
def test_a_start_for_a_worker_that_is_no_developers_is_refused(
    staging: Staging, worker: str
) -> None:
    staging.environment[DEV_WORKER] = worker
    words = ("--stack", "staging", "-m", "cli_flows", "start", "cli_flows:place", "--id", "e")
    said = staging(*words, status=None)
    assert said.status != 0
    assert f"{DEV_WORKER} is {worker!r}, and this engine has no worker" in said.err
    assert [one.id for one in staging.runtime.list_executions()] == []

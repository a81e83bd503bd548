"""How the command finds AWS: by variables, a bucket's name, or a Pulumi stack."""

import json
import sys

import pytest

from mini_workflow.cli.backends import AWSTarget
from mini_workflow.cli.config import Config
from mini_workflow.cli.failures import Failed
from mini_workflow.settings import (
    BUCKET_NAME,
    MEANING,
    ORCHESTRATOR_FUNCTION_NAME,
    QUEUE_URL,
    SIGNING_KEY,
)
from tests.unit.cli.world import World


@pytest.fixture
def pulumi(mw: World) -> World:
    """A world in which a program called pulumi says what the file outputs.json holds."""
    program = mw.folder / "bin" / "pulumi"
    program.parent.mkdir()
    program.write_text(
        f"""#!{sys.executable}
import pathlib, sys
wanted = ["stack", "output", "--json", "--show-secrets", "--stack", "dev"]
if sys.argv[1:] != wanted:
    sys.exit(f"error: no stack like this: {{sys.argv[1:]}}")
print(pathlib.Path("outputs.json").read_text())
"""
    )
    program.chmod(0o755)
    mw.environment["PATH"] = str(program.parent)
    return mw


def write_outputs(world: World, outputs: object) -> None:
    (world.folder / "outputs.json").write_text(json.dumps(outputs))


def test_the_settings_are_among_the_outputs_of_a_stack(
    pulumi: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pulumi.folder)
    monkeypatch.setenv("PATH", pulumi.environment["PATH"])
    write_outputs(pulumi, {"url": "x", "engine": {"environment": {BUCKET_NAME: "b", "OTHER": "o"}}})
    target = AWSTarget(Config("aws", stack="dev"))
    assert target.environment() == {BUCKET_NAME: "b"}
    named = AWSTarget(Config("aws", stack="dev", bucket="mine"))
    assert named.environment() == {BUCKET_NAME: "mine"}
    write_outputs(pulumi, {"url": "x"})
    with pytest.raises(Failed, match="none of its outputs"):
        target.environment()


def test_what_pulumi_refuses_is_told_in_one_line(pulumi: World) -> None:
    said = pulumi("--stack", "prod", "ls", status=6)
    assert said.err.startswith("error: --stack prod: pulumi says: error: no stack like this")
    write_outputs(pulumi, "[")
    assert len(pulumi("--stack", "dev", "ls", status=6).err.splitlines()) == 1


def test_doctor_names_every_setting_that_is_missing(pulumi: World) -> None:
    write_outputs(pulumi, {BUCKET_NAME: "b", QUEUE_URL: "http://127.0.0.1:1/q"})
    pulumi.environment |= {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_REGION": "eu-west-1",
    }
    found = pulumi("--stack", "dev", "doctor", "--json", status=1).json
    problems = [one["what"] for one in found["findings"] if one["level"] == "problem"]
    missing = {name for name in MEANING if any(what.startswith(name) for what in problems)}
    assert missing == {ORCHESTRATOR_FUNCTION_NAME, SIGNING_KEY}
    assert any(what.startswith("the queue of events: ") for what in problems)


def test_there_is_nothing_to_serve_on_aws(mw: World) -> None:
    said = mw("--backend", "aws", "worker", "cli_flows", status=2)
    assert "only workers that take their tasks from a queue run here" in said.err

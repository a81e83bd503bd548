"""The package for other languages: its server, asked as Pulumi asks it."""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from tests.paths import ROOT
from tests.pulumi.monitor import PROJECT, Stack, stack
from tests.pulumi.recording import Invented, Registered
from tests.pulumi.test_engine import resources

PACKAGE = ROOT / "pulumi_component"
SCHEMA = Path(__file__).with_name("schema.json")

ENGINE = "mini-workflow:index:WorkflowEngine"
FUNCTION = "mini-workflow:index:Function"


@pytest.fixture(scope="module")
def made() -> Iterator[Stack]:
    with stack(Invented()) as empty:
        yield empty


@pytest.fixture(scope="module")
def provider(made: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The provider's process, started as the language host starts it: the folder as a script."""
    surroundings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with subprocess.Popen(
        [sys.executable, PACKAGE, made.address],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=surroundings,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = provider_pb2_grpc.ResourceProviderStub(channel)
                accepted = {"acceptSecrets": True, "acceptResources": True}
                stub.Configure(provider_pb2.ConfigureRequest(**accepted))
                yield stub
        finally:
            process.kill()


def schema(provider: Any) -> dict[str, Any]:
    answer = provider.GetSchema(provider_pb2.GetSchemaRequest(version=0))
    return json.loads(answer.schema)


def cleaned(value: Any) -> Any:
    """A schema with descriptions indented alike: newer Pythons do that to docstrings themselves."""
    if isinstance(value, dict):
        return {
            key: inspect.cleandoc(part)
            if key == "description" and isinstance(part, str)
            else cleaned(part)
            for key, part in value.items()
        }
    return [cleaned(part) for part in value] if isinstance(value, list) else value


def test_the_plugin_file_says_that_it_is_python() -> None:
    plugin = yaml.safe_load((PACKAGE / "PulumiPlugin.yaml").read_text())
    assert plugin["runtime"]["name"] == "python"
    # What Pulumi installs for it: the project, with what the components need.
    assert (PACKAGE / "requirements.txt").read_text() == "..[pulumi]\n"
    assert (PACKAGE / ".." / "pyproject.toml").is_file()


def test_the_schema_is_the_one_that_was_looked_at(provider: Any) -> None:
    """After a change that is meant: write what it has become to schema.json, and read the diff."""
    asked = cleaned(schema(provider))
    version = asked.pop("version")
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    # The versions of other packages change with the pins.
    text = re.sub(r"/aws/v[\d.]+/", "/aws/vN/", json.dumps(asked, indent=2, sort_keys=True))
    text = re.sub(r'("name": "aws",\s+"version": )"[\d.]+"', r'\1"N"', text)
    if os.environ.get("WRITE_SCHEMA"):
        SCHEMA.write_text(text + "\n")
    assert text + "\n" == SCHEMA.read_text()


def test_the_schema_has_the_contract(provider: Any) -> None:
    asked = schema(provider)
    assert asked["name"] == "mini-workflow"
    assert set(asked["resources"]) == {ENGINE, FUNCTION}
    engine, function = (asked["resources"][kind] for kind in (ENGINE, FUNCTION))
    assert engine["isComponent"]
    assert engine["requiredInputs"] == ["orchestrator", "worker"]
    assert set(engine["properties"]) == {
        "history", "events", "timers", "worker", "orchestrator", "link",
    }  # fmt: skip
    assert function["requiredInputs"] == ["handler"]
    assert {"arn", "name", "url"} <= set(function["properties"])


def construct(
    provider: Any, made: Stack, kind: str, name: str, inputs: dict[str, Any]
) -> tuple[dict[str, Any], list[Registered]]:
    """(the state of a component, what was registered for it)."""
    given = struct_pb2.Struct()
    given.update(inputs)
    before = len(made.recording.registered)
    answer = provider.Construct(
        provider_pb2.ConstructRequest(
            project=PROJECT,
            stack=made.name,
            monitorEndpoint=made.address,
            type=kind,
            name=name,
            inputs=given,
            parallel=4,
            accepts_output_values=True,
        )
    )
    assert answer.urn.endswith(f"::{kind}::{name}")
    return json_format.MessageToDict(answer.state), made.recording.registered[before:]


def output(value: Any, secret: bool = False) -> dict[str, Any]:
    """A value of another resource, as engines hand it over."""
    mark = "4dabf18193072939515e22adb298388d"
    return {
        mark: "d0e6a833031e9bbcd3f4e8bde6ca49a4",
        "value": value,
        "secret": secret,
        "dependencies": [],
    }


def test_an_engine_and_a_function_linked_to_it(provider: Any, made: Stack, root: Path) -> None:
    state, registered = construct(
        provider,
        made,
        ENGINE,
        "Flow",
        {
            "worker": {"handler": "app.index.execute", "memory": "2 GB", "logRetention": "3 days"},
            "orchestrator": "app.index.orchestrate",
            "root": str(root),
            "payloadRetention": "20 days",
            "environment": {"BUCKET": output("uploads")},
            "permissions": [
                {"actions": ["s3:GetObject"], "resources": [output("arn:aws:s3:::uploads/*")]}
            ],
        },
    )
    assert {(one.type, one.name) for one in registered} == {
        (kind, name) for kind, name, _ in resources("Flow")
    }
    by_name = {one.name: one for one in registered}
    worker = by_name["Flow-worker-function"].inputs
    assert (worker["memorySize"], worker["environment"]["variables"]["BUCKET"]) == (2048, "uploads")
    assert by_name["Flow-worker-logs"].inputs["retentionInDays"] == 3
    assert by_name["Flow-history-lifecycle"].inputs["rules"][0]["expiration"] == {"days": 20}
    policy = json.loads(by_name["Flow-worker-policy"].inputs["policy"])
    assert policy["Statement"][-1]["Resource"] == ["arn:aws:s3:::uploads/*"]
    assert set(state) == {"history", "events", "timers", "worker", "orchestrator", "link"}

    known = output(state["link"]["value"], secret=True)
    for name, link in (("One", [state["link"]]), ("Two", [known]), ("Three", output([known]))):
        state_of_api, registered = construct(
            provider,
            made,
            FUNCTION,
            name,
            {"handler": "app.index.api", "url": True, "link": link, "root": str(root)},
        )
        by_name = {one.name: one for one in registered}
        assert {one.type.rpartition(":")[2] for one in registered} == {
            "Function", "FunctionRecursionConfig", "LogGroup", "Role", "RolePolicy", "FunctionUrl",
        }  # fmt: skip
        variables = by_name[f"{name}-function"].inputs["environment"]["variables"]
        assert variables["BUCKET_NAME"] == variables["FLOW__BUCKET_NAME"] == "Flow-history"
        policy = json.loads(by_name[f"{name}-policy"].inputs["policy"])
        assert len(policy["Statement"]) == 5
        assert state_of_api["url"] == f"https://{name.lower()}-url.lambda-url.example/"


@pytest.mark.parametrize(
    ("kind", "inputs", "told"),
    [
        (ENGINE, {"orchestrator": "app.index.orchestrate"}, "Missing required input 'worker'"),
        (FUNCTION, {"handler": "app.index.nothing"}, "defines no 'nothing'"),
        (FUNCTION, {"handler": "app.index.api", "memory": "1 KB"}, "memory: '1 KB' is not a size"),
    ],
)
def test_what_is_wrong_is_told_and_makes_nothing(
    provider: Any, made: Stack, root: Path, kind: str, inputs: dict[str, Any], told: str
) -> None:
    before = len(made.recording.registered)
    with pytest.raises(grpc.RpcError) as raised:
        construct(provider, made, kind, "Bad", {**inputs, "root": str(root)})
    error: Any = raised.value
    assert told in error.details() + str(error.trailing_metadata())
    assert len(made.recording.registered) == before


def test_the_plugin_info_has_the_version(provider: Any) -> None:
    info = provider.GetPluginInfo(empty_pb2.Empty())
    assert info.version == schema(provider)["version"]

"""Functions by version: what an engine with the option `versions` registers, and its template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import settings
from pulumi_component import BadOption
from pulumi_component.cloudformation import logical
from tests.pulumi.recording import ACCOUNT, REGION, Recording, record
from tests.pulumi.test_bundle import PLAIN, properties, written
from tests.pulumi.test_engine import engine, made, retained

pytestmark = pytest.mark.usefixtures("packaged_once")

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"


@pytest.fixture
def versioned(root: Path) -> Recording:
    return record(lambda: made(engine(root, versions=True)))


def called(recording: Recording, role: str) -> list[str]:
    """The functions that a role may call."""
    policy = json.loads(recording.get(f"{role}-policy").inputs["policy"])
    return [
        resource
        for one in policy["Statement"]
        if "lambda:InvokeFunction" in one["Action"]
        for resource in one["Resource"]
    ]


def test_everything_calls_the_alias_of_the_newest_version(versioned: Recording) -> None:
    for what in ("worker", "orchestrator"):
        assert versioned.get(f"Flow-{what}-function").inputs["publish"] is True
        assert versioned.get(f"Flow-{what}-alias").inputs == {
            "name": "live",
            "functionName": f"Flow-{what}-function",
            "functionVersion": "7",
        }
    mapping = versioned.get("Flow-events-mapping").inputs
    assert mapping["functionName"] == f"{ARN}:Flow-orchestrator-function:live"
    variables = versioned.get("Flow-orchestrator-function").inputs["environment"]["variables"]
    assert variables[settings.WORKER_FUNCTION_NAME] == "Flow-worker-function:7"
    # Tasks are run by the version with the code of their workflow, which may be an older one.
    assert called(versioned, "Flow-orchestrator") == [f"{ARN}:Flow-worker-function:*"]


def test_attempts_that_die_are_told_of_whatever_they_were_called_by(versioned: Recording) -> None:
    # What is said of an alias does not hold for calls of the version behind it.
    for what, qualifier in (("invocations", "live"), ("invocations-of-version", "7")):
        config = versioned.get(f"Flow-worker-{what}")
        assert config.inputs == {
            "functionName": "Flow-worker-function",
            "qualifier": qualifier,
            "maximumRetryAttempts": 0,
            "maximumEventAgeInSeconds": 21_600,
            "destinationConfig": {
                "onFailure": {"destination": f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flow-failures"}
            },
        }
        assert "Flow-worker-policy" in config.dependencies
    # It stays when there is one for the next version: tasks of older code are still run there.
    assert "Flow-worker-invocations-of-version" in retained(versioned)


def test_named_workers_have_versions_too(root: Path) -> None:
    workers = {"gpu": {"handler": "app.index.execute"}}
    recording = record(lambda: made(engine(root, versions=True, workers=workers)))
    variables = recording.get("Flow-orchestrator-function").inputs["environment"]["variables"]
    (function,) = json.loads(variables[settings.WORKERS]).values()
    name, _, version = function.partition(":")
    assert version == "7"
    assert {f"{ARN}:{name}:*", f"{ARN}:Flow-worker-function:*"} == {
        *called(recording, "Flow-orchestrator")
    }
    qualified = {
        (one.inputs["functionName"], one.inputs["qualifier"])
        for one in recording.of("FunctionEventInvokeConfig")
    }
    assert {(name, "live"), (name, "7")} <= qualified


def test_without_the_option_functions_are_called_as_they_are_now(root: Path) -> None:
    recording = record(lambda: made(engine(root)))
    assert not recording.of("Alias")
    (config,) = recording.of("FunctionEventInvokeConfig")
    assert "qualifier" not in config.inputs
    variables = recording.get("Flow-orchestrator-function").inputs["environment"]["variables"]
    assert variables[settings.WORKER_FUNCTION_NAME] == "Flow-worker-function"
    assert called(recording, "Flow-orchestrator") == [f"{ARN}:Flow-worker-function"]


def test_a_template_keeps_older_versions_with_what_is_said_of_them(root: Path) -> None:
    def kept(text: str) -> set[str]:
        template, _ = written(root, text)
        resources = template["Resources"]
        variables = properties(template, "FlowOrchestratorFunction")["Environment"]["Variables"]
        called = variables[settings.WORKER_FUNCTION_NAME]["Fn::Sub"]
        worker = called.removeprefix("${FlowWorkerFunction}:${").removesuffix(".Version}")
        (invocations,) = (name for name in resources if name.startswith("FlowWorkerInvocationsOf"))
        version = {"Fn::GetAtt": [worker, "Version"]}
        assert properties(template, invocations)["Qualifier"] == version
        # Lambda asks whether the role may send there.
        assert resources[invocations]["DependsOn"] == [logical("Flow-worker-policy")]
        alias: Any = properties(template, "FlowOrchestratorAlias")
        orchestrator, _ = alias["FunctionVersion"]["Fn::GetAtt"]
        for name in (worker, invocations, orchestrator):
            assert resources[name]["DeletionPolicy"] == "Retain"
        return {worker, invocations, orchestrator}

    text = PLAIN + "versions = true\n"
    before = kept(text)
    assert kept(text) == before
    # Another worker is another version of both: an orchestrator knows its own worker.
    changed = text.replace(
        '"app.index.execute"', '{handler = "app.index.execute", memory = "2 GB"}'
    )
    assert not before & kept(changed)


def test_processes_that_are_kept_ready_are_of_the_version_that_tasks_call(root: Path) -> None:
    def program() -> None:
        ready = {"provisioned_concurrency": 2}
        made(
            engine(
                root,
                versions=True,
                worker={"handler": "app.index.execute", **ready},
                orchestrator={"handler": "app.index.orchestrate", **ready},
            )
        )

    recording = record(program)
    for what in ("worker", "orchestrator"):
        config = recording.get(f"Flow-{what}-provisioned")
        assert config.inputs["qualifier"] == "7"
        # The alias comes there when they are ready.
        assert config.name in recording.get(f"Flow-{what}-alias").dependencies


def test_a_template_refuses_processes_kept_ready_for_versions_that_it_keeps(root: Path) -> None:
    worker = '{handler = "app.index.execute", provisioned_concurrency = 2}'
    text = PLAIN.replace('"app.index.execute"', worker)
    written(root, text)
    with pytest.raises(BadOption, match="give provisioned_concurrency without versions"):
        written(root, text + "versions = true\n")


def test_an_orchestrator_may_hand_over_to_its_other_versions(versioned: Recording) -> None:
    policy = json.loads(versioned.get("Flow-orchestrator-versions-policy").inputs["policy"])
    own = f"{ARN}:Flow-orchestrator-function"
    assert {one["Sid"]: (one["Action"], one["Resource"]) for one in policy["Statement"]} == {
        "SeeAlias": (["lambda:GetAlias"], [own, f"{own}:live"]),
        "HandOver": (["lambda:InvokeFunction"], [f"{own}:*"]),
    }
    # Before the first batch comes.
    assert "Flow-orchestrator-versions-policy" in versioned.get("Flow-events-mapping").dependencies


def test_a_role_of_theirs_has_to_allow_that_too(root: Path) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/theirs"
    orchestrator = {"handler": "app.index.orchestrate", "role": role}
    found: list[str] = []

    def program() -> None:
        engine(root, versions=True, orchestrator=orchestrator).needs["orchestrator"].apply(
            found.append
        )

    recording = record(program)
    assert {"SeeAlias", "HandOver", "InvokeWorker"} <= {
        one["Sid"] for one in json.loads(found[0])["Statement"]
    }
    assert not [one for one in recording.of("RolePolicy") if "orchestrator" in one.name]


def test_with_canary_the_alias_of_the_orchestrator_alone_is_left_where_it_leads(root: Path) -> None:
    recording = record(lambda: made(engine(root, canary=True)))
    assert recording.get("Flow-orchestrator-alias").options["ignored"] == [
        "functionVersion",
        "routingConfig",
    ]
    assert recording.get("Flow-worker-alias").options["ignored"] == []
    assert recording.get("Flow-worker-function").inputs["publish"] is True


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"canary": True, "versions": False}, "canary: it is about versions"),
        (
            {
                "canary": True,
                "orchestrator": {"handler": "app.index.orchestrate", "provisioned_concurrency": 1},
            },
            "provisioned_concurrency: processes that are kept ready",
        ),
        (
            {"versions": True, "worker": {"handler": "app.index.execute", "canary": True}},
            "worker: canary is an option of the engine",
        ),
    ],
)
def test_where_no_canary_can_be(root: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadOption, match=told):
        engine(root, **options)


def test_a_template_cannot_leave_the_alias(root: Path) -> None:
    with pytest.raises(BadOption, match="canary: a template moves the alias"):
        written(root, PLAIN + "canary = true\n")

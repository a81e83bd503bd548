"""What is the user's own: a bucket and a place in it, single nodes, other partitions and accounts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest

from mini_workflow import settings
from pulumi_component import BadOption, Function, WorkflowEngine
from pulumi_component.options import EngineOptions
from tests.pulumi.recording import ACCOUNT, REGION, Invented, Recording, record
from tests.pulumi.test_engine import engine, made

pytestmark = pytest.mark.usefixtures("packaged_once")

OURS = {"bucket": "ours", "prefix": "flows/"}
KMS = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/5eed"
DELETES = "dynamodb:BatchWriteItem"
PLAIN = {"worker": "a.b", "orchestrator": "a.c"}


def statements(recording: Recording, name: str) -> dict[str, Any]:
    policy = json.loads(recording.get(f"{name}-policy").inputs["policy"])
    return {one["Sid"]: one for one in policy["Statement"]}


def variables(recording: Recording, name: str) -> dict[str, str]:
    return recording.get(f"{name}-function").inputs["environment"]["variables"]


# A bucket


def test_a_bucket_of_ours_is_left_as_it_is(root: Path) -> None:
    recording = record(lambda: made(engine(root, history=OURS)))
    assert not [one for one in recording if "-history" in one.name]
    for what in ("worker", "orchestrator"):
        found = variables(recording, f"Flow-{what}")
        assert found[settings.BUCKET_NAME] == "ours"
        assert found[settings.OBJECT_PREFIX] == "flows/"


def test_nothing_is_allowed_beside_the_prefix(root: Path) -> None:
    def program() -> None:
        handler: Any = {"handler": "app.index.api", "root": str(root)}
        Function("Api", {**handler, "link": [engine(root, history=OURS)]})

    recording = record(program)
    for name in ("Flow-worker", "Flow-orchestrator", "Api"):
        allowed = statements(recording, name)
        objects = [
            resource
            for statement in allowed.values()
            for resource in statement["Resource"]
            if resource.startswith("arn:aws:s3:::ours/")
        ]
        times = 2 if name == "Flow-orchestrator" else 1  # which also deletes them
        assert sorted(objects) == [
            *["arn:aws:s3:::ours/flows/executions/*"] * times,
            *["arn:aws:s3:::ours/flows/payloads/*"] * times,
        ]
        # S3 has no way to ask whether one object is there.
        assert allowed["TellMissingFromForbidden"]["Resource"] == ["arn:aws:s3:::ours"]
    assert variables(recording, "Api")[settings.OBJECT_PREFIX] == "flows/"


def test_two_engines_in_one_bucket_see_nothing_of_each_other(root: Path) -> None:
    def program() -> None:
        for name in ("One", "Two"):
            engine(root, name, history={"bucket": "ours", "prefix": f"{name}/"})

    recording = record(program)
    assert "/Two/" not in json.dumps(statements(recording, "One-worker"))
    assert "/One/" not in json.dumps(statements(recording, "Two-orchestrator"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"history": 3}, "history: 3 is not the name of a bucket"),
        ({"history": {"prefix": "a/"}}, "names no bucket"),
        ({"history": {"bucket": "b", "prefix": "flows"}}, "'flows' is not one such as \"flows/\""),
        ({"history": {"bucket": "b", "prefix": "/flows/"}}, "none at the beginning"),
        ({"history": {"bucket": "b", "prefix": "*/"}}, "letters, digits and - _ . /"),
        ({"history": {"name": "b"}}, "history has no option 'name'"),
        ({"history": OURS, "removal": "destroy"}, 'removal: "destroy" is for the bucket that'),
        ({"history": OURS, "payload_retention": "20 days"}, "what is below flows/payloads/ itself"),
    ],
)
def test_buckets_that_cannot_be(options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadOption) as raised:
        EngineOptions.from_args({**PLAIN, **options})
    assert told in str(raised.value)


# A table with the histories


def test_the_table_has_the_keys_that_the_library_writes_by(root: Path) -> None:
    def program() -> None:
        handler: Any = {"handler": "app.index.api", "root": str(root)}
        Function("Api", {**handler, "link": [engine(root, store="dynamodb", kms_key=KMS)]})

    recording = record(program)
    table = recording.get("Flow-executions")
    keys = [settings.TABLE_KEY, settings.TABLE_ORDER]
    assert [table.inputs["hashKey"], table.inputs["rangeKey"]] == keys
    assert table.inputs["attributes"] == [{"name": key, "type": "S"} for key in keys]
    assert table.inputs["ttl"] == {"attributeName": settings.TABLE_EXPIRES, "enabled": True}
    assert table.inputs["billingMode"] == "PAY_PER_REQUEST"
    assert table.inputs["serverSideEncryption"] == {"enabled": True, "kmsKeyArn": KMS}
    arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/Flow-executions"
    for name in ("Flow-worker", "Flow-orchestrator", "Api"):
        assert variables(recording, name)[settings.TABLE_NAME] == "Flow-executions"
        allowed = statements(recording, name)
        assert allowed["ReadAndWriteExecutions"]["Resource"] == [arn]
        deletes = [one["Resource"] for one in allowed.values() if DELETES in one["Action"]]
        assert deletes == ([[arn]] if name == "Flow-orchestrator" else [])


def test_without_a_table_nothing_is_said_of_one(root: Path) -> None:
    recording = record(lambda: made(engine(root, store="s3")))
    assert not [one for one in recording if one.name == "Flow-executions"]
    assert settings.TABLE_NAME not in variables(recording, "Flow-worker")
    assert "dynamodb" not in json.dumps(statements(recording, "Flow-orchestrator"))


def test_a_table_that_an_engine_has_left_is_taken_on(root: Path) -> None:
    recording = record(lambda: made(engine(root, store={"table": "left"})))
    assert variables(recording, "Flow-orchestrator")[settings.TABLE_NAME] == "left"
    allowed = statements(recording, "Flow-orchestrator")["ReadAndWriteExecutions"]
    assert allowed["Resource"] == [f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/left"]


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("mongodb", "store: 'mongodb' is not one of s3, dynamodb"),
        ({"table": ""}, "store: {'table': ''} names no table"),
        ({"name": "a"}, "store has no option 'name'"),
    ],
)
def test_stores_that_cannot_be(store: Any, told: str) -> None:
    with pytest.raises(BadOption) as raised:
        EngineOptions.from_args({**PLAIN, "store": store})
    assert told in str(raised.value)


# Links of nodes


def linked(root: Path, *nodes: str, **options: Any) -> Recording:
    def program() -> None:
        flow = engine(root)
        handler: Any = {"handler": "app.index.api", "root": str(root), **options}
        Function("Api", {**handler, "link": [getattr(flow, node) for node in nodes]})

    return record(program)


HISTORIES = {"ReadAndWriteExecutionsAndPayloads", "TellMissingFromForbidden"}
PARTS = {
    "history": (HISTORIES, {settings.BUCKET_NAME}),
    "events": ({"SendEvents"}, {settings.QUEUE_URL, settings.QUEUE_ARN}),
    "orchestrator": ({"AskOrchestrator"}, {settings.ORCHESTRATOR_FUNCTION_NAME}),
}


@pytest.mark.parametrize(
    "nodes", [("history",), ("events",), ("orchestrator",), ("history", "events"), tuple(PARTS)]
)
def test_a_node_gives_what_belongs_to_it(root: Path, nodes: tuple[str, ...]) -> None:
    recording = linked(root, *nodes)
    wanted = set().union(*(PARTS[node][0] for node in nodes))
    assert set(statements(recording, "Api")) == {"Logs"} | wanted
    names = {settings.SIGNING_KEY}.union(*(PARTS[node][1] for node in nodes))
    assert set(variables(recording, "Api")) == names | {f"FLOW__{name}" for name in names}


def test_all_nodes_are_the_engine(root: Path) -> None:
    def program() -> None:
        handler: Any = {"handler": "app.index.api", "root": str(root)}
        Function("Api", {**handler, "link": [engine(root)]})

    engines, nodes = record(program), linked(root, *PARTS)
    assert variables(engines, "Api") == variables(nodes, "Api")
    assert statements(engines, "Api") == statements(nodes, "Api")


@pytest.mark.parametrize("node", ["timers", "worker"])
def test_other_nodes_are_of_no_use_alone(root: Path, node: str) -> None:
    with pytest.raises(BadOption, match="nor one of its nodes history, events and orchestrator"):
        linked(root, node)


# The same program elsewhere


@pytest.mark.parametrize("partition", ["aws-cn", "aws-us-gov"])
def test_no_partition_is_taken_for_granted(root: Path, partition: str) -> None:
    def program() -> None:
        flow = engine(root, alarms=True, dashboard=True, signing_key_store="secret")
        handler: Any = {"handler": "app.index.api", "root": str(root)}
        Function("Api", {**handler, "link": [flow], "url": {"authorization": "none"}})

    recording = record(program, Invented(partition))
    for one in recording:
        text = json.dumps(one.inputs, default=str)
        assert "arn:aws:" not in text, one.name
    assert f"arn:{partition}:" in recording.get("Flow-orchestrator-policy").inputs["policy"]


def test_an_engine_of_another_account_is_there_as_a_whole(root: Path) -> None:
    """Everything is made by the provider that it is given, and trusts and names that account alone."""
    account, region = "210987654321", "eu-south-2"

    def program() -> None:
        there = pulumi.ResourceOptions(provider=aws.Provider("there", region=region))
        given: Any = {
            "worker": "app.index.execute",
            "orchestrator": "app.index.orchestrate",
            "workers": {"gpu": "app.index.execute", "big": {"pull": True}},
            "versions": True,
            "alarms": True,
            "dashboard": True,
            "signing_key_store": "parameter",
            "store": "dynamodb",
            "root": str(root),
        }
        flow = WorkflowEngine("Flow", given, there)
        Function("Api", {"handler": "app.index.api", "root": str(root), "link": [flow]}, there)

    recording = record(program, Invented(account=account, region=region))
    made_there = [one for one in recording if one.type.startswith("aws:")]
    assert len(made_there) > 60
    for one in made_there:
        assert one.options["provider"] == "there", one.name
        text = json.dumps(one.inputs, default=str)
        assert ACCOUNT not in text, one.name
        assert REGION not in text, one.name
    # Pipes and schedules act for resources of that account, and for no others.
    for what in ("timers-pipe", "failures-pipe", "scheduler"):
        trusted = json.loads(recording.get(f"Flow-{what}-role").inputs["assumeRolePolicy"])
        condition = trusted["Statement"][0]["Condition"]["StringEquals"]
        assert condition["aws:SourceAccount"] == account
        assert f":{region}:{account}:" in condition["aws:SourceArn"]
    linked_to = json.dumps(statements(recording, "Api"))
    assert f"arn:aws:sqs:{region}:{account}:Flow-events.fifo" in linked_to
    assert f"/{account}/" in variables(recording, "Api")[settings.QUEUE_URL]


def test_one_module_may_be_deployed_twice(root: Path) -> None:
    """Engines of the same handlers have the same code, and nothing else in common."""

    def program() -> None:
        engine(root, "Blue")
        engine(root, "Green")

    recording = record(program)
    for what in ("worker", "orchestrator"):
        blue, green = (
            recording.get(f"{name}-{what}-function").inputs for name in ("Blue", "Green")
        )
        assert blue["code"].path == green["code"].path
        for name, value in blue["environment"]["variables"].items():
            if name != settings.SIGNING_KEY:
                assert value != green["environment"]["variables"][name], name

"""An engine whose resources let functions of other accounts be linked to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest

from mini_workflow import settings
from pulumi_component import BadOption, Function
from pulumi_component.options import EngineOptions
from tests.pulumi.recording import ACCOUNT, REGION, Recording, record
from tests.pulumi.test_engine import engine, made

pytestmark = pytest.mark.usefixtures("packaged_once")

OTHER = "210987654321"
ROLE = f"arn:aws:iam::{OTHER}:role/theirs"
HISTORY = "arn:aws:s3:::Flow-history"
EVENTS = f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flow-events.fifo"


def statements(recording: Recording, name: str) -> dict[str, Any]:
    policy = json.loads(recording.get(name).inputs["policy"])
    return {one["Sid"]: one for one in policy["Statement"]}


def permissions(recording: Recording) -> list[dict[str, Any]]:
    return [one.inputs for one in recording if "-orchestrator-shared-" in one.name]


def test_bucket_queue_and_orchestrator_allow_what_the_link_of_a_function_does(root: Path) -> None:
    def program() -> None:
        flow = engine(root, shared_with=[OTHER, ROLE])
        theirs = aws.Provider("theirs", region=REGION)  # pyright: ignore[reportCallIssue]
        Function(
            "Api",
            {"handler": "app.index.api", "root": str(root), "link": [flow]},
            opts=pulumi.ResourceOptions(provider=theirs),
        )

    recording = record(program)
    named = {"AWS": [OTHER, ROLE]}
    of_bucket, of_queue = (
        statements(recording, name) for name in ("Flow-history-policy", "Flow-events-shared")
    )
    assert of_bucket.pop("EncryptedTransportOnly")["Effect"] == "Deny"
    assert list(of_queue) == ["SendEvents"]
    assert all(one["Principal"] == named for one in [*of_bucket.values(), *of_queue.values()])
    # In both accounts, the same is allowed on the same things.
    linked = statements(recording, "Api-policy")
    for sid, one in (of_bucket | of_queue).items():
        assert linked[sid] == {key: part for key, part in one.items() if key != "Principal"}
    called = permissions(recording)
    assert sorted(one["principal"] for one in called) == [OTHER, ROLE]
    assert {one["action"] for one in called} == {"lambda:InvokeFunction"}
    allowed = {*of_bucket, *of_queue, "AskOrchestrator", "Logs"}
    assert set(linked) == allowed
    # By its name, a function would be looked for in the account of the caller.
    variables = recording.get("Api-function").inputs["environment"]["variables"]
    (arn,) = linked["AskOrchestrator"]["Resource"]
    assert variables[settings.ORCHESTRATOR_FUNCTION_NAME] == arn


def test_with_versions_it_is_the_alias_that_is_called(root: Path) -> None:
    recording = record(lambda: made(engine(root, versions=True, shared_with=[OTHER])))
    (called,) = permissions(recording)
    assert called["qualifier"] == settings.LIVE


def test_without_it_nobody_else_is_named(root: Path) -> None:
    recording = record(lambda: made(engine(root)))
    assert list(statements(recording, "Flow-history-policy")) == ["EncryptedTransportOnly"]
    assert not [one for one in recording if "shared" in one.name]


def test_each_one_has_a_permission_of_its_own(root: Path) -> None:
    """So that one more, or one less, changes nothing of the others."""
    both, one = (
        record(lambda who=who: made(engine(root, shared_with=who)))  # type: ignore[misc]
        for who in ([OTHER, ROLE], [ROLE])
    )
    names = [
        {each.name for each in recording if "-orchestrator-shared-" in each.name}
        for recording in (both, one)
    ]
    assert names[1] < names[0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"shared_with": OTHER}, "give a list"),
        ({"shared_with": [210987654321]}, "neither the ID of an account"),
        ({"shared_with": ["*"]}, "neither the ID of an account"),
        ({"shared_with": ["arn:aws:iam::210987654321:root"]}, "neither the ID of an account"),
        ({"shared_with": [OTHER], "signing_key_store": "secret"}, "made in a secret"),
        ({"shared_with": [OTHER], "store": "dynamodb"}, "a table is found by its name"),
    ],
)
def test_what_cannot_be_shared_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(BadOption, match=told):
        EngineOptions.from_args({"worker": "a.b", "orchestrator": "a.c", **given})

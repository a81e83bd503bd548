"""Keys of the customer's that encrypt, and the key that signs: who may use them, and who sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import settings
from pulumi_component import BadOption, Function
from pulumi_component.options import EngineOptions, FunctionOptions
from tests.pulumi.recording import ACCOUNT, REGION, Recording, is_secret, record
from tests.pulumi.test_bundle import PLAIN as PLAIN_ENGINE
from tests.pulumi.test_bundle import properties, written
from tests.pulumi.test_engine import engine, made, resources

pytestmark = pytest.mark.usefixtures("packaged_once")

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b"
PARAMETER = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/Flow-signing-key-parameter"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:Flow-signing-key-secret-AbCdEf"
THEIRS = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/team/key"
PLAIN = {"worker": "a.b", "orchestrator": "a.c"}


def with_api(root: Path, **options: Any) -> Recording:
    def program() -> None:
        handler: Any = {"handler": "app.index.api", "root": str(root)}
        Function("Api", {**handler, "link": [engine(root, **options)]})

    return record(program)


def allowed(recording: Recording, name: str) -> dict[str, list[str]]:
    policy = json.loads(recording.get(f"{name}-policy").inputs["policy"])
    return {one["Sid"]: [*one["Action"], *one["Resource"]] for one in policy["Statement"]}


# Encryption


def test_one_key_encrypts_all_that_is_stored(root: Path) -> None:
    recording = with_api(root, kms_key=KEY)
    rules = recording.get("Flow-history-encryption").inputs["rules"]
    assert rules == [
        {
            "applyServerSideEncryptionByDefault": {
                "sseAlgorithm": "aws:kms",
                "kmsMasterKeyId": KEY,
            },
            "bucketKeyEnabled": True,
        }
    ]
    queues = recording.of("Queue")
    assert len(queues) == 7
    for queue in queues:
        assert queue.inputs["kmsMasterKeyId"] == KEY
        # SQS takes one or the other.
        assert "sqsManagedSseEnabled" not in queue.inputs
    own = {"Flow-worker", "Flow-orchestrator"}
    for name in own:
        assert recording.get(f"{name}-function").inputs["kmsKeyArn"] == KEY
    encrypted = {one.name for one in recording.of("LogGroup") if one.inputs.get("kmsKeyId") == KEY}
    assert encrypted == {
        *(f"{name}-logs" for name in own),
        *(f"Flow-{pipe}-pipe-logs" for pipe in ("timers", "failures")),
    }


def test_whoever_reads_or_writes_what_is_encrypted_may_use_the_key(root: Path) -> None:
    recording = with_api(root, kms_key=KEY)
    for role in ("Flow-worker", "Flow-orchestrator", "Api", "Flow-scheduler", "Flow-timers-pipe"):
        statements = allowed(recording, role)
        assert statements["UseKey"] == ["kms:Decrypt", "kms:GenerateDataKey", KEY]
        assert "UseKey2" not in statements
    assert set(allowed(with_api(root), "Api")) & {"UseKey"} == set()


def test_schedules_are_encrypted_by_whoever_makes_them(root: Path) -> None:
    recording = with_api(root, kms_key=KEY)
    variables = recording.get("Flow-orchestrator-function").inputs["environment"]["variables"]
    assert variables[settings.SCHEDULE_KEY_ARN] == KEY
    assert allowed(recording, "Flow-orchestrator")["EncryptSchedules"] == ["kms:DescribeKey", KEY]
    for name in ("Flow-worker", "Api"):
        variables = recording.get(f"{name}-function").inputs["environment"]["variables"]
        assert settings.SCHEDULE_KEY_ARN not in variables
        assert "EncryptSchedules" not in allowed(recording, name)
    plain = with_api(root)
    variables = plain.get("Flow-orchestrator-function").inputs["environment"]["variables"]
    assert settings.SCHEDULE_KEY_ARN not in variables
    assert "EncryptSchedules" not in allowed(plain, "Flow-orchestrator")


def test_a_template_says_the_same_of_schedules(root: Path) -> None:
    template, _ = written(root, PLAIN_ENGINE + f'kms_key = "{KEY}"\n')
    variables = properties(template, "FlowOrchestratorFunction")["Environment"]["Variables"]
    assert variables[settings.SCHEDULE_KEY_ARN] == KEY
    policy = properties(template, "FlowOrchestratorPolicy")["PolicyDocument"]
    (one,) = (each for each in policy["Statement"] if each["Sid"] == "EncryptSchedules")
    assert one["Resource"] == [KEY]
    policy = properties(template, "FlowSchedulerPolicy")["PolicyDocument"]
    (one,) = (each for each in policy["Statement"] if each["Sid"] == "UseKey")
    assert one["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]


def test_a_function_of_its_own_has_its_own_key(root: Path) -> None:
    other = KEY + "c"

    def program() -> None:
        handler: Any = {"handler": "app.index.api", "root": str(root), "kms_key": other}
        Function("Api", {**handler, "link": [engine(root, kms_key=KEY)]})

    statements = allowed(record(program), "Api")
    assert {statements["UseKey"][-1], statements["UseKey2"][-1]} == {KEY, other}


@pytest.mark.parametrize("key", ["alias/mine", "0a1b", f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/a"])
def test_a_key_is_named_by_its_arn(root: Path, key: str) -> None:
    given = {"handler": "app.index.api", "root": str(root), "kms_key": key}
    with pytest.raises(BadOption, match=r"kms_key: .* is not the ARN of a key of KMS"):
        FunctionOptions.from_args(given)


# The key that signs

FUNCTIONS = ("Flow-worker", "Flow-orchestrator", "Api")


@pytest.mark.parametrize(
    ("store", "arn", "action"),
    [
        ("parameter", PARAMETER, "ssm:GetParameter"),
        ("secret", SECRET, "secretsmanager:GetSecretValue"),
        (THEIRS, THEIRS, "ssm:GetParameter"),
    ],
)
def test_functions_read_the_signing_key_where_it_is_kept(
    root: Path, store: str, arn: str, action: str
) -> None:
    recording = with_api(root, signing_key_store=store)
    for name in FUNCTIONS:
        function = recording.get(f"{name}-function")
        variables = function.inputs["environment"]["variables"]
        assert variables[settings.SIGNING_KEY_ARN] == arn
        assert settings.SIGNING_KEY not in variables
        assert allowed(recording, name)["ReadSigningKey"] == [action, arn]
    # Nobody else.
    for role in ("Flow-scheduler", "Flow-timers-pipe", "Flow-failures-pipe"):
        assert "ReadSigningKey" not in allowed(recording, role)


@pytest.mark.parametrize("store", ["environment", "parameter", "secret"])
def test_the_key_is_in_one_place_and_a_secret_there(root: Path, store: str) -> None:
    recording = with_api(root, signing_key_store=store)
    holders = {one.name for one in recording if "k" * 64 in json.dumps(one.inputs, default=str)}
    assert (
        holders
        == {
            "environment": {f"{name}-function" for name in FUNCTIONS},
            "parameter": {"Flow-signing-key-parameter"},
            "secret": {"Flow-signing-key-version"},
        }[store]
    )
    for one in recording:
        for key, value in one.inputs.items():
            if "k" * 64 in json.dumps(value, default=str):
                raw = one.raw[key]
                assert is_secret(raw) or is_secret(raw["variables"])
    # What is told to programs in other languages is readable then.
    assert is_secret(recording.outputs["Flow"]["link"]) == (store == "environment")


def test_a_key_that_exists_passes_through_nobodys_hands(root: Path) -> None:
    recording = record(lambda: made(engine(root, signing_key_store=THEIRS)))
    without = {one for one in resources() if one[1] != "Flow-signing-key"}
    assert {(one.type, one.name) for one in recording} == {one[:2] for one in without}
    assert not any(is_secret(value) for one in recording for value in one.raw.values())


def test_a_parameter_is_encrypted_with_the_key_of_the_engine(root: Path) -> None:
    recording = with_api(root, kms_key=KEY, signing_key_store="parameter", signing_key="k" * 64)
    inputs = recording.get("Flow-signing-key-parameter").inputs
    assert inputs == {"type": "SecureString", "value": "k" * 64, "keyId": KEY, "tags": {}}
    secret = with_api(root, kms_key=KEY, signing_key_store="secret")
    assert secret.get("Flow-signing-key-secret").inputs == {"kmsKeyId": KEY, "tags": {}}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"signing_key_store": "vault"},
            "'vault' is not one of environment, parameter, secret, nor",
        ),
        ({"signing_key_store": "arn:aws:s3:::b"}, "is not one of environment"),
        (
            {"signing_key_store": THEIRS, "signing_key": "k" * 32},
            "has the key already, or is not one of",
        ),
    ],
)
def test_where_the_key_cannot_be(options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadOption) as raised:
        EngineOptions.from_args({**PLAIN, **options})
    assert told in str(raised.value)

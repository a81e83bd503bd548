"""What a function runs on and in: network, layers, storage, images, roles, snapshots, versions."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pulumi
import pytest

from mini_workflow import settings
from pulumi_component import BadOption, BadPackage, Function
from pulumi_component.compute import Compute
from pulumi_component.options import FunctionOptions
from tests.pulumi.recording import ACCOUNT, REGION, Recording, record
from tests.pulumi.test_engine import engine, made

pytestmark = pytest.mark.usefixtures("packaged_once")

VPC = {"subnets": ["subnet-1", "subnet-2"], "security_groups": ["sg-1"]}
ACCESS_POINT = f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/fsap-1"
FILES = {"access_point": ACCESS_POINT, "path": "/mnt/models"}
LAYER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:numbers:3"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/heavy:1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/theirs"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/bound"


def function(root: Path, **options: Any) -> Recording:
    def program() -> None:
        Function("F", {"handler": "app.index.api", "root": str(root), **options})

    return record(program)


def allowed(recording: Recording, name: str) -> dict[str, Any]:
    policy = json.loads(recording.get(name).inputs["policy"])
    return {statement["Sid"]: statement for statement in policy["Statement"]}


def test_network_files_layers_storage_and_tracing(root: Path) -> None:
    recording = function(
        root, vpc=VPC, file_system=FILES, layers=[LAYER], storage="2 GB", tracing=True
    )
    inputs = recording.get("F-function").inputs
    assert inputs["vpcConfig"] == {
        "subnetIds": ["subnet-1", "subnet-2"],
        "securityGroupIds": ["sg-1"],
    }
    assert inputs["fileSystemConfig"] == {"arn": ACCESS_POINT, "localMountPath": "/mnt/models"}
    assert inputs["layers"] == [LAYER]
    assert inputs["ephemeralStorage"] == {"size": 2048}
    assert inputs["tracingConfig"] == {"mode": "Active"}
    assert "publish" not in inputs
    statements = allowed(recording, "F-policy")
    assert set(statements) == {"Logs", "UseNetwork", "UseFileSystem", "Trace"}
    assert statements["UseNetwork"]["Action"][:2] == [
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
    ]
    assert statements["UseFileSystem"]["Resource"] == [
        f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:file-system/*"
    ]
    assert statements["UseFileSystem"]["Condition"] == {
        "StringEquals": {"elasticfilesystem:AccessPointArn": ACCESS_POINT}
    }


def test_both_functions_of_an_engine_are_in_its_network(root: Path) -> None:
    recording = record(lambda: made(engine(root, vpc=VPC, permissions_boundary=BOUNDARY)))
    for what in ("worker", "orchestrator"):
        assert recording.get(f"Flow-{what}-function").inputs["vpcConfig"]["subnetIds"]
        assert "UseNetwork" in allowed(recording, f"Flow-{what}-policy")
    # Every role, those of pipes and schedules too.
    roles = recording.of("Role")
    assert len(roles) == 5
    assert {role.inputs["permissionsBoundary"] for role in roles} == {BOUNDARY}


def test_what_is_not_known_yet_passes(root: Path) -> None:
    def program() -> None:
        unknown: Any = pulumi.Output(set(), _unknown(), _known(False))
        both: Any = {"vpc": {"subnets": [unknown], "security_groups": unknown}, "layers": [unknown]}
        function: Any = {"handler": "app.index.api", "root": str(root)}
        system = {"access_point": unknown, "path": "/mnt/x"}
        Function("Parts", {**function, **both, "file_system": system})
        Function("Whole", {**function, "vpc": unknown, "file_system": unknown})
        Function("Image", {**function, "image": unknown, "role": unknown})
        engine(root, permissions_boundary=unknown)

    recording = record(program)
    names = {one.name for one in recording}
    assert {"Parts-function", "Whole-function", "Image-function", "Flow-timers-pipe"} <= names


async def _unknown() -> Any:
    return pulumi.UNKNOWN


async def _known(known: bool) -> bool:
    return known


def test_what_becomes_known_is_checked(root: Path) -> None:
    with pytest.raises(Exception, match="vpc: subnets: 'vpc-1' is not an ID such as subnet-"):
        function(root, vpc={**VPC, "subnets": pulumi.Output.from_input(["vpc-1"])})
    with pytest.raises(Exception, match="image: 'latest' is not the URI of an image in ECR"):
        function(root, image=pulumi.Output.from_input("latest"))


# Images


def test_an_image_takes_the_place_of_a_package(root: Path) -> None:
    # What it has is in the image: there is no such module here.
    recording = function(root, handler="elsewhere.inside.execute", image=IMAGE, memory="4 GB")
    inputs = recording.get("F-function").inputs
    assert inputs["packageType"] == "Image"
    assert inputs["imageUri"] == IMAGE
    assert inputs["imageConfig"] == {"commands": ["elsewhere.inside.execute"]}
    assert inputs["memorySize"] == 4096
    assert not {"code", "runtime", "handler", "name"} & set(inputs)


def test_a_function_has_no_fixed_name_that_another_kind_of_package_would_need_too(
    root: Path,
) -> None:
    """A change to an image replaces the function, and the new one is made before the old one goes."""
    for options in ({}, {"image": IMAGE}):
        registered = function(root, **options).get("F-function")
        assert "name" not in registered.inputs
        assert not registered.options["delete first"]


def test_one_function_of_an_engine_may_be_an_image(root: Path) -> None:
    worker = {"handler": "inside.execute", "image": IMAGE}
    (root / "requirements.txt").write_text("# nothing\n")
    recording = record(
        lambda: made(engine(root, worker=worker, requirements="requirements.txt", layers=[LAYER]))
    )
    assert recording.get("Flow-worker-function").inputs["imageUri"] == IMAGE
    assert "layers" not in recording.get("Flow-worker-function").inputs
    assert recording.get("Flow-orchestrator-function").inputs["layers"] == [LAYER]


# Roles


def test_a_role_of_somebody_else_is_left_as_it_is(root: Path) -> None:
    needs: list[str] = []

    def program() -> pulumi.Output[Any]:
        given: Any = {"handler": "app.index.api", "root": str(root), "role": ROLE, "vpc": VPC}
        plain = Function("F", {**given, "link": [engine(root)]})
        assert plain.role is None
        return plain.needs.apply(needs.append)

    recording = record(program)
    assert recording.get("F-function").inputs["role"] == ROLE
    assert not {"F-role", "F-policy"} & {one.name for one in recording}
    # What that role has to allow is told.
    statements = {statement["Sid"] for statement in json.loads(needs[0])["Statement"]}
    assert {"Logs", "UseNetwork", "SendEvents"} <= statements


def test_an_engine_tells_what_roles_need(root: Path) -> None:
    told: list[str] = []

    def program() -> pulumi.Output[Any]:
        flow = engine(root)
        return pulumi.Output.all(flow.needs["worker"], flow.needs["orchestrator"]).apply(
            told.extend
        )

    recording = record(program)
    policies = [f"Flow-{what}-policy" for what in ("worker", "orchestrator")]
    assert told == [recording.get(name).inputs["policy"] for name in policies]


def test_a_role_for_the_worker_alone(root: Path) -> None:
    worker = {"handler": "app.index.execute", "role": ROLE}
    recording = record(lambda: made(engine(root, worker=worker, permissions_boundary=BOUNDARY)))
    assert recording.get("Flow-worker-function").inputs["role"] == ROLE
    assert len(recording.of("Role")) == 4


# Versions


def test_without_need_nothing_is_published(root: Path) -> None:
    recording = function(root, url=True)
    assert not recording.of("Alias")
    assert "qualifier" not in recording.get("F-url").inputs


def versions_with_snapshots() -> list[str]:
    """Snapshots begin with Python 3.12."""
    return ["provisioned_concurrency", *(["snap_start"] if sys.version_info >= (3, 12) else [])]


@pytest.mark.parametrize("option", versions_with_snapshots())
def test_snapshots_and_ready_processes_are_of_versions_that_an_alias_names(
    root: Path, option: str
) -> None:
    wanted = {option: 3 if option == "provisioned_concurrency" else True}
    functions = {
        what: {"handler": f"app.index.{handler}", **wanted}
        for what, handler in (("worker", "execute"), ("orchestrator", "orchestrate"))
    }
    handler: Any = {"handler": "app.index.api", "root": str(root)}

    def program() -> None:
        flow = engine(root, **functions)
        Function("Api", {**handler, **wanted, "link": [flow], "url": {"authorization": "none"}})

    recording = record(program)
    for name in ("Flow-worker", "Flow-orchestrator", "Api"):
        inputs = recording.get(f"{name}-function").inputs
        assert inputs["publish"] is True
        assert ("snapStart" in inputs) == (option == "snap_start")
        alias = recording.get(f"{name}-alias").inputs
        assert alias == {"name": "live", "functionName": f"{name}-function", "functionVersion": "7"}
        ready = [one for one in recording if one.name == f"{name}-provisioned"]
        if option == "provisioned_concurrency":
            assert ready[0].inputs == {
                "functionName": f"{name}-function",
                "qualifier": "live",
                "provisionedConcurrentExecutions": 3,
            }
        else:
            assert not ready
    # Everybody calls the alias, and may call nothing else.
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"
    variables = recording.get("Flow-orchestrator-function").inputs["environment"]["variables"]
    assert variables[settings.WORKER_FUNCTION_NAME] == "Flow-worker-function:live"
    invoke = allowed(recording, "Flow-orchestrator-policy")["InvokeWorker"]
    assert invoke["Resource"] == [f"{arn}:Flow-worker-function:live"]
    linked = recording.get("Api-function").inputs["environment"]["variables"]
    assert linked[settings.ORCHESTRATOR_FUNCTION_NAME] == "Flow-orchestrator-function:live"
    ask = allowed(recording, "Api-policy")["AskOrchestrator"]
    assert ask["Resource"] == [f"{arn}:Flow-orchestrator-function:live"]
    mapping = recording.get("Flow-events-mapping").inputs
    assert mapping["functionName"] == f"{arn}:Flow-orchestrator-function:live"
    assert recording.get("Flow-worker-invocations").inputs["qualifier"] == "live"
    for part in ("url", "url-permission", "url-invoke-permission"):
        assert recording.get(f"Api-{part}").inputs["qualifier"] == "live"


# The orchestrator's own calls


def test_an_orchestrator_has_calls_of_its_own_where_the_engine_has_a_limit(root: Path) -> None:
    def reserved(**options: Any) -> Any:
        recording = record(lambda: made(engine(root, **options)))
        return recording.get("Flow-orchestrator-function").inputs.get(
            "reservedConcurrentExecutions"
        )

    orchestrator = {"handler": "app.index.orchestrate"}
    assert reserved() is None
    assert reserved(concurrency=20) == 20
    assert reserved(concurrency=20, orchestrator={**orchestrator, "concurrency": 50}) == 50
    # In an account that has nothing to reserve.
    assert reserved(concurrency=20, orchestrator={**orchestrator, "concurrency": -1}) == -1


def test_an_engine_whose_tasks_may_take_every_call_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda message, **_: told.append(message))
    worker = {"handler": "app.index.execute", "concurrency": 50}
    orchestrator = {"handler": "app.index.orchestrate", "concurrency": 20}
    for kept in ({"concurrency": 20}, {"worker": worker}, {"orchestrator": orchestrator}):
        record(lambda kept=kept: made(engine(root, **kept)))
        assert told == []
    record(lambda: made(engine(root)))
    (warning,) = told
    assert warning.startswith("Flow: nobody is there to say how many calls the account may run.")
    assert "as many tasks at a time as the account allows leave none for it" in warning
    assert "the option concurrency" in warning


# What cannot be


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"vpc": "vpc-1"}, "vpc: 'vpc-1' is not {\"subnets\""),
        ({"vpc": {"subnets": ["subnet-1"]}}, "vpc: security_groups is a list, and not an empty"),
        ({"vpc": {**VPC, "subnets": "subnet-1"}}, "vpc: subnets is a list"),
        ({"vpc": {**VPC, "subnets": []}}, "vpc: subnets is a list"),
        ({"vpc": {**VPC, "subnets": ["sg-1"]}}, "vpc: subnets: 'sg-1' is not an ID such as subnet"),
        ({"vpc": {**VPC, "subnet": []}}, "vpc has no option 'subnet'; did you mean 'subnets'?"),
        ({"file_system": FILES}, "file_system: a function reaches a file system through its netw"),
        (
            {"vpc": VPC, "file_system": {**FILES, "path": "/models"}},
            "file_system: path: '/models' is not a path such as \"/mnt/models\"",
        ),
        (
            {"vpc": VPC, "file_system": {**FILES, "access_point": "fsap-1"}},
            "file_system: access_point: 'fsap-1' is not the ARN of an access point",
        ),
        ({"layers": ["numbers"]}, "layers: 'numbers' is not the ARN of a version of a layer"),
        ({"layers": LAYER}, "layers: a function has a list of 5 layers at most"),
        ({"layers": [LAYER] * 6}, "layers: a function has a list of 5 layers at most"),
        ({"storage": "256 MB"}, "storage: '256 MB' is not between 512 and 10,240 MB"),
        ({"image": "heavy:1"}, "image: 'heavy:1' is not the URI of an image in ECR"),
        ({"image": IMAGE.rpartition(":")[0]}, "is not the URI of an image in ECR, with a tag"),
        ({"image": IMAGE, "requirements": ["numpy"]}, "requirements: the option image brings all"),
        ({"image": IMAGE, "layers": [LAYER]}, "layers: the option image brings all"),
        ({"image": IMAGE, "snap_start": True}, "no snapshots of functions with image"),
        ({"role": "theirs"}, "role: 'theirs' is not the ARN of a role"),
        (
            {"role": ROLE, "permissions_boundary": BOUNDARY},
            "permissions_boundary: it is for a role",
        ),
        ({"permissions_boundary": ROLE}, "is not the ARN of a policy"),
        ({"tracing": "yes"}, "tracing: 'yes' is not True or False"),
        ({"provisioned_concurrency": 0}, "provisioned_concurrency: 0 is not between 1 and"),
        (
            {"provisioned_concurrency": 3, "concurrency": 2},
            "provisioned_concurrency: 3 calls kept ready are more than the 2",
        ),
        (
            {"provisioned_concurrency": 3, "snap_start": True},
            "no snapshots of functions with provisioned_concurrency",
        ),
        ({"storage": "1 GB", "snap_start": True}, "no snapshots of functions with storage"),
    ],
)
def test_bad_options(root: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadOption) as raised:
        FunctionOptions.from_args({"handler": "app.index.api", "root": str(root), **options})
    assert told in str(raised.value)


def test_snapshots_begin_with_a_version_of_python() -> None:
    with pytest.raises(BadOption, match=r"from Python 3\.12 on, and this is 3\.11"):
        Compute.from_args({"snap_start": True}, "3.11")
    assert Compute.from_args({"snap_start": True}, "3.12").published


def test_a_handler_in_an_image_has_the_form_of_one(root: Path) -> None:
    with pytest.raises(BadPackage, match="is not of the form"):
        FunctionOptions.from_args({"handler": "execute", "root": str(root), "image": IMAGE})


@pytest.mark.parametrize("option", ["role", "snap_start", "provisioned_concurrency"])
def test_options_of_one_function_are_refused_for_the_engine(root: Path, option: str) -> None:
    with pytest.raises(BadOption, match=f"no option '{option}'; it is one of its functions"):
        engine(root, **{option: 1})

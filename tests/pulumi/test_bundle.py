"""The template of CloudFormation: what the components make, as linters and an emulator take it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner

from mini_workflow import settings
from mini_workflow.cli.app import cli
from mini_workflow.codecs import Signer
from pulumi_component import BadOption, bundle, cloudformation, staging
from tests.aws.emulator import functions
from tests.aws.emulator.server import Server
from tests.pulumi.conftest import new_root
from tests.pulumi.recording import record
from tests.pulumi.test_engine import engine
from tests.pulumi.test_engine import made as end
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("packaged_once")

LINTER = Path(sys.executable).with_name("cfn-lint")

PLAIN = """
[engines.Flow]
worker = "app.index.execute"
orchestrator = "app.index.orchestrate"
"""

API = """
[functions.Api]
handler = "app.index.api"
url = {authorization = "none", cors = true}
link = ["Flow"]
"""

PULLED = """
[engines.Flow.workers]
big = {pull = true}
"""

SCHEDULES = """
[engines.Flow.schedules.nightly]
workflow = "report"
cron = "0 3 * * *"
timezone = "Europe/Berlin"
args = ["daily ${x}"]
"""

VERSIONS = PLAIN + 'versions = true\nalarms = true\nstore = "dynamodb"\n' + PULLED

ALL = """
[engines.Flow]
orchestrator = {handler = "app.index.orchestrate", provisioned_concurrency = 2}
concurrency = 20
alarms = {topics = ["arn:aws:sns:us-east-1:123456789012:people"]}
dashboard = true
log_retention = "1 week"
tags = {team = "blue"}
environment = {PLACE = "${here}"}
vpc = {subnets = ["subnet-0a1b2c3d"], security_groups = ["sg-0a1b2c3d"]}
layers = ["arn:aws:lambda:us-east-1:123456789012:layer:numbers:3"]
storage = "1 GB"
tracing = true
kms_key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
permissions_boundary = "arn:aws:iam::123456789012:policy/bound"
history = {bucket = "ours", prefix = "flows/"}
store = "dynamodb"

[engines.Flow.worker]
handler = "app.index.execute"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/heavy:1"
permissions = [{actions = ["s3:GetObject"], resources = ["arn:aws:s3:::b/*"]}]

[engines.Flow.workers]
gpu = {handler = "app.index.execute", memory = "10 GB", provisioned_concurrency = 1}
big = "app.index.execute"
ours = {pull = true}

[engines.Flow.worker.file_system]
path = "/mnt/m"
access_point = "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-0a1b2c3d4e5f60718"

[functions.Api]
handler = "app.index.api"
url = true
provisioned_concurrency = 1
link = ["Flow.history", "Flow.events"]

[functions.Own]
handler = "app.index.api"
role = "arn:aws:iam::123456789012:role/theirs"
concurrency = -1
"""


def written(root: Path, text: str) -> tuple[dict[str, Any], list[Path]]:
    """The template of a description, and the archives."""
    (root / "deploy.toml").write_text(text)
    template, *archives = bundle.bundle(root / "deploy.toml", root / "build")
    return json.loads(template.read_text()), archives


def _bundled(root: Path) -> list[Path]:
    return bundle.bundle(root / "deploy.toml", root / "build")


def properties(template: dict[str, Any], name: str) -> dict[str, Any]:
    return template["Resources"][name]["Properties"]


SHARED = (
    PLAIN
    + """
shared_with = ["210987654321", "arn:aws:iam::210987654321:role/theirs"]
signing_key_store = "arn:aws:secretsmanager:us-east-1:123456789012:secret:ours-AbCdEf"
"""
)

LINTED = {
    "shared": SHARED,
    "plain": PLAIN,
    "api": PLAIN + API,
    "versions": VERSIONS + SCHEDULES,
    "all": ALL,
}


def test_the_linter_of_cloudformation_finds_nothing_but_what_is_wrong(tmp_path: Path) -> None:
    """It starts once for all templates and one that is wrong: to load its rules takes most of the time."""
    template: dict[str, Any] = {}
    for name, text in LINTED.items():
        template, _ = written(new_root(tmp_path / name), text)
        (tmp_path / name / "template.json").write_text(json.dumps(template))
    properties(template, "FlowEvents")["Fifo"] = True
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "template.json").write_text(json.dumps(template))
    found: dict[str, list[str]] = {name: [] for name in (*LINTED, "wrong")}
    paths = [f"{name}/template.json" for name in found]
    done = subprocess.run(
        [LINTER, "--regions", "us-east-1", "--format", "json", "--", *paths],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    for one in json.loads(done.stdout):
        found[Path(one["Filename"]).parent.name].append(one["Message"])
    (wrong,) = found.pop("wrong")
    assert "'Fifo' was unexpected" in wrong
    assert found == {name: [] for name in LINTED}


def test_every_role_may_do_what_it_may_with_pulumi(root: Path) -> None:
    template, _ = written(root, PLAIN)
    recording = record(lambda: end(engine(root, signing_key_store="secret")))
    for one in recording.of("RolePolicy"):
        name = cloudformation.logical(one.name)
        found = properties(template, name)["PolicyDocument"]["Statement"]
        wanted = json.loads(one.inputs["policy"])["Statement"]
        assert [(s["Sid"], s["Action"], len(s["Resource"])) for s in found] == [
            (s["Sid"], s["Action"], len(s["Resource"])) for s in wanted
        ]
    # Nothing has been forgotten: what has no resource of its own is part of another.
    parts = {"Flow-suffix", "Flow-signing-key", "Flow-signing-key-version"}
    parts |= {f"Flow-history-{part}" for part in ("private", "encryption", "lifecycle")}
    parts |= {f"Flow-{what}-recursion" for what in ("worker", "orchestrator")}
    wanted_names = {
        cloudformation.logical(one.name)
        for one in recording
        if not one.type.startswith("mini-workflow") and one.name not in parts
    }
    assert set(template["Resources"]) == wanted_names


def test_the_orchestrator_knows_the_other_workers(root: Path) -> None:
    template, _ = written(root, ALL)
    variables = properties(template, "FlowOrchestratorFunction")["Environment"]["Variables"]
    known = json.loads(variables["MINI_WORKFLOW_WORKERS"]["Fn::Sub"])
    assert known == {
        "gpu": "${FlowWorkerGpuFunction}:live",
        "big": "${FlowWorkerBigFunction}",
        "ours": "${FlowWorkerOurs}",
    }


def test_the_orchestrator_is_called_with_schedules(root: Path) -> None:
    template, _ = written(root, PLAIN + SCHEDULES)
    assert template["Resources"]["FlowDeployedSchedules"] == {
        "Type": "Custom::Schedules",
        "Properties": {
            "ServiceToken": {"Fn::GetAtt": ["FlowOrchestratorFunction", "Arn"]},
            "ServiceTimeout": 300,
            "Input": json.dumps(
                {
                    "mini_workflow": "schedules",
                    "schedules": {
                        "nightly": {
                            "args": ["daily ${x}"],
                            "cron": "0 3 * * *",
                            "timezone": "Europe/Berlin",
                            "workflow": "report",
                        }
                    },
                }
            ),
        },
        "DependsOn": ["FlowEventsMapping", "FlowOrchestratorPolicy"],
    }


def test_how_many_calls_are_the_orchestrators_own_is_a_parameter(root: Path) -> None:
    template, _ = written(
        root,
        PLAIN + '\n[engines.Said]\nworker = "app.index.execute"\n'
        'orchestrator = "app.index.orchestrate"\nconcurrency = 30\n',
    )
    # By default nothing is reserved: that can be deployed to every account.
    assert template["Parameters"]["FlowConcurrency"]["Default"] == "0"
    assert template["Conditions"] == {
        "FlowReserves": {"Fn::Not": [{"Fn::Equals": [{"Ref": "FlowConcurrency"}, "0"]}]}
    }
    none = {"Ref": "AWS::NoValue"}
    calls = {"Ref": "FlowConcurrency"}
    assert properties(template, "FlowOrchestratorFunction")["ReservedConcurrentExecutions"] == {
        "Fn::If": ["FlowReserves", calls, none]
    }
    assert properties(template, "FlowEventsMapping")["ScalingConfig"] == {
        "Fn::If": ["FlowReserves", {"MaximumConcurrency": calls}, none]
    }
    pattern = re.compile(template["Parameters"]["FlowConcurrency"]["AllowedPattern"])
    taken = [n for n in range(1_200) if pattern.fullmatch(str(n))]
    assert taken == [0, *range(2, 1_001)]
    # Who has said it in the file has no parameter.
    assert sorted(template["Parameters"]) == ["CodeBucket", "FlowConcurrency"]
    assert properties(template, "SaidOrchestratorFunction")["ReservedConcurrentExecutions"] == 30


def test_what_is_shared_is_shared_by_a_template_too(root: Path) -> None:
    template, _ = written(root, SHARED)
    policy = properties(template, "FlowEventsShared")
    assert policy["Queues"] == [{"Ref": "FlowEvents"}]
    (statement,) = policy["PolicyDocument"]["Statement"]
    who = ["210987654321", "arn:aws:iam::210987654321:role/theirs"]
    assert statement["Principal"] == {"AWS": who}
    called = [
        one["Properties"]["Principal"]
        for one in template["Resources"].values()
        if one["Type"] == "AWS::Lambda::Permission"
    ]
    assert sorted(called) == who


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace('"app.index.execute"', '{handler = "app.index.execute", concurrency = 5}'),
        PLAIN.replace(
            '"app.index.orchestrate"', '{handler = "app.index.orchestrate", concurrency = -1}'
        ),
    ],
)
def test_there_is_no_such_parameter_where_workers_are_limited_or_nothing_is_wanted(
    root: Path, text: str
) -> None:
    template, _ = written(root, text)
    assert sorted(template["Parameters"]) == ["CodeBucket"]
    assert "Conditions" not in template


def test_histories_outlive_the_stack_and_are_private(root: Path) -> None:
    template, _ = written(root, PLAIN)
    bucket = template["Resources"]["FlowHistory"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    assert all(bucket["Properties"]["PublicAccessBlockConfiguration"].values())
    gone, _ = written(root, PLAIN + 'removal = "destroy"\n')
    assert "DeletionPolicy" not in gone["Resources"]["FlowHistory"]


def test_no_key_is_in_a_template(root: Path) -> None:
    template, _ = written(root, PLAIN)
    assert properties(template, "FlowSigningKeySecret") == {
        "GenerateSecretString": {
            "PasswordLength": 64,
            "ExcludePunctuation": True,
            "ExcludeCharacters": "|",
        }
    }
    variables = properties(template, "FlowWorkerFunction")["Environment"]["Variables"]
    assert variables[settings.SIGNING_KEY_ARN] == {"Fn::GetAtt": ["FlowSigningKeySecret", "Id"]}
    assert settings.SIGNING_KEY not in variables
    # As a variable, it is asked for when the stack is made.
    visible, _ = written(root, PLAIN + 'signing_key_store = "environment"\n')
    variables = properties(visible, "FlowWorkerFunction")["Environment"]["Variables"]
    assert variables[settings.SIGNING_KEY] == {
        "Fn::Sub": "{{resolve:secretsmanager:${FlowSigningKey}}}"
    }
    assert "FlowSigningKey" in visible["Resources"]
    assert not [name for name in visible["Outputs"] if name.endswith("SigningKey")]


def test_another_function_is_another_version(root: Path) -> None:
    def version(text: str) -> str:
        template, _ = written(root, text)
        alias = properties(template, "ApiAlias")
        name, attribute = alias["FunctionVersion"]["Fn::GetAtt"]
        assert (attribute, template["Resources"][name]["Type"]) == (
            "Version",
            "AWS::Lambda::Version",
        )
        assert alias["ProvisionedConcurrencyConfig"] == {"ProvisionedConcurrentExecutions": 3}
        return name

    text = PLAIN + '[functions.Api]\nhandler = "app.index.api"\nprovisioned_concurrency = 3\n'
    first = version(text)
    assert version(text) == first
    assert version(text + 'memory = "2 GB"\n') != first
    with (root / "app" / "index.py").open("a") as file:
        file.write("# changed\n")
    assert version(text) != first


def test_the_same_description_gives_the_same_bytes(root: Path) -> None:
    files = []
    for _ in range(2):
        (root / "deploy.toml").write_text(PLAIN + API)
        files.append({one.name: one.read_bytes() for one in _bundled(root)})
    assert files[0] == files[1]


def test_archives_keep_what_is_executable(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    (folder / "bin").mkdir(parents=True)
    for name, mode in (("bin/tool", 0o755), ("module.py", 0o644)):
        (folder / name).write_text("text")
        (folder / name).chmod(mode)
    staging.archive(folder, tmp_path / "code.zip")
    with zipfile.ZipFile(tmp_path / "code.zip") as packed:
        modes = {one.filename: one.external_attr >> 16 for one in packed.infolist()}
    assert modes == {"bin/tool": 0o755, "module.py": 0o644}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no engine in it"),
        ("[engines", "deploy.toml: "),
        ("[engine.Flow]\n", "there is a table 'engine'"),
        ('[engines]\nFlow = "x"\n', "engines has a table for each of them"),
        (PLAIN + "memory = 1\n", "worker: memory: 1 is not between"),
        (PLAIN + 'signing_key = "k"\n', "a template is no place for a key"),
        (PLAIN + 'signing_key_store = "parameter"\n', "CloudFormation cannot make an encrypted"),
        (PLAIN + 'history = "left"\n', "a template cannot change a bucket that exists"),
        (PLAIN + 'link = ["Other"]\n', "'Other' is not the name of an engine of this file"),
        (PLAIN + 'link = ["Flow"]\n', "are linked to each other in a circle"),
        (PLAIN + API.replace('"Flow"', '"Flow.timers"'), "nor a node of one"),
        (
            PLAIN.replace("Flow", "Flow-a") + PLAIN.replace("Flow", "FlowA"),
            "two names are",
        ),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(root: Path, text: str, told: str) -> None:
    with pytest.raises(BadOption) as raised:
        written(root, text)
    assert told in str(raised.value)
    assert not (root / "build").exists()


# The command


def test_the_command_says_what_comes_next(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    (root / "deploy.toml").write_text(PLAIN)
    done = CliRunner().invoke(cli, ["package"])
    assert done.exit_code == 0, done.output
    assert "build/template.json: " in done.output
    assert "aws cloudformation deploy --template-file build/template.json" in done.output
    assert "FlowConcurrency=N, as a parameter too, reserves N calls: " in done.output
    answer = json.loads(CliRunner().invoke(cli, ["package", "--json", "-o", "dist"]).stdout)
    assert answer["parameters"] == ["CodeBucket", "FlowConcurrency"]
    assert answer["template"] == "dist/template.json"
    assert all((root / name).is_file() for name in answer["archives"])
    (root / "deploy.toml").write_text("[engine.x]")
    wrong = CliRunner().invoke(cli, ["package"])
    assert wrong.exit_code == 2
    assert "there is a table 'engine'" in wrong.output
    assert CliRunner().invoke(cli, ["package", "nothing.toml"]).exit_code == 6


def test_the_command_names_what_is_not_installed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setitem(sys.modules, "pulumi_component.bundle", None)
    done = CliRunner().invoke(cli, ["package"])
    assert done.exit_code == 6
    assert "package needs the extra pulumi: run pip install 'mini-workflow[pulumi]'" in done.output


# On the emulator


SIGNING = """
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.settings import Settings
from mini_workflow.stores.aws.clients import Clients


def execute(event, context):
    return Container(Settings(), Clients()).signer.code("text")


orchestrate = api = execute
"""


def test_a_stack_is_made_and_its_functions_share_a_key(strict_aws: Server, root: Path) -> None:
    (root / "app" / "index.py").write_text(SIGNING)
    template, archives = written(root, PLAIN + PULLED + API)
    for one in template["Resources"].values():
        if one["Type"] == "AWS::Lambda::Function":
            one["Properties"]["Runtime"] = functions.RUNTIME
    code = f"code-{uuid4().hex[:8]}"
    s3 = strict_aws.client("s3")
    s3.create_bucket(Bucket=code)
    for archive in archives:
        # There, something in the archive has to start the function.
        s3.put_object(Bucket=code, Key=archive.name, Body=functions.runnable(archive))
    made_by = strict_aws.client("cloudformation")
    name = f"flow-{uuid4().hex[:8]}"
    given = {"CodeBucket": code, "FlowConcurrency": "20"}
    made_by.create_stack(
        StackName=name,
        TemplateBody=json.dumps(template),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": given[key]} for key in given],
    )

    def ended() -> Any:
        (stack,) = made_by.describe_stacks(StackName=name)["Stacks"]
        return None if stack["StackStatus"].endswith("_IN_PROGRESS") else stack

    stack = eventually(ended, every=0.1)
    assert stack["StackStatus"] == "CREATE_COMPLETE", made_by.describe_stack_events(StackName=name)
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    # Each of them reads the key where it is kept, because its role allows that.
    secret = strict_aws.client("secretsmanager").get_secret_value(
        SecretId=outputs["FlowSigningKeyArn"]
    )
    assert len(secret["SecretString"]) == 64
    wanted = Signer(secret["SecretString"].encode()).code("text")
    names = [outputs["ApiName"], outputs["FlowOrchestratorFunctionName"]]
    for function in names:
        answer = strict_aws.client("lambda").invoke(FunctionName=function, Payload="{}")
        assert json.loads(answer["Payload"].read()) == wanted
    reserved = strict_aws.client("lambda").get_function_concurrency(FunctionName=names[1])
    assert reserved["ReservedConcurrentExecutions"] == 20
    mappings = strict_aws.client("lambda").list_event_source_mappings(FunctionName=names[1])
    (mapping,) = mappings["EventSourceMappings"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 20}
    # A worker that pulls is a queue, which the orchestrator knows of and may send to.
    orchestrator = strict_aws.client("lambda").get_function_configuration(FunctionName=names[1])
    settings_of = settings.Settings(orchestrator["Environment"]["Variables"])
    url = settings_of.workers()["big"]
    sts = strict_aws.client("sts")
    session = sts.assume_role(RoleArn=orchestrator["Role"], RoleSessionName="test")["Credentials"]
    strict_aws.client("sqs", session).send_message(QueueUrl=url, MessageBody="an attempt")
    sqs = strict_aws.client("sqs")
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    assert message["Body"] == "an attempt"
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"]
    assert "WorkerBigDlq" in told["RedrivePolicy"]
    made_by.delete_stack(StackName=name)

"""More workers than one: a function each, which the orchestrator may call and finds by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import settings
from pulumi_component.errors import BadOption
from pulumi_component.options import EngineOptions
from tests.pulumi.recording import ACCOUNT, REGION, Recording, record
from tests.pulumi.test_engine import HISTORY, SQS, engine, made, registered, resources

pytestmark = pytest.mark.usefixtures("packaged_once")

WORKERS_VARIABLE = settings.WORKERS
ENGINE = {"worker": "app.index.execute", "orchestrator": "app.index.orchestrate"}
WORKERS: dict[str, Any] = {
    "gpu": {"handler": "app.index.execute", "memory": "10 GB", "timeout": "1 minute"},
    "Big-2": "app.index.execute",
}


@pytest.fixture
def recording(root: Path) -> Recording:
    return record(lambda: made(engine(root, workers=WORKERS, environment={"PLACE": "here"})))


def statements(recording: Recording, policy: str) -> dict[str, Any]:
    found = json.loads(recording.get(policy).inputs["policy"])["Statement"]
    return {one["Sid"]: one for one in found}


def test_each_is_a_function_with_what_belongs_to_it(recording: Recording) -> None:
    more = {name for _, name, _ in registered(recording)} - {name for _, name, _ in resources()}
    assert more == {
        f"Flow-worker-{name}{part}"
        for name in WORKERS
        for part in (
            "",
            "-logs",
            "-role",
            "-policy",
            "-function",
            "-invocations",
            "-recursion",
        )
    }


def test_they_have_their_own_options_and_those_of_the_engine(recording: Recording) -> None:
    gpu = recording.get("Flow-worker-gpu-function").inputs
    big = recording.get("Flow-worker-Big-2-function").inputs
    assert (gpu["memorySize"], gpu["timeout"]) == (10_240, 60)
    assert (big["memorySize"], big["timeout"]) == (1_024, 900)
    for function in (gpu, big):
        assert function["environment"]["variables"] == {**HISTORY, "PLACE": "here"}
    invocations = recording.get("Flow-worker-gpu-invocations").inputs
    default = recording.get("Flow-worker-invocations").inputs
    assert invocations == {**default, "functionName": "Flow-worker-gpu-function"}
    assert recording.get("Flow-worker-gpu-recursion").inputs == {
        "functionName": "Flow-worker-gpu-function",
        "recursiveLoop": "Allow",
    }
    assert "Flow-worker-gpu-recursion" in recording.get("Flow-events-mapping").dependencies


def test_they_may_do_what_the_worker_may(root: Path) -> None:
    granted = [{"actions": ["s3:GetObject"], "resources": ["arn:aws:s3:::b/*"]}]
    recording = record(lambda: made(engine(root, workers=WORKERS, permissions=granted)))

    def but_logs(name: str) -> list[Any]:
        found = json.loads(recording.get(name).inputs["policy"])["Statement"]
        return [one for one in found if one.get("Sid") != "Logs"]

    assert but_logs("Flow-worker-gpu-policy") == but_logs("Flow-worker-policy")
    assert any(one["Action"] == ["s3:GetObject"] for one in but_logs("Flow-worker-gpu-policy"))


def test_the_orchestrator_finds_and_may_call_them(recording: Recording) -> None:
    variables = recording.get("Flow-orchestrator-function").inputs["environment"]["variables"]
    assert settings.Settings(variables).workers() == {
        "gpu": "Flow-worker-gpu-function",
        "Big-2": "Flow-worker-Big-2-function",
    }
    assert statements(recording, "Flow-orchestrator-policy")["InvokeWorker"]["Resource"] == [
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
        for name in (
            "Flow-worker-function",
            "Flow-worker-gpu-function",
            "Flow-worker-Big-2-function",
        )
    ]


def test_a_worker_that_is_published_is_called_by_its_alias(root: Path) -> None:
    gpu = {"handler": "app.index.execute", "provisioned_concurrency": 1}
    recording = record(lambda: made(engine(root, workers={"gpu": gpu})))
    variables = recording.get("Flow-orchestrator-function").inputs["environment"]["variables"]
    assert settings.Settings(variables).workers() == {"gpu": "Flow-worker-gpu-function:live"}
    assert recording.get("Flow-worker-gpu-invocations").inputs["qualifier"] == "live"


def test_each_has_alarms_and_is_on_the_dashboard(root: Path) -> None:
    recording = record(lambda: made(engine(root, workers=WORKERS, alarms=True, dashboard=True)))
    alarms = {one.name: one.inputs["dimensions"] for one in recording.of("MetricAlarm")}
    for name in ("worker", "worker-gpu", "worker-Big-2"):
        for what in ("throttles", "deaths", "news"):
            function = {"FunctionName": f"Flow-{name}-function"}
            assert alarms[f"Flow-{name}-{what}-alarm"] == function
    body = recording.get("Flow-dashboard").inputs["dashboardBody"]
    assert "Flow-worker-gpu-function" in body
    assert "FailedAttempts of worker-gpu" in body


def test_one_that_pulls_is_a_queue_and_no_function(root: Path) -> None:
    workers = {"gpu": "app.index.execute", "big": {"pull": True}}
    policies: list[str] = []

    def program() -> Any:
        flow = engine(root, workers=workers, alarms=True)
        return flow.needs["worker-big"].apply(policies.append)

    recording = record(program)
    names = {one.name for one in recording}
    assert {"Flow-worker-big", "Flow-worker-big-dlq", "Flow-worker-big-dlq-alarm"} <= names
    assert "Flow-worker-big-function" not in names
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:Flow-worker-big"
    variables = recording.get("Flow-orchestrator-function").inputs["environment"]["variables"]
    assert settings.Settings(variables).workers() == {
        "gpu": "Flow-worker-gpu-function",
        "big": f"{SQS}/Flow-worker-big",
    }
    allowed = statements(recording, "Flow-orchestrator-policy")
    assert queue in allowed["SendEventsAndTimers"]["Resource"]
    assert queue not in allowed["InvokeWorker"]["Resource"]
    (policy,) = policies
    taken = {one["Sid"]: one for one in json.loads(policy)["Statement"]}
    assert taken["TakeTasks"]["Resource"] == [queue]
    assert "SendEvents" in taken
    link = recording.outputs["Flow"]["link"]
    assert WORKERS_VARIABLE in json.dumps(link, default=str)


@pytest.mark.parametrize(
    ("workers", "told"),
    [
        ({"big": {"pull": True, "memory": "1 GB"}}, "workers: big: one that pulls is no function"),
        ({"big": {"pull": "yes"}}, "workers: big: pull: "),
        ({"big": {"pull": False}}, "workers: big: {'pull': False} is not a handler"),
        (["gpu"], "workers: ['gpu'] is not a mapping by names"),
        ({"default": "a.b"}, "workers: 'default' is the worker of tasks that name none"),
        ({"g_pu": "a.b"}, "workers: 'g_pu' is not the name of a worker: 1 to 32 letters"),
        ({"": "a.b"}, "workers: '' is not the name of a worker"),
        ({"gpu": None}, "workers: gpu: None is not a handler"),
        ({"gpu": {"memory": "1 GB"}}, "workers: gpu: {'memory': '1 GB'} is not a handler"),
        ({"gpu": {"handler": "a.b", "memory": "11 GB"}}, "workers: gpu: memory: "),
        ({"gpu": {"handler": "a.b", "x": 1}}, "workers: gpu: a Function has no option 'x'"),
        ({"gpu": {"handler": "a.b", "url": True}}, "workers: gpu: the engine calls it"),
        (
            {"gpu": {"handler": "a.b", "environment": {"QUEUE_URL": "x"}}},
            "workers: gpu: environment: QUEUE_URL is",
        ),
    ],
)
def test_bad_workers(workers: Any, told: str) -> None:
    with pytest.raises(BadOption) as raised:
        EngineOptions.from_args({**ENGINE, "workers": workers})
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("workers", "told"),
    [
        ({"x" * 32: "app.index.execute"}, "has more than 26 characters: with"),
        ({"gpu": "app.index.nothing"}, "defines no 'nothing'"),
    ],
)
def test_what_is_bad_registers_nothing(root: Path, workers: Any, told: str) -> None:
    def program() -> None:
        with pytest.raises(BadOption, match=told):
            engine(root, "ALongerName", workers=workers)

    assert record(program).registered == []

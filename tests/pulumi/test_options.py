"""Options: as users write them, and what is said about those that cannot be."""

import ast
import inspect
import json
import logging
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pulumi
import pytest

from mini_workflow import settings
from mini_workflow.errors import SettingMissing
from mini_workflow.runtimes.aws import telemetry
from pulumi_component import BadOption, Function, args, staging, units
from pulumi_component.options import LOG_LEVELS, EngineOptions, FunctionOptions
from tests.pulumi.recording import Recording, is_secret, record
from tests.pulumi.test_engine import engine, made

pytestmark = pytest.mark.usefixtures("packaged_once")

ENGINE = {"worker": "app.index.execute", "orchestrator": "app.index.orchestrate"}

# Units


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("20 seconds", 20),
        ("1 second", 1),
        ("10 minutes", 600),
        ("10 Minutes", 600),
        ("1.5 hours", 5400),
        ("2days", 172_800),
        ("1 week", 604_800),
        (90, 90),
        (90.0, 90),
        (timedelta(minutes=2), 120),
    ],
)
def test_durations(written: Any, seconds: int) -> None:
    assert units.seconds("timeout", written, 1, 10**6) == seconds


@pytest.mark.parametrize(
    ("written", "megabytes"), [("1024 MB", 1024), ("2 GB", 2048), ("0.5 GB", 512), (256, 256)]
)
def test_sizes(written: Any, megabytes: int) -> None:
    assert units.megabytes("memory", written, 1, 10_000) == megabytes


@pytest.mark.parametrize(
    ("written", "days"),
    [("1 day", 1), ("2 weeks", 14), ("1 month", 30), ("1 year", 365), ("forever", 0)],
)
def test_retention_of_logs(written: Any, days: int) -> None:
    assert units.log_retention("log_retention", written) == days


# What functions become


def function(root: Path, /, **options: Any) -> FunctionOptions:
    given = {"handler": "app.index.api", "root": str(root), **options}
    return FunctionOptions.from_args(given)


def test_defaults_of_a_function(root: Path) -> None:
    plain = function(root)
    assert (plain.timeout, plain.memory, plain.log_retention) == (20, 1024, 30)
    assert plain.runtime == f"python{sys.version_info[0]}.{sys.version_info[1]}"
    assert plain.target.architecture == "x86_64"
    assert plain.url is None
    assert plain.concurrency is None


def test_handlers_are_found_in_the_folder_of_the_program(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    assert FunctionOptions.from_args({"handler": "app.index.api"}).root == root


def built(root: Path, **options: Any) -> Recording:
    def program() -> None:
        Function("F", {"handler": "app.index.api", "root": str(root), **options})

    return record(program)


def test_options_of_a_function_reach_its_resources(root: Path) -> None:
    recording = built(
        root,
        timeout="2 minutes",
        memory="2 GB",
        architecture="arm64",
        concurrency=7,
        log_retention="1 week",
        environment={"AA": "1", "BB": pulumi.Output.from_input("2")},
        tags={"team": "blue"},
        permissions=[
            {"actions": ["s3:GetObject"], "resources": [pulumi.Output.from_input("arn:x")]}
        ],
    )
    inputs = recording.get("F-function").inputs
    assert inputs["timeout"] == 120
    assert inputs["memorySize"] == 2048
    assert inputs["architectures"] == ["arm64"]
    assert inputs["reservedConcurrentExecutions"] == 7
    assert inputs["environment"] == {"variables": {"AA": "1", "BB": "2"}}
    assert recording.get("F-logs").inputs["retentionInDays"] == 7
    assert '"arn:x"' in recording.get("F-policy").inputs["policy"]
    for name in ("F-function", "F-logs", "F-role"):
        assert recording.get(name).inputs["tags"] == {"team": "blue"}


def test_whole_lists_and_maps_may_be_outputs(root: Path) -> None:
    permission = {"actions": ["s3:GetObject"], "resources": ["arn:x"]}
    for permissions in (
        pulumi.Output.from_input([permission]),
        [pulumi.Output.from_input(permission)],
    ):
        recording = built(
            root, environment=pulumi.Output.from_input({"AA": "1"}), permissions=permissions
        )
        assert recording.get("F-function").inputs["environment"] == {"variables": {"AA": "1"}}
        assert '"arn:x"' in recording.get("F-policy").inputs["policy"]


# URLs


@pytest.mark.parametrize("url", [True, {}, {"authorization": "iam"}])
def test_a_url_is_guarded_by_iam_unless_it_says_otherwise(root: Path, url: Any) -> None:
    recording = built(root, url=url)
    expected = {"functionName": "F-function", "authorizationType": "AWS_IAM"}
    assert recording.get("F-url").inputs == expected
    assert not recording.of("Permission")


def test_an_open_url_has_both_permissions(root: Path) -> None:
    recording = built(root, url={"authorization": "none", "cors": {"allow_origins": ["*"]}})
    assert recording.get("F-url").inputs == {
        "functionName": "F-function",
        "authorizationType": "NONE",
        "cors": {"allowOrigins": ["*"]},
    }
    common = {"function": "F-function", "principal": "*"}
    assert recording.get("F-url-permission").inputs == common | {
        "action": "lambda:InvokeFunctionUrl",
        "functionUrlAuthType": "NONE",
    }
    assert recording.get("F-url-invoke-permission").inputs == common | {
        "action": "lambda:InvokeFunction",
        "invokedViaFunctionUrl": True,
    }


def test_without_a_url_there_is_none(root: Path) -> None:
    known: list[Any] = []

    def program() -> pulumi.Output[Any]:
        plain = Function("F", {"handler": "app.index.api", "root": str(root), "url": False})
        return plain.url.apply(known.append)

    assert not record(program).of("FunctionUrl")
    assert known == [None]


# What engines become


def test_options_of_an_engine_reach_both_functions_and_those_of_one_only_that(root: Path) -> None:
    recording = record(
        lambda: made(
            engine(
                root,
                worker={
                    "handler": "app/index.execute",
                    "memory": "4 GB",
                    "timeout": "5 minutes",
                    "concurrency": 50,
                    "environment": {"BB": "worker's"},
                },
                orchestrator={"handler": "app.index.orchestrate", "timeout": "30 seconds"},
                environment={"AA": "1", "BB": "2"},
                memory="512 MB",
                architecture="arm64",
                log_retention="3 days",
                concurrency=20,
                payload_retention="60 days",
                tags={"team": "blue"},
                permissions=[{"actions": ["s3:GetObject"], "resources": ["arn:x"]}],
            )
        )
    )
    worker = recording.get("Flow-worker-function").inputs
    orchestrator = recording.get("Flow-orchestrator-function").inputs
    assert worker["handler"] == "app/index.execute"
    assert (worker["memorySize"], orchestrator["memorySize"]) == (4096, 512)
    assert (worker["timeout"], orchestrator["timeout"]) == (300, 30)
    assert (worker["architectures"], orchestrator["architectures"]) == (["arm64"], ["arm64"])
    assert worker["reservedConcurrentExecutions"] == 50
    # As many as the engine works on batches at a time: tasks cannot take them away.
    assert orchestrator["reservedConcurrentExecutions"] == 20
    assert worker["environment"]["variables"].items() >= {"AA": "1", "BB": "worker's"}.items()
    assert orchestrator["environment"]["variables"].items() >= {"AA": "1", "BB": "2"}.items()
    # What tasks may do, workflows do through tasks.
    assert "arn:x" in recording.get("Flow-worker-policy").inputs["policy"]
    assert "arn:x" not in recording.get("Flow-orchestrator-policy").inputs["policy"]
    assert recording.get("Flow-events-mapping").inputs["scalingConfig"] == {
        "maximumConcurrency": 20
    }
    assert recording.get("Flow-history-lifecycle").inputs["rules"][0]["expiration"] == {"days": 60}
    # Six times the orchestrator's timeout.
    assert recording.get("Flow-events").inputs["visibilityTimeoutSeconds"] == 60
    for resource in recording:
        if "tags" in resource.inputs:
            assert resource.inputs["tags"] == {"team": "blue"}


def test_alarms_and_a_dashboard_where_asked(root: Path) -> None:
    recording = record(lambda: made(engine(root, alarms={"topics": ["arn:topic"]}, dashboard=True)))
    alarms = {one.name: one.inputs for one in recording.of("MetricAlarm")}
    assert set(alarms) == {
        f"Flow-{what}-alarm"
        for what in (
            *("events-dlq", "timers-dlq", "failures-dlq", "schedules-dlq"),
            *("events-age", "orchestrator-errors", "orchestrator-throttles"),
            *("blocked", "malformed", "worker-throttles", "worker-deaths", "worker-news"),
            *("timers-pipe", "failures-pipe", "schedules-dropped"),
        )
    }
    for alarm in alarms.values():
        assert alarm["alarmActions"] == alarm["okActions"] == ["arn:topic"]
        assert alarm["alarmDescription"].startswith("Flow: ")
    assert alarms["Flow-events-dlq-alarm"]["dimensions"] == {"QueueName": "Flow-events-dlq.fifo"}
    # The names by which the functions count, and the services.
    told = {
        (alarm["namespace"], alarm["metricName"], *alarm["dimensions"].items())
        for alarm in alarms.values()
    }
    orchestrator, worker = "Flow-orchestrator-function", "Flow-worker-function"
    assert told >= {
        (telemetry.NAMESPACE, "Blocked", ("Function", orchestrator)),
        (telemetry.NAMESPACE, "Malformed", ("Function", orchestrator)),
        ("AWS/Lambda", "Throttles", ("FunctionName", worker)),
        ("AWS/Lambda", "AsyncEventsDropped", ("FunctionName", worker)),
        ("AWS/Lambda", "DestinationDeliveryFailures", ("FunctionName", worker)),
        ("AWS/EventBridge/Pipes", "ExecutionFailed", ("PipeName", "mini-workflow-timers-5eed")),
        ("AWS/Scheduler", "InvocationDroppedCount", ("ScheduleGroup", "Flow-schedules")),
    }
    (page,) = recording.of("Dashboard")
    shown = {
        (metric[0], metric[1])
        for widget in json.loads(page.inputs["dashboardBody"])["widgets"]
        for metric in widget["properties"]["metrics"]
    }
    assert {name for space, name in shown if space == telemetry.NAMESPACE} == set(
        telemetry._UNITS
    ) - {"Messages"}
    plain = record(lambda: made(engine(root, alarms=False)))
    assert not plain.of("MetricAlarm") + plain.of("Dashboard")


def test_the_variables_of_a_link_count_among_those_of_a_function(root: Path) -> None:
    """Each is small enough by itself."""
    link = {"environment": {"OF_LINK": "x" * 2_500}, "permissions": []}
    given: Any = {"handler": "app.index.api", "root": str(root), "link": [link]}
    with pytest.raises(BadOption, match=r"the variables have 4,510 bytes, and Lambda takes 4,096"):
        record(lambda: Function("F", {**given, "environment": {"OWN": "x" * 2_000}}) and None)


@pytest.mark.parametrize("minor", range(11, 16))
def test_each_runtime_of_lambda_is_an_option(root: Path, minor: int) -> None:
    given: Any = {"handler": "app.index.api", "root": str(root), "runtime": f"python3.{minor}"}
    options = FunctionOptions.from_args(given)
    assert options.runtime == f"python3.{minor}"
    # All of them have at least the C library of Amazon Linux 2.
    assert "manylinux_2_26_x86_64" in options.target.platforms


# What cannot be

PERMISSION = {"actions": ["s3:GetObject"], "resources": ["arn:x"]}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"handler": ""}, "a Function needs a handler"),
        ({"tmieout": 3}, "no option 'tmieout'; did you mean 'timeout'?"),
        ({"timeout": "ten minutes"}, "timeout: 'ten minutes' is not a duration"),
        ({"timeout": "10 parsecs"}, "the units are second, minute"),
        ({"timeout": "16 minutes"}, "timeout: '16 minutes' is not between 1 and 900 seconds"),
        ({"timeout": 0}, "timeout: 0 is not between"),
        ({"timeout": 1.5}, "timeout: 1.5 is not a whole number of seconds"),
        ({"timeout": True}, "timeout: True is not a duration"),
        ({"memory": "64 MB"}, "memory: '64 MB' is not between 128 and 10,240 MB"),
        ({"memory": "lots"}, "memory: 'lots' is not a size"),
        ({"log_retention": "2 days"}, 'the next longer retention is "3 days"'),
        ({"log_retention": 30}, 'log_retention: 30 has no unit; write "30 days"'),
        ({"log_retention": "36 hours"}, "is not a whole number of days"),
        ({"architecture": "sparc"}, "architecture: 'sparc' is not one of x86_64, arm64"),
        ({"runtime": "nodejs22.x"}, "runtime: 'nodejs22.x' is not one of python3.11"),
        ({"concurrency": -2}, "concurrency: -2 is not between -1 and 1,000,000"),
        ({"concurrency": "many"}, "concurrency: 'many' is not a number"),
        ({"root": "/no/such/folder"}, "root: /no/such/folder is not a folder"),
        ({"url": "yes"}, "url: 'yes' is not True, False or"),
        ({"url": {"authorization": "basic"}}, "'basic' is not one of iam, none"),
        ({"url": {"auth": "none"}}, "url has no option 'auth'"),
        ({"url": {"cors": {"origins": []}}}, "cors has no option 'origins'"),
        ({"permissions": ["s3:*"]}, "permissions: 's3:*' is not {"),
        ({"permissions": [{"actions": ["a"]}]}, "permissions: resources is a list"),
        ({"permissions": [{**PERMISSION, "actions": "a"}]}, "permissions: actions is a list"),
        ({"permissions": [{**PERMISSION, "effect": "Deny"}]}, "no option 'effect'"),
        ({"log_level": "TRACE"}, "log_level: 'TRACE' is not one of DEBUG"),
        ({"environment": {"AWS_REGION": "x"}}, "environment: AWS_REGION is set by Lambda itself"),
        ({"environment": {"A-B": "x"}}, "'A-B' cannot be the name of a variable"),
        ({"environment": {"1A": "x"}}, "'1A' cannot be the name of a variable"),
        (
            {"environment": {"SMALL": "x", "LARGE": "x" * 4_096}},
            "the variables have 4,107 bytes, and Lambda takes 4,096 (the largest: LARGE, SMALL)",
        ),
        (
            {"link": [{"environment": {}, "permissions": []}], "environment": {"QUEUE_URL": "x"}},
            "environment: QUEUE_URL is the URL of the FIFO queue of events. The link sets it",
        ),
    ],
)
def test_bad_options_of_a_function(root: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadOption) as raised:
        function(root, **options)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"worker": None}, "worker: None is not a handler"),
        ({"worker": {"memory": "1 GB"}}, "worker: {'memory': '1 GB'} is not a handler"),
        ({"worker": {"handler": "a.b", "memory": "1 KB"}}, "worker: memory: '1 KB' is not a size"),
        ({"orchestrator": {"handler": "a.b", "url": True}}, "orchestrator: the engine calls it"),
        ({"worker": {"handler": "a.b", "x": 1}}, "worker: a Function has no option 'x'"),
        (
            {"timeout": "1 minute"},
            "a WorkflowEngine has no option 'timeout'; it is one of its functions: ",
        ),
        ({"url": True}, "a WorkflowEngine has no option 'url'; it is one of a Function of yours"),
        (
            {"concurrency": 20, "orchestrator": {"handler": "a.b", "concurrency": 10}},
            "orchestrator: concurrency: 10 calls at a time are fewer than the 20 batches",
        ),
        ({"worker": {"handler": "a.b", "environment": {"AWS_REGION": "x"}}}, "set by Lambda"),
        ({"history": "b", "removal": "destroy"}, 'removal: "destroy" is for the bucket that'),
        ({"signing_key": "short"}, "signing_key: a key has 32 characters or more"),
        ({"concurrency": 1}, "concurrency: 1 is not between 2 and 1,000"),
        ({"payload_retention": "14 days"}, "is not between 15 and 3,650 days"),
        ({"execution_retention": 90}, 'execution_retention: 90 has no unit; write "90 days"'),
        ({"execution_retention": "1 hour"}, "'1 hour' is not a whole number of days"),
        ({"execution_retention": "0 days"}, "is not between 1 and 36,500 days"),
        ({"schedules": ["nightly"]}, "schedules: ['nightly'] is not a mapping by names"),
        ({"schedules": {"at night": {}}}, "schedules: 'at night' cannot be the name of one"),
        ({"schedules": {"n": "report"}}, "schedules: n: 'report' is not {\"workflow\": ..., "),
        ({"schedules": {"n": {"cron": "* * * * *"}}}, "schedules: n: workflow: the name of"),
        ({"schedules": {"n": {"workflow": "w"}}}, "schedules: n: it has times: give either cron"),
        (
            {"schedules": {"n": {"workflow": "w", "every": 60, "timezone": "UTC"}}},
            "schedules: n: timezone is for cron",
        ),
        (
            {"schedules": {"n": {"workflow": "w", "every": "0 seconds"}}},
            "schedules: n: every: '0 seconds' is not between 1 and",
        ),
        (
            {"schedules": {"n": {"workflow": "w", "every": 60, "overlap": "both"}}},
            "schedules: n: overlap: 'both' is not one of skip, buffer_one",
        ),
        (
            {"schedules": {"n": {"workflow": "w", "every": 60, "args": "x"}}},
            "schedules: n: args: 'x' is not a list",
        ),
        (
            {"schedules": {"n": {"workflow": "w", "crom": "* * * * *"}}},
            "schedules: n has no option 'crom'; did you mean 'cron'?",
        ),
        ({"removal": "keep"}, "removal: 'keep' is not one of retain, destroy"),
        ({"alarms": "all"}, "alarms: 'all' is not True, False or"),
        ({"alarms": {"topic": "arn"}}, "alarms has no option 'topic'; did you mean 'topics'?"),
        ({"environment": {"BUCKET_NAME": "x"}}, "environment: BUCKET_NAME is the bucket with"),
        (
            {"worker": {"handler": "a.b", "environment": {"QUEUE_URL": "x"}}},
            "worker: environment: QUEUE_URL is",
        ),
    ],
)
def test_bad_options_of_an_engine(options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadOption) as raised:
        EngineOptions.from_args({**ENGINE, **options})
    assert told in str(raised.value)


def test_the_orchestrator_is_called_with_schedules(root: Path) -> None:
    schedules = {
        "nightly": {"workflow": "report", "cron": "0 3 * * *", "timezone": "Europe/Berlin"},
        "often": {
            "workflow": "report",
            "every": "6 hours",
            "catchUp": timedelta(hours=1),
            "jitter": "1 minute",
            "args": [pulumi.Output.from_input("a bucket"), 3],
        },
        "late": {"workflow": "report", "every": 60, "catch_up": "latest", "overlap": "skip"},
    }
    recording = record(lambda: made(engine(root, schedules=schedules)))
    called = recording.get("Flow-deployed-schedules")
    assert json.loads(called.inputs["input"]) == {
        "mini_workflow": "schedules",
        "schedules": {
            "nightly": schedules["nightly"],
            "often": {
                "workflow": "report",
                "every": 21_600,
                "catch_up": 3600,
                "jitter": 60,
                "args": ["a bucket", 3],
            },
            "late": schedules["late"],
        },
    }
    assert called.inputs["functionName"] == "Flow-orchestrator-function"
    assert called.inputs["lifecycleScope"] == "CRUD"
    # What it sends is taken as long as it is there.
    assert {"Flow-events-mapping", "Flow-orchestrator-policy"} <= called.dependencies


def test_an_engine_without_schedules_calls_nobody(root: Path) -> None:
    assert not record(lambda: made(engine(root))).of("Invocation")
    (called,) = record(lambda: made(engine(root, schedules={}))).of("Invocation")
    assert json.loads(called.inputs["input"])["schedules"] == {}


@pytest.mark.parametrize("name", ["1st", "under_score", "", "x" * 31, "with space"])
def test_names_that_resources_cannot_be_named_after(root: Path, name: str) -> None:
    with pytest.raises(BadOption, match="the name"):
        record(lambda: made(engine(root, name)))


def test_what_is_bad_registers_nothing(root: Path) -> None:
    given: Any = {"handler": "app.index.nothing", "root": str(root)}

    def program() -> None:
        with pytest.raises(BadOption, match="defines no 'nothing'"):
            Function("F", given)
        with pytest.raises(BadOption, match="defines no 'nothing'"):
            engine(root, worker="app.index.nothing")

    assert record(program).registered == []


def test_every_option_has_a_description() -> None:
    for definition in ast.parse(inspect.getsource(args)).body:
        if isinstance(definition, ast.ClassDef):
            fields = [
                i for i, node in enumerate(definition.body) if isinstance(node, ast.AnnAssign)
            ]
            for index in fields:
                following = definition.body[index + 1]
                assert isinstance(following, ast.Expr), ast.unparse(definition.body[index])


# Links


def both(root: Path, **options: Any) -> dict[str, Any]:
    """The variables of a function that is linked to two engines."""

    def program() -> None:
        one, two = engine(root, "One"), engine(root, "Two-2")
        given: Any = {"handler": "app.index.api", "root": str(root), "link": [one, two]}
        Function("Both", {**given, **options})

    return record(program).get("Both-function").inputs["environment"]["variables"]


def test_a_function_of_two_engines_has_the_settings_of_both_by_name(root: Path) -> None:
    variables = both(root)
    assert not set(settings.MEANING) & set(variables)
    for name in ("One", "Two-2"):
        known = settings.of_engine(name, variables)
        assert known[settings.BUCKET_NAME] == f"{name}-history"
        assert settings.Settings(known).get(settings.ORCHESTRATOR_FUNCTION_NAME)
    with pytest.raises(SettingMissing, match="not linked to an engine named 'Three'"):
        settings.of_engine("Three", variables)


def test_a_variable_that_two_set_is_refused(root: Path) -> None:
    with pytest.raises(Exception, match="ONE__QUEUE_URL is set by link to One too"):
        both(root, environment={"ONE__QUEUE_URL": "x"})

    def twice() -> None:
        one = engine(root, "One")
        Function("F", {"handler": "app.index.api", "root": str(root), "link": [one, one]})

    with pytest.raises(Exception, match="ONE__BUCKET_NAME is set by link to One too"):
        record(twice)


def test_a_link_of_an_engine_leaves_its_own_settings_alone(root: Path) -> None:
    def program() -> None:
        made(engine(root, "Two", link=[engine(root, "One")]))

    recording = record(program)
    for what in ("worker", "orchestrator"):
        variables = recording.get(f"Two-{what}-function").inputs["environment"]["variables"]
        assert variables[settings.BUCKET_NAME] == "Two-history"
        assert settings.of_engine("One", variables)[settings.BUCKET_NAME] == "One-history"


def test_a_linked_function_may_be_part_of_a_loop(root: Path) -> None:
    def program() -> None:
        handler: Any = {"handler": "app.index.api", "root": str(root)}
        Function("Linked", {**handler, "link": [engine(root)]})
        Function("Alone", handler)

    recording = record(program)
    assert recording.get("Linked-recursion").inputs == {
        "functionName": "Linked-function",
        "recursiveLoop": "Allow",
    }
    assert "Alone-recursion" not in {one.name for one in recording}


# What an engine takes on


def test_an_engine_takes_on_a_bucket_and_its_key(root: Path) -> None:
    recording = record(lambda: made(engine(root, history="left", signing_key="k" * 32)))
    assert not recording.of("RandomPassword")
    # It is read, and not made; what keeps it private is made anew.
    assert not recording.of("Bucket")
    assert recording.get("Flow-history-private").inputs["bucket"] == "left"
    for what in ("worker", "orchestrator"):
        function = recording.get(f"Flow-{what}-function")
        assert function.inputs["environment"]["variables"][settings.BUCKET_NAME] == "left"
        assert is_secret(function.raw["environment"])


def test_code_that_is_too_large_for_a_request_goes_through_a_bucket(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = built(root)
    assert isinstance(plain.get("F-function").inputs["code"], pulumi.FileArchive)
    monkeypatch.setattr(staging, "LARGEST_REQUEST", 1_000)
    large = built(root)
    inputs = large.get("F-function").inputs
    archive = large.get("F-archive").inputs
    assert "code" not in inputs
    assert (inputs["s3Bucket"], inputs["s3Key"]) == ("F-code", archive["key"])
    assert archive["key"] == Path(archive["source"].path).name
    assert not large.of("BucketServerSideEncryptionConfiguration")
    key = "arn:aws:kms:us-east-1:123456789012:key/k"
    keyed = built(root, kms_key=key)
    (encryption,) = keyed.of("BucketServerSideEncryptionConfiguration")
    (rule,) = encryption.inputs["rules"]
    assert encryption.inputs["bucket"] == "F-code"
    assert rule["applyServerSideEncryptionByDefault"] == {
        "sseAlgorithm": "aws:kms",
        "kmsMasterKeyId": key,
    }
    # Nothing is there before it is encrypted so.
    assert encryption.name in keyed.get("F-archive").dependencies


def test_log_levels_are_those_of_python() -> None:
    logger = logging.getLogger("tests.of.levels")
    for level in LOG_LEVELS:
        logger.setLevel(level)

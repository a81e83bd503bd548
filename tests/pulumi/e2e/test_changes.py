"""What Pulumi's engine does when an option changes: the table in docs/deploy.md is made from it.

One stack has an engine, or a function, for each option; then all options change, each on its own one. What
AWS does is made up: the steps are Pulumi's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pulumi_component import args
from tests.pulumi.e2e.build import ROOT
from tests.pulumi.e2e.provider import PRETENDS
from tests.pulumi.e2e.stack import Stack, Step

DOCUMENT = ROOT / "docs" / "deploy.md"

PROGRAM = """\
import json
import pathlib

from pulumi_component import Function, WorkflowEngine, compute

# What Pulumi does is the same for a Python that Lambda takes no snapshots of, on which tests run too.
compute.OLDEST_SNAPSHOTS = (3, 11)
other = WorkflowEngine("Other", {"worker": "app.execute", "orchestrator": "app.orchestrate"})
for name, (kind, options) in json.loads(pathlib.Path("options.json").read_text()).items():
    if options.pop("linked", False):
        options["link"] = [other]
    (WorkflowEngine if kind == "engine" else Function)(name, options)
"""

HANDLERS = """\
def execute(event, context): pass
def orchestrate(event, context): pass
def api(event, context): pass
"""

WORKER, ORCHESTRATOR = {"handler": "app.execute"}, {"handler": "app.orchestrate"}
ENGINE: dict[str, Any] = {"worker": WORKER, "orchestrator": ORCHESTRATOR}


@dataclass(frozen=True)
class Change:
    """A change of an option, as the table calls it: what the component is given before and after."""

    option: str
    after: dict[str, Any]
    kind: str = "engine"
    given: Mapping[str, Any] = field(default_factory=dict)
    """What else it is given, before and after."""

    @property
    def before(self) -> dict[str, Any]:
        return {**(ENGINE if self.kind == "engine" else {"handler": "app.api"}), **self.given}


def engine(option: str, given: Mapping[str, Any] | None = None, **options: Any) -> Change:
    return Change(option, {**ENGINE, **(given or {}), **options}, given=given or {})


def function(option: str, given: Mapping[str, Any] | None = None, **options: Any) -> Change:
    after = {"handler": "app.api", **(given or {}), **options}
    return Change(option, after, "function", given=given or {})


NIGHTLY = {"workflow": "report", "cron": "0 3 * * *"}
GPU = {"handler": "app.execute", "memory": "2 GB"}
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/heavy:1"
LAYER = "arn:aws:lambda:us-east-1:123456789012:layer:numbers:3"
VPC = {"subnets": ["subnet-1", "subnet-2"], "security_groups": ["sg-1"]}
ACCESS_POINT = "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-1"
FILES = {"access_point": ACCESS_POINT, "path": "/mnt/models"}
BOUNDARY = "arn:aws:iam::123456789012:policy/bound"
ROLE = "arn:aws:iam::123456789012:role/theirs"
KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d-0000-4000-8000-000000000000"
CHANGES = [
    engine("the code, or `include`, `requirements`", include=["more.txt"]),
    engine("`versions`", versions=True),
    engine("the code, with `versions`", {"versions": True}, include=["more.txt"]),
    engine("`image` of the worker", worker={**WORKER, "image": IMAGE}),
    engine("`workers`: one more", workers={"gpu": GPU}),
    engine("`workers`: one less", {"workers": {"gpu": GPU}}, workers={}),
    engine("`workers`: one more that pulls", workers={"big": {"pull": True}}),
    engine(
        "`workers`: one that pulls, in place of a function",
        {"workers": {"gpu": GPU}},
        workers={"gpu": {"pull": True}},
    ),
    function("`environment` of a function", environment={"COLOR": "blue"}),
    function(
        "`permissions` of a function",
        permissions=[{"actions": ["s3:GetObject"], "resources": ["arn:x"]}],
    ),
    function("`link` of a function", linked=True),
    function("`provisioned_concurrency` of a function", provisioned_concurrency=2),
    function(
        "`provisioned_concurrency` of a function: more",
        {"provisioned_concurrency": 2},
        provisioned_concurrency=3,
    ),
    function(
        "the code of a function with `provisioned_concurrency`",
        {"provisioned_concurrency": 2},
        include=["more.txt"],
    ),
    function("`memory` of a function", memory="2 GB"),
    function("`architecture` of a function", architecture="arm64"),
    function("`log_level` of a function", log_level="DEBUG"),
    function("`tracing` of a function", tracing=True),
    function("`storage` of a function", storage="2 GB"),
    function("`layers` of a function", layers=[LAYER]),
    function("`vpc` of a function", vpc=VPC),
    function("`file_system` of a function", {"vpc": VPC}, file_system=FILES),
    function("`permissions_boundary` of a function", permissions_boundary=BOUNDARY),
    function("`role` of a function", role=ROLE),
    function("`kms_key` of a function", kms_key=KMS_KEY),
    function("`snap_start` of a function", snap_start=True),
    engine("`log_retention`", log_retention="1 week"),
    engine("`tags`", tags={"team": "blue"}),
    engine("`timeout` of the worker", worker={**WORKER, "timeout": "5 minutes"}),
    engine("`timeout` of the orchestrator", orchestrator={**ORCHESTRATOR, "timeout": "2 minutes"}),
    engine(
        "`concurrency` of the worker or the orchestrator",
        worker={**WORKER, "concurrency": 5},
        orchestrator={**ORCHESTRATOR, "concurrency": 5},
    ),
    engine("`concurrency` of the engine", concurrency=5),
    engine("`payload_retention`", payload_retention="60 days"),
    engine("`store`: `dynamodb`", store="dynamodb"),
    engine("`store`: `s3`", {"store": "dynamodb"}, store="s3"),
    engine("`execution_retention`", execution_retention="90 days"),
    engine("`schedules`: the first", schedules={"nightly": NIGHTLY}),
    engine(
        "`schedules`: another plan",
        {"schedules": {"nightly": NIGHTLY}},
        schedules={"nightly": {**NIGHTLY, "cron": "0 4 * * *"}},
    ),
    engine("`schedules`: none any more", {"schedules": {"nightly": NIGHTLY}}, schedules=None),
    engine("`signing_key`", signing_key="k" * 40),
    engine("`signing_key_store`: `parameter`", signing_key_store="parameter"),
    engine("`signing_key_store`: `secret`", signing_key_store="secret"),
    engine(
        "`signing_key` in a parameter",
        {"signing_key_store": "parameter", "signing_key": "k" * 40},
        signing_key="l" * 40 + "|" + "k" * 40,
    ),
    engine(
        "`signing_key` in a secret",
        {"signing_key_store": "secret", "signing_key": "k" * 40},
        signing_key="l" * 40 + "|" + "k" * 40,
    ),
    engine("`removal`", removal="destroy"),
    engine("`alarms`, `dashboard`", alarms=True, dashboard=True),
    function("`url` of a function", url={"authorization": "none"}),
    function("`handler` of a function", handler="app.execute"),
]
ELSEWHERE = {
    "root": "what is packaged counts, wherever it comes from",
    "runtime": "another one is refused: tests/pulumi/test_packaging.py",
    "accept_python": "it changes nothing by itself: test_upgrade.py",
    "keep_versions": "what it removes is no resource of Pulumi's: test_prune.py",
    "canary": "what it leaves alone: tests/pulumi/test_versions.py, tests/e2e/test_versions.py",
    "shared_with": "what it allows: tests/pulumi/test_sharing.py",
    "history": "executions are not found in the other bucket: test_life.py takes one on",
}
"""The options that have no line of their own, and where they are tested."""
NAMES = {change.option: f"N{number}" for number, change in enumerate(CHANGES)}

EFFECTS = {
    "Function": "calls that run end as they began; the next ones have it",
    "Alias": "the next calls go to the new version; attempts of a task stay with theirs",
    "Queue": "what waits stays, for as long as it did",
    "EventSourceMapping": "the next batches have it",
    "BucketLifecycleConfiguration": "holds for values that are there already",
}
"""What it means to executions in flight that a resource is updated; nothing, if it is not here."""

RING = "functions have it within five minutes: see [Who may do what](#who-may-do-what)"
REPLACED = {
    "`image` of the worker": {
        "Function",
        "FunctionEventInvokeConfig",
        "FunctionRecursionConfig",
    },
    "`versions`": {"FunctionEventInvokeConfig"},
    "the code, with `versions`": {"FunctionEventInvokeConfig"},
    "`signing_key` in a secret": {"SecretVersion"},
}
"""What is replaced, which nothing waits in but what the table says: never a queue or a bucket."""

BY_HAND = {
    "`signing_key`": "what was signed with the old key is refused: see "
    "[Who may do what](#who-may-do-what)",
    "`signing_key` in a parameter": RING,
    "`signing_key` in a secret": RING,
    "`schedules`: another plan": "what was started goes on; the next times are those of the new plan",
    "`schedules`: none any more": "what was started goes on; nothing is started any more",
    "`signing_key_store`: `parameter`": "the key stays what it is",
    "`signing_key_store`: `secret`": "the key stays what it is",
    "`image` of the worker": "attempts that wait for the old function are lost, and tried again as "
    "their retry policy says",
    "`workers`: one less": "tasks that name it fail with `UsageError`; attempts that wait for it are lost",
    "`workers`: one that pulls, in place of a function": "attempts that wait for the function are "
    "lost, and tried again as their retry policy says",
}
"""What no resource tells."""

DONE = {
    "create": "makes",
    "update": "updates",
    "delete": "removes",
    "replace": "**replaces**",
}


def done(steps: list[Step]) -> str:
    """What is done, in words, such as "updates 2 functions"."""
    words: list[str] = []
    for operation, verb in DONE.items():
        counts: dict[str, int] = {}
        for step in steps:
            if step.operation == operation:
                counts[step.kind] = counts.get(step.kind, 0) + 1
        parts = [f"{count} {kind}" for kind, count in sorted(counts.items())]
        if parts:
            words.append(f"{verb} {', '.join(parts)}")
    return "; ".join(words)


def effect(option: str, steps: list[Step]) -> str:
    kinds = {step.kind for step in steps if step.operation == "update"}
    found = [text for kind, text in EFFECTS.items() if kind in kinds]
    if option in BY_HAND:
        found.append(BY_HAND[option])
    return "; ".join(found) or "none"


def test_each_option_has_a_line_or_a_place_of_its_own() -> None:
    lines = " ".join(NAMES)
    options = {*args.FunctionArgs.__annotations__, *args.WorkflowEngineArgs.__annotations__}
    # The arguments of functions, by which the options of those are changed.
    options -= {"worker", "orchestrator"}
    missing = {one for one in options if f"`{one}`" not in lines}
    assert missing == set(ELSEWHERE)


def test_what_a_change_of_each_option_does(new_stack: Callable[..., Stack]) -> None:
    # Of so many resources, the whole state would be written at each step of each.
    stack = new_stack("changes", {PRETENDS: "yes", "PULUMI_SKIP_CHECKPOINTS": "true"})

    def write(after: bool) -> None:
        options = {
            NAMES[change.option]: (change.kind, change.after if after else change.before)
            for change in CHANGES
        }
        stack.write({"options.json": json.dumps(options)})

    stack.write({"__main__.py": PROGRAM, "app.py": HANDLERS, "more.txt": "more"})
    write(after=False)
    stack.pulumi("up")
    write(after=True)
    changed = stack.pulumi("up").steps

    by_name: dict[str, list[Step]] = {name: [] for name in NAMES.values()}
    for step in changed:
        name = step.name.partition("-")[0]
        if name in by_name and step.operation != "same":
            by_name[name].append(step)
    rows = ["| option | what Pulumi does | executions in flight |", "| --- | --- | --- |"]
    for option, name in NAMES.items():
        rows.append(f"| {option} | {done(by_name[name])} | {effect(option, by_name[name])} |")
    table = "\n".join(rows)

    # Whatever is changed, what holds something stays: queues with what waits in them, buckets.
    replaced = {
        option: {step.kind for step in by_name[name] if step.operation == "replace"}
        for option, name in NAMES.items()
    }
    assert {option: kinds for option, kinds in replaced.items() if kinds} == REPLACED
    unchanged = [option for option, name in NAMES.items() if not by_name[name]]
    assert unchanged == ["`removal`"] or not unchanged

    text = DOCUMENT.read_text()
    begin, end = "<!-- changes -->\n", "\n<!-- end of changes -->"
    found = re.search(re.escape(begin) + "(.*?)" + re.escape(end), text, re.DOTALL)
    assert found is not None
    if os.environ.get("UPDATE_DOCS"):
        DOCUMENT.write_text(text.replace(found[0], begin + table + end))
    else:
        assert found[1] == table

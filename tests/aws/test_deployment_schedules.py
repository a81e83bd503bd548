"""The schedules that a deployment declares: what the orchestrator does when it is called with them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from mini_workflow import Context, UsageError
from mini_workflow.errors import InvalidArguments, StoreUnavailable, UnknownWorkflow
from mini_workflow.runtimes.aws import deployment_schedules
from mini_workflow.workflow import Registry, Workflow
from tests.aws.cloud import Context as LambdaContext
from tests.aws.world import Death, Fault, World

# A process that dies closes nothing.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

HOURLY = {"workflow": "report", "args": ["hourly"], "every": 3600}
NIGHTLY = {"workflow": "report", "args": ["nightly"], "cron": "0 3 * * *", "timezone": "UTC"}


async def report(ctx: Context, kind: str) -> str:
    return kind


def registry(**declared: Any) -> Registry:
    """With what the library brings along."""
    found = Registry()
    found.add(Workflow("report", report, **declared))
    return found


def deploy(
    world: World, told: dict[str, Any], before: dict[str, Any] | None = None, action: str = ""
) -> Any:
    """What Pulumi's provider has the orchestrator do."""
    old = None if before is None else {"mini_workflow": "schedules", "schedules": before}
    action = action or ("create" if before is None else "update")
    lifecycle = {"action": action, "prev_input": old}
    event = {"mini_workflow": "schedules", "schedules": told, "tf": lifecycle}
    return world.orchestrator.orchestrate(event, LambdaContext())


def statuses(world: World) -> dict[str, str]:
    found = world.client.list_executions(workflow="mini_workflow.schedule")
    return {one.id.removeprefix("schedule:"): one.status for one in found}


def plan_of(world: World, name: str) -> Any:
    world.settle()
    return world.client.schedules.get(name).describe()


def test_a_deployment_makes_changes_and_ends_schedules() -> None:
    with World(registry()) as world:
        deploy(world, {"of-others": {**HOURLY, "every": 86_400}})
        assert deploy(world, {"hourly": HOURLY, "nightly": NIGHTLY}) == {
            "schedules": ["hourly", "nightly"]
        }
        assert plan_of(world, "hourly").every == timedelta(hours=1)
        assert plan_of(world, "nightly").cron == "0 3 * * *"
        world.clock.advance(3_600_000)
        world.services.pass_on()
        world.settle()
        (start,) = plan_of(world, "hourly").last
        assert world.client.get_execution(start.id).result(timeout=0) == "hourly"

        often = {**HOURLY, "every": 1800, "overlap": "buffer_one"}
        before = {"hourly": HOURLY, "nightly": NIGHTLY}
        assert deploy(world, {"hourly": often}, before) == {"schedules": ["hourly"]}
        changed = plan_of(world, "hourly")
        assert (changed.every, changed.overlap) == (timedelta(minutes=30), "buffer_one")
        assert len(changed.last) == 1
        assert statuses(world) == {
            "hourly": "running",
            "nightly": "terminated",
            "of-others": "running",
        }


def test_the_same_again_sends_nothing() -> None:
    with World(registry()) as world:
        deploy(world, {"hourly": HOURLY})
        world.settle()
        world.acting = "orchestrator"
        before = len(world.calls)
        deploy(world, {"hourly": HOURLY}, {"hourly": HOURLY})
        assert not world.cost(before)["sqs.SendMessage"]
        assert not world.services.queue


def test_one_that_has_ended_begins_anew() -> None:
    with World(registry()) as world:
        deploy(world, {"hourly": HOURLY})
        world.settle()
        deploy(world, {}, {"hourly": HOURLY})
        world.settle()
        assert statuses(world) == {"hourly": "terminated"}
        deploy(world, {"hourly": HOURLY}, {})
        assert plan_of(world, "hourly").every == timedelta(hours=1)


def test_a_stack_that_goes_ends_its_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    with World(registry()) as world:
        deploy(world, {"hourly": HOURLY})
        world.settle()
        # In the meantime another process takes what is sent.
        monkeypatch.setattr("mini_workflow.engine.transport.time.sleep", lambda _: world.settle())
        monkeypatch.setattr(
            "mini_workflow.runtimes.aws.client_transport.time.sleep", lambda _: world.settle()
        )
        assert deploy(world, {"hourly": HOURLY, "never": NIGHTLY}, None, "delete") == {
            "schedules": []
        }
        assert statuses(world) == {"hourly": "terminated"}
        assert deploy(world, {"hourly": HOURLY}, None, "delete") == {"schedules": []}


def test_nothing_keeps_a_stack_from_going(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment_schedules, "ENDED_WITHIN", 0)
    with World(registry()) as world:
        deploy(world, {"hourly": HOURLY, "nightly": NIGHTLY})
        world.settle()
        world.prone, world.acting = ("deployment",), "deployment"
        world.after(Fault(1, "fails", call="sqs.SendMessage"))
        assert deploy(world, {"hourly": HOURLY, "nightly": NIGHTLY}, None, "delete") == {
            "schedules": []
        }
        world.acting = ""
        world.settle()
        assert sorted(statuses(world).values()) == ["running", "terminated"]


@pytest.mark.parametrize(
    ("told", "error", "said"),
    [
        ({**HOURLY, "workflow": "nobody"}, UnknownWorkflow, "'nobody' is not registered"),
        ({**HOURLY, "args": []}, InvalidArguments, "kind"),
        ({**HOURLY, "cron": "0 3 * * *"}, UsageError, "schedules: bad: .*either cron= or every="),
        ({**NIGHTLY, "cron": "61 3 * * *"}, UsageError, "schedules: bad: .*no cron expression"),
        ({**HOURLY, "often": 1}, UsageError, "schedules: bad: .*often"),
    ],
)
def test_what_is_wrong_is_told_and_changes_nothing(
    told: dict[str, Any], error: type[Exception], said: str
) -> None:
    with World(registry()) as world:
        deploy(world, {"hourly": HOURLY})
        world.settle()
        with pytest.raises(error, match=said):
            deploy(world, {"new": HOURLY, "bad": told}, {"hourly": HOURLY})
        world.settle()
        assert statuses(world) == {"hourly": "running"}


def test_what_the_code_declares_is_not_the_deployments() -> None:
    declared = registry(schedule={"every": 60, "args": ["x"]})
    with (
        World(declared) as world,
        pytest.raises(UsageError, match="declares a schedule of its own"),
    ):
        deploy(world, {"report": HOURLY})


def test_whatever_fails_on_the_way_the_next_deployment_makes_good() -> None:
    """Death or no answer at the n-th call, before and after it is done, for every n; then once more."""
    old, new = (
        {"hourly": HOURLY, "nightly": NIGHTLY},
        {"hourly": {**HOURLY, "every": 60}, "more": NIGHTLY},
    )
    for kind in ("dies", "fails"):
        for after in (False, True):
            calls = 0
            while True:
                calls += 1
                with World(registry()) as world:
                    deploy(world, old)
                    world.settle()
                    world.prone, world.acting = ("deployment",), "deployment"
                    fault = Fault(calls, kind, after)  # type: ignore[arg-type]
                    world.after(fault)
                    with suppress(Death, StoreUnavailable):
                        deploy(world, new, old)
                    ended = fault.n > 0
                    world.acting = ""
                    world.settle()
                    # Pulumi has kept what was there before.
                    deploy(world, new, old)
                    assert plan_of(world, "hourly").every == timedelta(minutes=1)
                    assert plan_of(world, "more").cron == NIGHTLY["cron"]
                    assert statuses(world)["nightly"] == "terminated"
                if ended:
                    break
            assert calls > 5


# What CloudFormation asks


@contextmanager
def answers() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that takes answers, and what was answered."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append({**json.loads(body), "type": self.headers["Content-Type"]})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/answer?signed", taken
        finally:
            server.shutdown()
            thread.join()


def of_cloudformation(kind: str, url: str, told: Any, before: Any = None) -> dict[str, Any]:
    def given(schedules: Any) -> dict[str, str]:
        return {"Input": json.dumps({"mini_workflow": "schedules", "schedules": schedules})}

    return {
        "RequestType": kind,
        "ResponseURL": url,
        "StackId": "stack",
        "RequestId": "request",
        "LogicalResourceId": "FlowSchedules",
        "ResourceProperties": given(told),
        **({} if before is None else {"OldResourceProperties": given(before)}),
    }


def test_cloudformation_is_told_what_has_come_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment_schedules, "ENDED_WITHIN", 0)
    same = {
        "StackId": "stack",
        "RequestId": "request",
        "LogicalResourceId": "FlowSchedules",
        "PhysicalResourceId": "FlowSchedules",
        "type": "",
    }
    with World(registry()) as world, answers() as (url, taken):
        asked = of_cloudformation("Create", url, {"hourly": HOURLY})
        world.orchestrator.orchestrate(asked, LambdaContext())
        assert taken.pop() == {**same, "Status": "SUCCESS"}
        assert plan_of(world, "hourly").every == timedelta(hours=1)

        asked = of_cloudformation("Update", url, {"nightly": NIGHTLY}, {"hourly": HOURLY})
        world.orchestrator.orchestrate(asked, LambdaContext())
        assert taken.pop() == {**same, "Status": "SUCCESS"}
        world.settle()
        assert statuses(world) == {"hourly": "terminated", "nightly": "running"}

        asked = of_cloudformation(
            "Update", url, {"bad": {**HOURLY, "args": []}}, {"nightly": NIGHTLY}
        )
        world.orchestrator.orchestrate(asked, LambdaContext())
        told = taken.pop()
        assert told.pop("Reason").startswith("InvalidArguments: workflow 'report'")
        assert told == {**same, "Status": "FAILED"}

        asked = of_cloudformation("Delete", url, {"nightly": NIGHTLY})
        world.orchestrator.orchestrate(asked, LambdaContext())
        assert taken.pop() == {**same, "Status": "SUCCESS"}
        world.settle()
        assert set(statuses(world).values()) == {"terminated"}


def test_an_answer_goes_nowhere_but_to_the_web() -> None:
    asked = of_cloudformation("Create", "file:///etc/passwd", {})
    with (
        World(registry()) as world,
        pytest.raises(UsageError, match="address that begins with https"),
    ):
        world.orchestrator.orchestrate(asked, LambdaContext())

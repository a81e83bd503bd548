"""Each statement of each policy is needed: without it something fails, and goes on once it is back.

The emulator asks a role's policies for the calls of a function. What AWS does itself with a role it
does not ask for; there test_policies.py of the component holds every statement to the message.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any
from unittest.mock import patch

import pytest

from mini_workflow import AWSRuntime, Context, Execution, StoreError
from mini_workflow.stores.sqs.messages import SqsMessage
from mini_workflow.workflow import Registry, Workflow
from tests.e2e.flows import Flows, named
from tests.waiting import WAIT

UNASKED = {
    "Flows-orchestrator-policy": {
        "Logs": "Lambda writes logs",
        "TellMissingFromForbidden": "here, a read of what is missing is never refused",
        "LetSchedulerSend": "nobody is asked who passes a role",
        "Ledger": "a part of the tests",
    },
    "Flows-worker-policy": {
        "Logs": "Lambda writes logs",
        "ReportFailures": "Lambda sends to destinations",
        "TellMissingFromForbidden": "here, a read of what is missing is never refused",
        "Ledger": "a part of the tests",
    },
    "Starter-policy": {"Logs": "Lambda writes logs"},
    "Flows-timers-pipe-policy": dict.fromkeys(("Take", "Put", "Logs"), "Pipes"),
    "Flows-failures-pipe-policy": dict.fromkeys(("Take", "Put", "Logs"), "Pipes"),
    "Flows-scheduler-policy": {"Send": "Scheduler sends"},
}
"""The statements that the emulator never looks at, and who would."""


Refusal = Callable[[], object]
"""Waits until a function was refused what it needs."""

Probe = Callable[[Flows, Refusal], Generator[None]]
"""Three parts: what it takes, what is refused without the permission, and how it goes on with it."""


@dataclass(frozen=True, slots=True)
class Need:
    """A statement, the action that is refused without it, and a probe that needs it."""

    policy: str
    sid: str
    action: str
    probe: Probe

    def __str__(self) -> str:
        return f"{self.policy}-{self.sid}"


def runs(workflow: str, *arguments: Any) -> Probe:
    """A workflow that gets to its end."""

    def probe(flows: Flows, refusal: Refusal) -> Generator[None]:
        yield
        execution = flows.start(workflow, *arguments)
        refusal()
        yield
        execution.result(timeout=WAIT)

    return probe


def sets_aside(flows: Flows, refusal: Refusal) -> Generator[None]:
    """A message that nobody can read."""
    yield
    group = named("poisoned")
    flows.send(group, "poison")
    refusal()
    yield
    assert flows.eventually(lambda: flows.set_aside(group))[0]["Body"] == "poison"


def is_ahead(flows: Flows, refusal: Refusal) -> Generator[None]:
    """A message of a newer version, which is left to the code that will be deployed."""
    yield
    mail = SqsMessage(named("ahead"), "messages", '{"v":99,"event":"TaskCompleted"}', "")
    flows.send(mail.execution_id, flows.runtime._parts.post.write(mail))
    refusal()
    yield


def asks(question: Callable[[Execution[Any]], Any]) -> Probe:
    """Something that a linked function does to an execution."""

    def probe(flows: Flows, _: Refusal) -> Generator[None]:
        execution = flows.start("approval", 1)
        yield
        with pytest.raises(StoreError, match="no identity-based policy allows"):
            question(execution)
        yield
        question(execution)

    return probe


async def approval(ctx: Context, amount: int) -> dict[str, Any]:
    """The workflow of the program, as a process knows it that only starts it."""
    raise NotImplementedError


def lists(flows: Flows, _: Refusal) -> Generator[None]:
    """The executions that there are."""
    yield
    with pytest.raises(StoreError, match="no identity-based policy allows"):
        list(flows.runtime.list_executions())
    yield
    list(flows.runtime.list_executions())


NEEDS = [
    Need(policy, sid, action, probe)
    for policy, of_policy in {
        "Flows-orchestrator-policy": [
            ("ReceiveEvents", "sqs:ChangeMessageVisibility", is_ahead),
            ("SendEventsAndTimers", "sqs:SendMessage", runs("nap", 1)),
            ("SetAside", "sqs:SendMessage", sets_aside),
            ("ReadAndWriteExecutionsAndPayloads", "s3:GetObject", runs("steps", 2)),
            ("DeleteExecutions", "s3:DeleteObject", runs("steps", 1)),
            ("InvokeWorker", "lambda:InvokeFunction", runs("steps", 2)),
            ("ScheduleTimers", "scheduler:CreateSchedule", runs("nap", 4)),
        ],
        "Flows-worker-policy": [
            ("SendEvents", "sqs:SendMessage", runs("steps", 1)),
            ("ReadAndWriteExecutionsAndPayloads", "s3:GetObject", runs("bulky", 400_000)),
        ],
        "Starter-policy": [
            (
                "ReadAndWriteExecutionsAndPayloads",
                "s3:GetObject",
                asks(lambda execution: execution.describe()),
            ),
            ("TellMissingFromForbidden", "s3:ListBucket", lists),
            ("SendEvents", "sqs:SendMessage", asks(lambda execution: execution.signal("remark"))),
            (
                "AskOrchestrator",
                "lambda:InvokeFunction",
                asks(lambda execution: execution.query("seen")),
            ),
        ],
    }.items()
    for sid, action, probe in of_policy
]


class Policies:
    """The policies that a program has made."""

    def __init__(self, flows: Flows) -> None:
        self._iam = flows.server.client("iam")
        made = {name: made for kind, name, made in flows.mocks.made if kind.endswith("RolePolicy")}
        self._made = {name: made.split(":") for name, made in made.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def role(self, name: str) -> str:
        return self._made[name][0]

    def statements(self, name: str) -> list[dict[str, Any]]:
        role, policy = self._made[name]
        found = self._iam.get_role_policy(RoleName=role, PolicyName=policy)
        return found["PolicyDocument"]["Statement"]

    @contextlib.contextmanager
    def without(self, name: str, sid: str) -> Iterator[None]:
        """Take a statement out of a policy for a while."""
        every = self.statements(name)
        self._put(name, [statement for statement in every if statement["Sid"] != sid])
        try:
            yield
        finally:
            self._put(name, every)

    def _put(self, name: str, statements: list[dict[str, Any]]) -> None:
        role, policy = self._made[name]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self._iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=document)


def test_every_statement_is_tested_here_or_by_name(flows: Flows) -> None:
    policies = Policies(flows)
    told = {(name, s["Sid"]) for name in policies for s in policies.statements(name)}
    unasked = {(name, sid) for name, reasons in UNASKED.items() for sid in reasons}
    needs = {(need.policy, need.sid) for need in NEEDS}
    assert needs | unasked == told
    assert not needs & unasked


@pytest.mark.parametrize("need", NEEDS, ids=str)
def test_without_a_statement_something_is_refused_and_nothing_is_lost(
    flows: Flows, need: Need
) -> None:
    policies = Policies(flows)
    who = f"assumed-role/{policies.role(need.policy)}/"
    told = flows.server.log.stat().st_size

    def refused() -> bool:
        with flows.server.log.open() as log:
            log.seek(told)
            return any(who in line and f"perform: {need.action} " in line for line in log)

    probe = need.probe(flows, lambda: flows.eventually(refused))
    next(probe)
    with policies.without(need.policy, need.sid):
        next(probe)
    next(probe, None)


Door = Callable[[AWSRuntime, str, str], "Execution[Any]"]

DOORS: dict[str, Door] = {
    "start_execution": lambda runtime, name, _: runtime.start_execution("approval", 1, id=name),
    "start_executions": lambda runtime, name, _: runtime.start_executions(
        "approval", [(1,), (1,)], ids=[f"{name}-beside", name]
    )[1],
    "signal_with_start": lambda runtime, name, who: runtime.signal_with_start(
        "approval", 1, id=name, signal="remark", value=who
    ),
}


@contextlib.contextmanager
def starter(flows: Flows, meet: Callable[[str], object], looks: list[str]) -> Iterator[AWSRuntime]:
    """Another process of the linked function, under its role. It calls `meet` once it has seen that
    an execution is not there, and notes when it looks again.
    """
    registry = Registry()
    registry.add(Workflow("approval", approval))
    runtime = flows.linked("Starter")
    store = runtime._parts.store

    def look(execution: str) -> None:
        meet(execution)

    def header(execution: str) -> Any:
        looks.append(execution)
        return type(store).header(store, execution)

    with (
        contextlib.closing(runtime),
        patch.object(store, "look", look),
        patch.object(store, "header", header),
        patch.object(runtime, "_registry", registry),
    ):
        yield runtime


@pytest.mark.parametrize("first", DOORS)
@pytest.mark.parametrize("second", DOORS)
def test_two_linked_functions_that_start_one_id_both_succeed(
    flows: Flows, first: str, second: str
) -> None:
    """Neither has seen it when both send. The rights of their role are all that they have."""
    name, barrier, looks = named("race"), Barrier(2), list[str]()

    def go(door: str, runtime: AWSRuntime) -> Execution[Any]:
        return DOORS[door](runtime, name, door)

    def meet(execution: str) -> None:
        if execution == name:
            barrier.wait(WAIT)

    with (
        starter(flows, meet, looks) as one,
        starter(flows, meet, looks) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        races = [pool.submit(go, first, one), pool.submit(go, second, other)]
        assert {race.result(WAIT).id for race in races} == {name}
    # At least one has lost, and asked what is there.
    assert name in looks
    execution = flows.runtime.get_execution(name)
    execution.signal("decide", {"by": "one"})
    result = execution.result(timeout=WAIT)
    signalled = sorted(door for door in (first, second) if door == "signal_with_start")
    assert (result["amount"], sorted(result["seen"])) == (1, signalled)
    listed = [one.id for one in flows.runtime.list_executions() if one.id == name]
    assert listed == [name]
    assert flows.once(name) == {"decided"}


def test_a_task_starts_executions_of_its_own_engine_and_sends_them_signals(flows: Flows) -> None:
    name = named("launched")
    flows.start("launches", name).result(timeout=WAIT)
    result = flows.runtime.get_execution(name).result(timeout=WAIT)
    assert result == {"amount": 7, "seen": [], "by": "a task"}

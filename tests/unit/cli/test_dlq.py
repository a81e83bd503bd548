"""`dlq`: the dead letters of an engine, on the emulator, found by what a client is told of the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mini_workflow import AWSRuntime
from mini_workflow.core import events, wire
from mini_workflow.runtimes.aws.container import Container
from mini_workflow.settings import (
    BUCKET_NAME,
    DLQ_URL,
    OBJECT_PREFIX,
    ORCHESTRATOR_FUNCTION_NAME,
    QUEUE_URL,
    SIGNING_KEY,
    Settings,
)
from mini_workflow.stores.aws.clients import Clients
from mini_workflow.stores.sqs.messages import SqsMessage, deduplication_id
from tests.aws.cloud import EmulatedCloud
from tests.aws.emulator import functions
from tests.aws.emulator.server import Server
from tests.unit.cli.dead_letter_queues import NOTHING, deploy_queues, taken, url_of
from tests.unit.cli.world import World

LINKED = (BUCKET_NAME, OBJECT_PREFIX, QUEUE_URL, ORCHESTRATOR_FUNCTION_NAME, SIGNING_KEY)
"""What a client of the engine is told."""


class Engine:
    """A deployed engine, as far as its queues go, and the command beside it."""

    def __init__(self, server: Server, world: World) -> None:
        self.server, self.world = server, world
        self.cloud = EmulatedCloud(server)
        self.name = self.cloud.name
        self.sqs = server.client("sqs")
        self.settings = deploy_queues(server, self.name, self.cloud.environment)
        functions.create(
            server,
            self.settings[ORCHESTRATOR_FUNCTION_NAME],
            "handler.handle",
            functions.archive(NOTHING),
            variables=self.settings,
        )
        self.parts = Container(Settings(self.settings), Clients(server.client))
        world.environment |= {
            "MINI_WORKFLOW_BACKEND": "aws",
            **server.environment(),
            **{name: self.settings[name] for name in LINKED},
        }

    def mail(self, execution: str, kind: Any, content: str) -> str:
        return self.parts.post.write(SqsMessage(execution, kind, content, ""))

    def letters(self, suffix: str) -> str:
        """The URL of a queue of dead letters."""
        return url_of(self.server, f"{self.name}-{suffix}")

    def fail_with(self, execution: str, name: str) -> str:
        """A signal that the orchestrator has failed with too often, as SQS has moved it."""
        body = self.mail(
            execution, "messages", wire.encode(events.SignalReceived(1, name, NOTHING_SENT))
        )
        self.sqs.send_message(
            QueueUrl=self.settings[DLQ_URL],
            MessageBody=body,
            MessageGroupId=execution,
            MessageDeduplicationId=deduplication_id(f"{execution} {name}"),
        )
        return body

    def set_aside(self, execution: str, body: str) -> None:
        """A message that nobody can read, as the orchestrator sets it aside."""
        with AWSRuntime(Settings(self.settings), clients=self.server.client) as runtime:
            attributes = {"MessageGroupId": execution, "ApproximateReceiveCount": "1"}
            record = {"messageId": body, "receiptHandle": "r", "body": body}
            answer = runtime.orchestrate({"Records": [{**record, "attributes": attributes}]})
            assert answer == {"batchItemFailures": []}

    def lose_timer(self, execution: str) -> str:
        body = self.mail(execution, "wake", "1767225600000")
        self.sqs.send_message(
            QueueUrl=self.letters("timers-dlq"),
            MessageBody=body,
            MessageAttributes={"executionId": {"DataType": "String", "StringValue": execution}},
        )
        return body

    def lose_report(self, execution: str) -> str:
        """What Lambda tells of an attempt that has died."""
        request = {
            "execution_id": execution,
            "seq": 3,
            "attempt": 2,
            "lost": self.parts.post.certificate(execution, 3, 2),
        }
        report = {
            "requestContext": {"condition": "RetriesExhausted"},
            "requestPayload": request,
            "responsePayload": {"errorType": "Runtime.ExitError", "errorMessage": "killed"},
        }
        self.sqs.send_message(QueueUrl=self.letters("failures-dlq"), MessageBody=json.dumps(report))
        return json.dumps(report)

    def lose_schedule(self, execution: str) -> str:
        body = self.mail(execution, "wake", "1767225600000")
        asked = {
            "QueueUrl": self.settings[QUEUE_URL],
            "MessageBody": body,
            "MessageGroupId": execution,
            "MessageDeduplicationId": deduplication_id(execution),
        }
        words = {"ERROR_CODE": "AccessDenied", "ERROR_MESSAGE": "not allowed to send"}
        self.sqs.send_message(
            QueueUrl=self.letters("schedules-dlq"),
            MessageBody=json.dumps(asked),
            MessageAttributes={
                name: {"DataType": "String", "StringValue": word} for name, word in words.items()
            },
        )
        return body

    def lose_one_of_each(self) -> None:
        self.fail_with("order-1", "approve")
        self.set_aside("order-2", "not JSON")
        self.lose_timer("order-3")
        self.lose_report("order-4")
        self.lose_schedule("order-5")

    def listed(self, *words: str) -> dict[str, dict[str, Any]]:
        """The letters by their executions."""
        found = self.world("dlq", "ls", "--json", *words).json["letters"]
        assert len({one["id"] for one in found}) == len(found)
        return {one["execution"]: one for one in found}


NOTHING_SENT = wire.decode('{"event":"SignalReceived","at":1,"name":"x","value":null}').value  # type: ignore[union-attr]


@pytest.fixture
def engine(aws: Server, mw: World) -> Iterator[Engine]:
    made = Engine(aws, mw)
    yield made
    made.cloud.close()


def test_every_letter_says_which_execution_it_is_about_and_why_it_is_there(engine: Engine) -> None:
    engine.lose_one_of_each()
    found = engine.listed()
    assert {name: one["queue"] for name, one in found.items()} == {
        "order-1": "events",
        "order-2": "events",
        "order-3": "timers",
        "order-4": "failures",
        "order-5": "schedules",
    }
    assert found["order-1"]["about"] == "SignalReceived 'approve'"
    assert found["order-1"]["reason"].startswith("the orchestrator has failed with it again")
    assert "not JSON" in found["order-2"]["about"]
    assert found["order-2"]["reason"].startswith("WireError: not JSON")
    assert found["order-3"]["about"] == "a timer that is due at 2026-01-01 00:00:00Z"
    assert found["order-4"]["about"] == ("attempt 2 of task #3 is lost: Runtime.ExitError: killed")
    assert found["order-5"]["reason"] == "AccessDenied: not allowed to send"
    told = engine.world("dlq", "ls")
    assert told.err.endswith("letters: events 2, timers 1, failures 1, schedules 1")
    assert len(told.out.splitlines()) == 5
    assert set(engine.listed("--queue", "timers")) == {"order-3"}
    assert set(engine.listed("--execution", "order-4")) == {"order-4"}
    one = found["order-2"]
    assert engine.world("dlq", "show", one["id"][:12], "--json").json["body"] == "not JSON"
    assert "reason: WireError: not JSON" in engine.world("dlq", "show", one["id"]).out


def test_doctor_sees_all_four_queues(engine: Engine) -> None:
    told = [one["what"] for one in engine.world("doctor", "--json").json["findings"]]
    assert "there are no dead letters" in told
    engine.lose_one_of_each()
    found = engine.world("doctor", "--json", status=1).json["findings"]
    remedies = {one["what"]: one["remedy"] for one in found if one["level"] == "problem"}
    assert set(remedies) == {
        "dead letters of events: 2",
        "dead letters of timers: 1",
        "dead letters of failures: 1",
        "dead letters of schedules: 1",
    }
    for what, remedy in remedies.items():
        kind = what.split()[3].rstrip(":")
        assert f"mini-workflow dlq ls --queue {kind}" in remedy
        assert f"mini-workflow dlq redrive --queue {kind}" in remedy


def test_letters_are_sent_again_to_where_they_came_from(engine: Engine) -> None:
    signal = engine.fail_with("order-1", "approve")
    engine.set_aside("order-2", "not JSON")
    timer, report, schedule = (
        engine.lose_timer("order-3"),
        engine.lose_report("order-4"),
        engine.lose_schedule("order-5"),
    )
    said = engine.world("dlq", "redrive", "--execution", "order-1")
    assert said.out.endswith(": sent again  events  order-1")
    (sent,) = taken(engine.server, engine.settings[QUEUE_URL])
    assert (sent["Body"], sent["Attributes"]["MessageGroupId"]) == (signal, "order-1")
    assert engine.parts.post.read(sent["Body"]).execution_id == "order-1"
    assert set(engine.listed()) == {"order-2", "order-3", "order-4", "order-5"}
    engine.world("dlq", "redrive", "--queue", "timers")
    passed_on: list[dict[str, Any]] = []
    while not passed_on:  # by the pipe of timers
        passed_on = taken(engine.server, engine.settings[QUEUE_URL])
    assert [json.loads(one["Body"])["event"] for one in passed_on] == [json.loads(timer)]
    assert passed_on[0]["Attributes"]["MessageGroupId"] == "order-3"
    done = engine.world("dlq", "redrive", "--all", "--json").json["sent_again"]
    assert {one["execution"] for one in done} == {"order-2", "order-4", "order-5"}
    (sent,) = taken(engine.server, engine.letters("failures"))
    assert sent["Body"] == report
    came = taken(engine.server, engine.settings[QUEUE_URL])
    assert {one["Body"] for one in came} == {"not JSON", schedule}
    assert engine.listed() == {}


def test_a_letter_whose_deletion_fails_stays_and_arrives_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mini_workflow.errors import StoreUnavailable
    from mini_workflow.runtimes.aws.dead_letters import DeadLetters

    signal = engine.fail_with("order-1", "approve")

    def refuse(self: DeadLetters, letter: object) -> None:
        raise StoreUnavailable("the connection is gone")

    with monkeypatch.context() as broken:
        broken.setattr(DeadLetters, "_delete", refuse)
        said = engine.world("dlq", "redrive", "--all", status=6)
        assert said.err == "error: the connection is gone"
        assert said.out == ""
    assert set(engine.listed()) == {"order-1"}
    engine.world("dlq", "redrive", "--all")
    assert [one["Body"] for one in taken(engine.server, engine.settings[QUEUE_URL])] == [signal]
    assert engine.listed() == {}


def test_letters_are_dropped_and_told_whole(engine: Engine) -> None:
    engine.lose_one_of_each()
    found = engine.listed()
    identity = found["order-2"]["id"]
    (dropped,) = engine.world("dlq", "drop", identity, "--json").json["dropped"]
    assert dropped["body"] == "not JSON"
    assert engine.world("dlq", "drop", "--queue", "timers").out.endswith("timers  order-3")
    assert set(engine.listed()) == {"order-1", "order-4", "order-5"}
    assert taken(engine.server, engine.settings[QUEUE_URL]) == []
    gone = engine.world("dlq", "drop", identity, status=3)
    assert f"there is no dead letter {identity}" in gone.err


def test_more_letters_than_one_call_brings(engine: Engine) -> None:
    for number in range(25):
        engine.fail_with(f"order-{number}", "approve")
    assert len(engine.listed("--queue", "events")) == 25
    assert len(engine.listed("--queue", "events", "--limit", "7")) == 7
    for name in range(25):
        engine.fail_with("one", f"signal-{name}")
    done = 0
    while left := engine.world("dlq", "redrive", "--all", "--json").json["sent_again"]:
        done += len(left)
    assert done == 50
    names = [
        json.loads(json.loads(one["Body"])["content"])["name"]
        for one in taken(engine.server, engine.settings[QUEUE_URL])
        if one["Attributes"]["MessageGroupId"] == "one"
    ]
    assert names == [f"signal-{number}" for number in range(25)]


def test_a_queue_that_is_not_there_is_told_and_the_others_are_shown(engine: Engine) -> None:
    engine.lose_one_of_each()
    engine.sqs.delete_queue(QueueUrl=engine.letters("failures-dlq"))
    said = engine.world("dlq", "ls")
    assert "the dead letters of failures cannot be found: " in said.err
    assert len(said.out.splitlines()) == 4
    said = engine.world("dlq", "ls", "--queue", "failures", status=6)
    assert said.err.startswith("error: the dead letters of failures cannot be found: ")
    told = engine.world("doctor", "--json", status=1).json["findings"]
    assert any("the dead letters of failures cannot be found" in one["what"] for one in told)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("redrive",), "which letters?"),
        (("drop",), "which letters?"),
        (("drop", "--all", "x"), "leave out --all, or the ids"),
        (("drop", "--all", "--execution", "x"), "leave out --all, or the ids"),
        (("ls", "--queue", "letters"), "letters"),
        (("ls",), "sqlite:state.db has no dead letters"),
        (("redrive", "--all"), "mini-workflow ls --status blocked"),
    ],
    ids=str,
)
def test_wrong_words_are_refused(
    tmp_path: Path, mw: World, words: tuple[str, ...], told: str
) -> None:
    said = mw("dlq", *words, status=2)
    assert told in said.err
    assert len(said.err.splitlines()) == 1

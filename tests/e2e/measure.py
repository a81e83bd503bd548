"""What the engine adds on AWS to a chain of a queue and a function that was written by hand.

    make bench-aws

Both run on the same emulator, one after the other, and do the same in each step: they write an
object. The chain keeps no history, and knows no results, retries or signals. Seconds depend on the
machine, and ratios between the two much less; calls and bytes are those of AWS itself.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from tests.aws.emulator import functions
from tests.aws.emulator.server import emulator
from tests.e2e.deployment import deployed
from tests.e2e.flows import PROGRAM, Flows, named

ALONE = 100
"""Steps of the execution that has everything to itself."""
MANY, STEPS = 200, 10
"""Executions at once, and the steps of each."""
NAPS, NAP = 10, 2
"""Timers one after the other, and their seconds."""
WORKERS = 3
"""Processes that run tasks or links of the chain at the same time. The orchestrator has two."""
WITHIN = 600.0

CHAIN = """
import json, os, time, uuid
import boto3

s3, sqs = boto3.client("s3"), boto3.client("sqs")


def note(key):
    s3.put_object(Bucket=os.environ["LEDGER"], Key=key, Body=b"")


def handle(event, context):
    for record in event["Records"]:
        told = json.loads(record["body"])
        name, step = told["name"], told["step"]
        if "sent" in told:
            note(f"{name}/{time.time() - told['sent']}/{uuid.uuid4().hex}")
            continue
        note(f"{name}/{step}/{os.getpid()}.1.{step}.{uuid.uuid4().hex}")
        if step + 1 < told["steps"]:
            sqs.send_message(
                QueueUrl=os.environ["QUEUE"],
                MessageBody=json.dumps({**told, "step": step + 1}),
                MessageGroupId=name,
                MessageDeduplicationId=f"{name}/{step + 1}",
            )
"""


class Chain:
    """Steps and timers without an engine."""

    def __init__(self, flows: Flows) -> None:
        self._flows = flows
        self._sqs = flows.server.client("sqs")
        fifo = {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
        self._links = self._queue("links.fifo", FifoQueue="true", **fifo)
        self._timers = self._queue("links-timers")
        variables = {"LEDGER": flows.stack.outputs["ledger"], "QUEUE": self._links}
        client = flows.server.client("lambda")
        self._role()
        functions.create(
            flows.server,
            "links",
            "app.handle",
            functions.archive({"app.py": CHAIN}),
            variables=variables,
        )
        client.put_function_concurrency(FunctionName="links", ReservedConcurrentExecutions=WORKERS)
        for url in (self._links, self._timers):
            asked = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
            client.create_event_source_mapping(
                EventSourceArn=asked["Attributes"]["QueueArn"], FunctionName="links", BatchSize=10
            )

    def _queue(self, name: str, **attributes: str) -> str:
        given = {"VisibilityTimeout": "180", **attributes}
        return self._sqs.create_queue(QueueName=name, Attributes=given)["QueueUrl"]

    def _role(self) -> None:
        iam = self._flows.server.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": "*"}, "Action": "sts:AssumeRole"}
        allowed = {
            "Effect": "Allow",
            "Action": ["s3:PutObject", "sqs:SendMessage"],
            "Resource": "*",
        }
        documents = [
            json.dumps({"Version": "2012-10-17", "Statement": [one]}) for one in (trust, allowed)
        ]
        iam.create_role(RoleName="links", AssumeRolePolicyDocument=documents[0])
        iam.put_role_policy(RoleName="links", PolicyName="links", PolicyDocument=documents[1])

    def start(self, steps: int) -> str:
        name = named("chain")
        self._sqs.send_message(
            QueueUrl=self._links,
            MessageBody=json.dumps({"name": name, "step": 0, "steps": steps}),
            MessageGroupId=name,
            MessageDeduplicationId=name,
        )
        return name

    def lateness(self) -> float:
        """By how many seconds a timer is late."""
        name = named("timer")
        told = {"name": name, "step": 0, "sent": time.time()}
        self._sqs.send_message(
            QueueUrl=self._timers, MessageBody=json.dumps(told), DelaySeconds=NAP
        )
        (key,) = self._flows.eventually(lambda: keys(self._flows, f"{name}/"))
        return float(key.split("/")[1]) - NAP


def keys(flows: Flows, prefix: str) -> list[str]:
    """The keys of the ledger that begin so."""
    pages = flows.server.client("s3").get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=flows.stack.outputs["ledger"], Prefix=prefix)
    return [entry["Key"] for page in found for entry in page.get("Contents", ())]


def wait(flows: Flows, names: Iterable[str], steps: int) -> None:
    """Until all have taken all of their steps."""
    for name in names:
        flows.eventually(lambda name=name: len(keys(flows, f"{name}/")) >= steps, WITHIN)


def cost(flows: Flows, name: str, steps: int) -> tuple[Counter[str], float]:
    """Calls for each step by what was called, and bytes for each step."""
    ledger, mine = flows.stack.outputs["ledger"], flows.caller
    calls = [
        call
        for call in flows.server.calls(name)
        if ledger not in call["path"] and call["caller"] != mine
    ]
    counts = Counter(f"{call['service']} {call['operation']}" for call in calls)
    for what in counts:
        counts[what] /= steps  # type: ignore[assignment]
    return counts, sum(call["bytes"] for call in calls) / steps


def row(what: str, engine: float, chain: float, form: str) -> None:
    print(f"{what:<42}{engine:>10{form}}{chain:>10{form}}{engine / chain:>8.1f}")


def main() -> None:
    with (
        emulator(auth=True) as server,
        deployed(server, PROGRAM, Flows) as flows,
        flows.at_most("Flows-worker-function", WORKERS),
        flows.at_most("Flows-orchestrator-function", 2),
    ):
        chain = Chain(flows)
        say("warming up")
        wait(flows, [flows.start("fan_out", 30).id], 30)
        wait(flows, [chain.start(3) for _ in range(10)], 3)

        say(f"{ALONE} steps, alone")
        began = time.monotonic()
        alone = flows.start("steps", ALONE)
        wait(flows, [alone.id], ALONE)
        of_engine = time.monotonic() - began
        began = time.monotonic()
        links = chain.start(ALONE)
        wait(flows, [links], ALONE)
        of_chain = time.monotonic() - began
        print(f"{'':<42}{'engine':>10}{'chain':>10}{'ratio':>8}")
        row("ms per step, alone", 1e3 * of_engine / ALONE, 1e3 * of_chain / ALONE, ".0f")
        alone.result(timeout=WITHIN)
        counts, size = cost(flows, alone.id, ALONE)
        bare, bare_size = cost(flows, links, ALONE)
        row("calls per step", sum(counts.values()), sum(bare.values()), ".2f")
        row("bytes sent per step", size, bare_size, ".0f")
        for what, count in sorted(counts.items()):
            print(f"  {what:<40}{count:>10.2f}{bare[what]:>10.2f}")

        say(f"{MANY} executions of {STEPS} steps at once")
        with ThreadPoolExecutor(8) as pool:
            began = time.monotonic()
            names = [f"load-{uuid4().hex[:8]}" for _ in range(MANY)]
            executions = list(pool.map(lambda name: flows.start("steps", STEPS, name=name), names))
            wait(flows, names, STEPS)
            loaded = time.monotonic() - began
            assert [one.result(timeout=WITHIN) for one in executions] == [STEPS] * MANY
            assert all(len(flows.once(name)) == STEPS for name in names)
            began = time.monotonic()
            wait(flows, list(pool.map(chain.start, [STEPS] * MANY)), STEPS)
            bare_loaded = time.monotonic() - began
        row(f"seconds for {MANY} x {STEPS} steps", loaded, bare_loaded, ".1f")

        say(f"{NAPS} timers of {NAP} s")
        naps = [flows.start("nap", NAP).result(timeout=WITHIN) - NAP for _ in range(NAPS)]
        late = [chain.lateness() for _ in range(NAPS)]
        row("ms that a timer is late, median", *milliseconds(statistics.median, naps, late), ".0f")
        row("ms that a timer is late, at most", *milliseconds(max, naps, late), ".0f")


def milliseconds(of: Any, *samples: list[float]) -> list[float]:
    return [1e3 * of(sample) for sample in samples]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

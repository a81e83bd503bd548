"""Pulumi programs run without Pulumi: what they register is recorded, and answered by mocks."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from google.protobuf import json_format
from pulumi.runtime import rpc
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs, Mocks

ACCOUNT = "123456789012"
REGION = "us-east-1"

# How a secret is marked on the wire, and by what.
_MARK = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"


def revealed(value: Any) -> Any:
    """A value without the wrappings of its secrets, numbers whole where they are."""
    if isinstance(value, Mapping):
        if value.get(_MARK) == _SECRET:
            return revealed(value["value"])
        return {key: revealed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [revealed(part) for part in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def is_secret(value: Any) -> bool:
    """Whether a value is a secret as a whole."""
    return isinstance(value, Mapping) and value.get(_MARK) == _SECRET


@dataclass(frozen=True, slots=True)
class Registered:
    """A resource as it was registered. `raw` has the inputs with secrets as such."""

    type: str
    name: str
    parent: str
    raw: Mapping[str, Any]
    inputs: Mapping[str, Any]
    dependencies: frozenset[str]
    options: Mapping[str, Any] = field(default_factory=dict)


ARNS = {
    "aws:s3/bucket:Bucket": "arn:aws:s3:::{name}",
    "aws:dynamodb/table:Table": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{{name}}",
    "aws:sqs/queue:Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{name}}",
    "aws:iam/role:Role": f"arn:aws:iam::{ACCOUNT}:role/{{name}}",
    "aws:lambda/function:Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{name}}",
    "aws:cloudwatch/logGroup:LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{name}}",
    "aws:ssm/parameter:Parameter": f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{{name}}",
    "aws:secretsmanager/secret:Secret": (
        f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{{name}}-AbCdEf"
    ),
    "aws:pipes/pipe:Pipe": f"arn:aws:pipes:{REGION}:{ACCOUNT}:pipe/{{name}}",
    "aws:scheduler/scheduleGroup:ScheduleGroup": (
        f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/{{name}}"
    ),
}

NAMED_BY = {"aws:s3/bucket:Bucket": "bucket"}
"""The property with a resource's physical name, where it is not `name`."""


class Invented(Mocks):
    """Answers with what AWS would answer, as far as programs look at it. Names are the logical ones."""

    def __init__(
        self, partition: str = "aws", account: str = ACCOUNT, region: str = REGION
    ) -> None:
        self.partition = partition
        self.account = account
        self.region = region

    def _arn(self, form: str, **names: str) -> str:
        made = form.format(**names).replace("arn:aws:", f"arn:{self.partition}:", 1)
        return made.replace(ACCOUNT, self.account).replace(REGION, self.region)

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        given = revealed(args.inputs)
        answer = dict(args.inputs)
        named_by = NAMED_BY.get(args.typ, "name")
        made_up = args.name + (".fifo" if given.get("fifoQueue") else "")
        # What is only read has its id, which is the name of a bucket.
        name = given.get(named_by) or args.resource_id or made_up
        answer[named_by] = name
        if args.typ in ARNS:
            answer["arn"] = self._arn(ARNS[args.typ], name=name)
        if args.typ == "aws:sqs/queue:Queue":
            answer["url"] = f"https://sqs.example/{self.account}/{name}"
        elif args.typ == "aws:lambda/function:Function" and given.get("publish"):
            answer["version"] = "7"
        elif args.typ == "aws:lambda/alias:Alias":
            function = ARNS["aws:lambda/function:Function"].format(name=given["functionName"])
            answer["arn"] = self._arn(f"{function}:{name}")
        elif args.typ == "aws:lambda/functionUrl:FunctionUrl":
            answer["functionUrl"] = f"https://{args.name.lower()}.lambda-url.example/"
        elif args.typ == "aws:secretsmanager/secretVersion:SecretVersion":
            answer["secretArn"] = given["secretId"]
        elif args.typ == "random:index/randomId:RandomId":
            answer["hex"] = "5eed"
        elif args.typ == "random:index/randomPassword:RandomPassword":
            answer["result"] = rpc_secret("k" * int(given["length"]))
        if args.typ == "aws:secretsmanager/secret:Secret":
            return answer["arn"], answer
        return f"{args.name}-id", answer

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], None]:
        raise AssertionError(f"nothing needs to be asked of the provider: {args.token}")


def rpc_secret(value: Any) -> dict[str, Any]:
    return {_MARK: _SECRET, "value": value}


class Recording(MockMonitor):
    """A monitor that remembers what was registered. A property whose changes a program ignores stays as
    it was registered first.
    """

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self._first: dict[tuple[str, str], Any] = {}
        self.registered: list[Registered] = []
        self.outputs: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:
        first = self._first.setdefault((request.type, request.name), request.object)
        for name in request.ignoreChanges if first is not request.object else ():
            request.object.fields.pop(name, None)
            if name in first.fields:
                request.object.fields[name].CopyFrom(first.fields[name])
        raw = rpc.deserialize_properties(request.object, keep_unknowns=True)
        if request.type != "pulumi:pulumi:Stack":
            self.registered.append(
                Registered(
                    request.type,
                    request.name,
                    _name(request.parent),
                    raw,
                    revealed(raw),
                    frozenset(map(_name, request.dependencies)),
                    {
                        "retain": request.retainOnDelete,
                        "delete first": request.deleteBeforeReplace,
                        "protect": request.protect,
                        "ignored": list(request.ignoreChanges),
                        "provider": _name(request.provider.rpartition("::")[0]),
                    },
                )
            )
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        # As they are on the wire: to read a reference to a resource means to ask for it.
        self.outputs[_name(request.urn)] = json_format.MessageToDict(request.outputs)
        return super().RegisterResourceOutputs(request)

    # What tests ask

    def __iter__(self) -> Iterator[Registered]:
        return iter(self.registered)

    def get(self, name: str) -> Registered:
        """The resource with this logical name, which has to be the only one that is no component."""
        found = [one for one in self.registered if one.name == name]
        assert len(found) == 1, f"{len(found)} resources called {name}"
        return found[0]

    def of(self, kind: str) -> list[Registered]:
        """Resources whose type ends so, by name."""
        found = [one for one in self.registered if one.type.endswith(f":{kind}")]
        return sorted(found, key=lambda one: one.name)


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def record(program: Callable[[], Any], mocks: Mocks | None = None) -> Recording:
    """Run a program and return when everything has been registered. It raises what that raises."""
    mocks = mocks or Invented()
    recording = Recording(mocks)
    give_loop()
    pulumi.runtime.set_mocks(
        mocks, project="project", stack=f"stack-{uuid.uuid4().hex[:6]}", monitor=recording
    )

    @pulumi.runtime.test
    def run() -> Any:
        return program()

    run()
    return recording


_LOOP = asyncio.new_event_loop()
"""For as long as the process: the SDK keeps what belongs to it."""


def give_loop() -> asyncio.AbstractEventLoop:
    """The SDK wants this thread to have an event loop, and other tests leave none behind."""
    asyncio.set_event_loop(_LOOP)
    return _LOOP

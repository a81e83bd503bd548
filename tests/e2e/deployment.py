"""A Pulumi program, deployed to the emulator as a user deploys it, and what tests do with it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from mini_workflow import AWSRuntime
from mini_workflow.settings import MEANING, Settings
from tests.aws.emulator.server import Server
from tests.pulumi.monitor import Stack, stack
from tests.pulumi.provisioning import Provisioning
from tests.waiting import eventually

D = TypeVar("D", bound="Deployment")
T = TypeVar("T")


class Deployment:
    """What a program has made. Names of resources are those that the program gives them."""

    def __init__(self, server: Server, made: Stack, mocks: Provisioning) -> None:
        self.server = server
        self.stack = made
        self.mocks = mocks
        self._s3 = server.client("s3")
        self._lambda = server.client("lambda")

    def id_of(self, name: str) -> str:
        """The physical id of the one resource with that name."""
        (found,) = [made for _, logical, made in self.mocks.made if logical == name]
        return found

    def variables(self, function: str) -> dict[str, str]:
        """The environment of a function."""
        told = self._lambda.get_function_configuration(FunctionName=self.id_of(function))
        return told["Environment"]["Variables"]

    def credentials(self, role: str) -> Any:
        """Those of a session with a role, as its function has them."""
        arn = f"arn:aws:iam::{self.server.account}:role/{self.id_of(role)}"
        sts = self.server.client("sts")
        return sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]

    def linked(self, function: str, credentials: Any = None) -> AWSRuntime:
        """A runtime in this process that knows and may do what a linked function may.

        `function` is the name that the program gave to its Function, `credentials` are those of a
        session with its role, a new one by default.
        """
        told = self.variables(f"{function}-function")
        settings = Settings({name: value for name, value in told.items() if name in MEANING})
        role = credentials or self.credentials(f"{function}-role")
        return AWSRuntime(settings, clients=lambda service: self.server.client(service, role))

    def call(self, function: str, event: Any) -> Any:
        """What a function answers."""
        answer = self._lambda.invoke(FunctionName=function, Payload=json.dumps(event))
        return json.loads(answer["Payload"].read())

    def read(self, bucket: str, key: str) -> str:
        """The text of an object."""
        return self._s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()

    def close(self) -> None:
        """Release what this process holds."""

    def eventually(self, look: Callable[[], T | None]) -> T:
        """What a look finds at last."""
        try:
            return eventually(look, every=0.1)
        except AssertionError as error:
            error.add_note(self.server.tail(80))
            raise


@contextlib.contextmanager
def deployed(server: Server, program: Path, kind: type[D]) -> Iterator[D]:
    """Run the Pulumi program in a folder. What it has made lasts as long as the server."""
    mocks = Provisioning(server)
    with stack(mocks) as made:
        made.up(program)
        deployment = kind(server, made, mocks)
        try:
            yield deployment
        finally:
            deployment.close()

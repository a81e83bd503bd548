"""A Pulumi engine, as far as programs and providers talk to one: over gRPC, from other processes.

Resources go to the recording of recording.py and its mocks. What an engine does besides (check,
diff, update, delete) is not here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pulumi
from google.protobuf import empty_pb2
from pulumi.runtime.mocks import Mocks
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, resource_pb2, resource_pb2_grpc

from tests.pulumi.recording import Recording, give_loop

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "project"
FEATURES = {"secrets", "resourceReferences", "outputValues", "aliasSpecs", "deletedWith"}


class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    """Where resources are registered."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def GetDeploymentInfo(self, request: Any, _: Any) -> Any:
        return self._recording.GetDeploymentInfo(request)

    def SupportsFeature(self, request: Any, _: Any) -> Any:
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id in FEATURES)

    def RegisterResource(self, request: Any, _: Any) -> Any:
        return self._recording.RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any, _: Any) -> Any:
        self._recording.RegisterResourceOutputs(request)
        return empty_pb2.Empty()

    def Invoke(self, request: Any, _: Any) -> Any:
        return self._recording.Invoke(request)

    def RegisterResourceHook(self, request: Any, _: Any) -> Any:
        return empty_pb2.Empty()

    def RegisterPackage(self, request: Any, _: Any) -> Any:
        return resource_pb2.RegisterPackageResponse(ref=f"{request.name}-{request.version}")

    def SignalAndWaitForShutdown(self, request: Any, _: Any) -> Any:
        return empty_pb2.Empty()


class Engine(engine_pb2_grpc.EngineServicer):
    """Where messages go. `messages` are those of programs."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._root = ""

    def Log(self, request: Any, _: Any) -> Any:
        self.messages.append(request.message)
        return empty_pb2.Empty()

    def GetRootResource(self, request: Any, _: Any) -> Any:
        return engine_pb2.GetRootResourceResponse(urn=self._root)

    def SetRootResource(self, request: Any, _: Any) -> Any:
        self._root = request.urn
        return engine_pb2.SetRootResourceResponse()


class Stack:
    """A stack without an engine. `address` is that of the monitor and of the engine."""

    def __init__(self, address: str, name: str, recording: Recording, engine: Engine) -> None:
        self.address = address
        self.name = name
        self.recording = recording
        self.engine = engine

    @property
    def outputs(self) -> dict[str, Any]:
        """What the program has exported."""
        return self.recording.outputs[f"{PROJECT}-{self.name}"]

    def up(self, folder: Path, variables: dict[str, str] | None = None) -> None:
        """Run the program in a folder, in a process of its own, as the language host would."""
        done = subprocess.run(
            [sys.executable, "-c", HOST, self.address, PROJECT, self.name, str(folder)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(variables or {})},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


HOST = """
import asyncio, runpy, sys
import pulumi, pulumi.runtime

address, project, stack, folder = sys.argv[1:]
sys.path.insert(0, folder)
pulumi.runtime.configure(
    pulumi.runtime.Settings(monitor=address, engine=address, project=project, stack=stack)
)
run = pulumi.runtime.run_in_stack(lambda: runpy.run_path(folder + "/__main__.py", run_name="__main__"))
asyncio.new_event_loop().run_until_complete(run)
"""


@contextlib.contextmanager
def stack(mocks: Mocks) -> Iterator[Stack]:
    """An empty stack, served on loopback as long as the block lasts."""
    recording, engine = Recording(mocks), Engine()
    name = f"stack-{uuid.uuid4().hex[:6]}"
    give_loop()
    pulumi.runtime.set_mocks(mocks, project=PROJECT, stack=name, monitor=recording)
    # One thread, because the mocks are not made for more, with the loop that they want to have.
    loop = asyncio.new_event_loop()
    server = grpc.server(
        ThreadPoolExecutor(1, initializer=asyncio.set_event_loop, initargs=(loop,))
    )
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(Monitor(recording), server)
    engine_pb2_grpc.add_EngineServicer_to_server(engine, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Stack(f"127.0.0.1:{port}", name, recording, engine)
    finally:
        server.stop(grace=None).wait()
        loop.close()

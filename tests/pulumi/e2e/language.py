"""A language host for Pulumi's engine: it runs programs and packages in Python.

Pulumi's own is a Go module that cannot be had by the module proxy. Its executor, the script that runs
a program, can, and is what runs programs here too: `EXECUTOR` is its path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import grpc
from google.protobuf import empty_pb2, json_format
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    language_pb2,
    language_pb2_grpc,
    plugin_pb2,
)

SHOWN = 32
"""The exit code of the executor when it has told the engine itself what is wrong."""


class Host(language_pb2_grpc.LanguageRuntimeServicer):
    """What is not here is answered by UNIMPLEMENTED."""

    def __init__(self, executor: str) -> None:
        self.executor = executor
        self.engine = ""

    def Handshake(self, request: Any, context: Any) -> Any:
        self.engine = request.engine_address
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo()

    def GetRequiredPackages(self, request: Any, context: Any) -> Any:
        return language_pb2.GetRequiredPackagesResponse()

    def GetRequiredPlugins(self, request: Any, context: Any) -> Any:
        return language_pb2.GetRequiredPluginsResponse()

    def InstallDependencies(self, request: Any, context: Any) -> Iterator[Any]:
        """Nothing: the environment is there."""
        yield from ()

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Run(self, request: Any, context: Any) -> Any:
        directory = request.info.program_directory or request.pwd
        command = [interpreter(request.info.options, request.info.root_directory, "virtualenv")]
        command += ["-u", self.executor]
        named = {
            "project": request.project,
            "stack": request.stack,
            "pwd": request.pwd,
            "monitor": request.monitor_address,
            "engine": self.engine,
            "dry_run": "true" if request.dryRun else "false",
            "parallel": str(request.parallel),
            "organization": request.organization,
            "root_directory": request.info.root_directory,
        }
        for name, value in named.items():
            if value:
                command += [f"--{name}", value]
        command += [str(Path(directory, request.info.entry_point or ".")), *request.args]
        environment = {
            **os.environ,
            "PULUMI_CONFIG": json.dumps(dict(request.config)),
            "PULUMI_CONFIG_SECRET_KEYS": json.dumps(list(request.configSecretKeys)),
        }
        with subprocess.Popen(
            command,
            cwd=request.pwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            context.add_callback(lambda: process.poll() is None and process.kill())
            with grpc.insecure_channel(self.engine) as channel:
                engine = engine_pb2_grpc.EngineStub(channel)
                for line in process.stdout:
                    said = engine_pb2.LogRequest(severity=engine_pb2.INFO, message=line)
                    engine.Log(said)
            code = process.wait()
        if code == SHOWN:
            return language_pb2.RunResponse(bail=True)
        return language_pb2.RunResponse(error=f"the program ended with {code}" if code else "")

    def RunPlugin(self, request: Any, context: Any) -> Iterator[Any]:
        directory = request.info.program_directory or request.pwd
        command = [
            interpreter(request.info.options, directory, "virtualenv"),
            "-u",
            directory,
            *request.args,
        ]
        process = subprocess.Popen(
            command,
            cwd=request.pwd,
            env=dict(item.partition("=")[::2] for item in request.env) or None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        context.add_callback(lambda: process.poll() is None and process.terminate())
        assert process.stdout is not None
        assert process.stderr is not None
        errors = threading.Thread(target=drain, args=[process.stderr], daemon=True)
        errors.start()
        while chunk := os.read(process.stdout.fileno(), 65_536):
            yield language_pb2.RunPluginResponse(stdout=chunk)
        yield language_pb2.RunPluginResponse(exitcode=process.wait())


def drain(stream: IO[bytes]) -> None:
    """To the output of this process, which the engine shows when the process fails."""
    for line in stream:
        sys.stderr.buffer.write(line)


def interpreter(options: Any, root: str, name: str) -> str:
    """The Python of the virtual environment that the project names."""
    given = json_format.MessageToDict(options)
    return str(Path(root, given.get(name, "venv"), "bin", "python"))

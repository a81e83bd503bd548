"""What Pulumi's engine would start for each command, in one process for all commands of a stack: the
language host and the providers.

    python -m tests.pulumi.e2e.plugins EXECUTOR

Prints the variables by which the engine finds them, and ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from pulumi.runtime.proto import language_pb2_grpc, provider_pb2_grpc

from tests.pulumi.e2e.language import Host
from tests.pulumi.e2e.provider import Provider

PROVIDERS = ("aws", "random")
THREADS = 16


def started() -> tuple[grpc.Server, int]:
    """A server, which is still to be started, and its port."""
    server = grpc.server(ThreadPoolExecutor(THREADS))
    return server, server.add_insecure_port("127.0.0.1:0")


def main(executor: str) -> None:
    server, port = started()
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Host(executor), server)
    server.start()
    serving, providers = [server], []
    for package in PROVIDERS:
        server, at = started()
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(Provider(package), server)
        server.start()
        serving.append(server)
        providers.append(f"{package}:{at}")
    found = {
        "PULUMI_DEBUG_LANGUAGES": f"python:{port}",
        "PULUMI_DEBUG_PROVIDERS": ",".join(providers),
    }
    print(json.dumps(found), flush=True)
    sys.stdin.read()
    # What still goes on is for an engine that is gone.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Lambda's Runtime API on loopback: what AWS's runtime client talks to, and nothing else of Lambda.

A function's folder is run by an interpreter that has awslambdaric and boto3, as at AWS.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from tests.aws.emulator import functions
from tests.waiting import WAIT

VERSION = "2018-06-01"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:f"


class InitFailed(Exception):
    """The handler could not be loaded; the message is what the client reported."""


class RuntimeAPI:
    """Runs one function. `with RuntimeAPI(folder, handler) as function: function.call(event)`."""

    def __init__(
        self, folder: Path, handler: str, variables: Mapping[str, str] | None = None
    ) -> None:
        self._waiting: queue.Queue[tuple[str, bytes] | None] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()
        self._ready: queue.Queue[Any] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._process = subprocess.Popen(
            [functions.interpreter(), "-m", "awslambdaric", handler],
            cwd=folder,
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONDONTWRITEBYTECODE": "1",
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
                "AWS_LAMBDA_FUNCTION_NAME": "f",
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
                "LAMBDA_TASK_ROOT": str(folder),
                "_HANDLER": handler,
                **(variables or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        try:
            failed = self._ready.get(timeout=WAIT)
        except queue.Empty:
            self.close()
            raise
        if failed is not None:
            self.close()
            raise InitFailed(failed["errorMessage"])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the function's process, and serve nobody any more."""
        self._process.kill()
        self._process.communicate()
        self._waiting.put(None)
        self._server.shutdown()
        self._server.server_close()

    def call(self, event: Any) -> Any:
        """The answer of the function, or the error it reported: {"errorType": ...}."""
        self._waiting.put((str(uuid4()), json.dumps(event).encode()))
        return self._answers.get(timeout=WAIT)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Otherwise each answer waits for an acknowledgement.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                assert self.path == f"/{VERSION}/runtime/invocation/next"
                api._ready.put(None)
                waiting = api._waiting.get()
                if waiting is None:
                    return
                request, event = waiting
                self._answer(
                    200,
                    event,
                    {
                        "Lambda-Runtime-Aws-Request-Id": request,
                        "Content-Type": "application/json",
                        "Lambda-Runtime-Invoked-Function-Arn": ARN,
                        "Lambda-Runtime-Deadline-Ms": str(round((time.time() + 30) * 1000)),
                    },
                )

            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                (api._ready if self.path.endswith("/init/error") else api._answers).put(told)
                self._answer(202, b"{}", {})

            def _answer(self, code: int, body: bytes, headers: Mapping[str, str]) -> None:
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

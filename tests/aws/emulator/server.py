"""AWS on loopback, in a process of its own: S3, SQS, Lambda, Pipes, Scheduler, IAM.

    with emulator() as server:
        server.client("s3").create_bucket(Bucket="b")

Nothing is downloaded except the environment it runs in, once. The server listens on 127.0.0.1
alone, on a port that was free, and ends with the process that started it, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tools import env

REGION = "us-east-1"
ACCOUNT = "000000000000"

HEALTH = "/_ministack/health"
READY_WITHIN = 60.0
"""Seconds. A start takes one or two, and more when the files were not compiled before."""
ENDS_WITHIN = 10.0

# How a client calls a server on loopback: it is there or it is not, and answers at once.
CLIENT = Config(
    region_name=REGION,
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=50,
    retries={"mode": "standard", "total_max_attempts": 3},
    s3={"addressing_style": "path"},
)


class EmulatorFailed(Exception):
    """The emulator did not start, or has ended; the message has the end of its log."""


class Server:
    """A running emulator.

    `endpoint` is its URL, `account` the account that holds everything, `log` the file with all it
    has printed, the output of functions included.
    """

    account = ACCOUNT
    region = REGION

    def __init__(self, endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.endpoint = endpoint
        self.process = process
        self.log = log

    def environment(self) -> dict[str, str]:
        """The variables by which boto3 finds the emulator, in another process or in this one."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, credentials: Mapping[str, str] | None = None) -> Any:
        """A boto3 client. `credentials` are those of AssumeRole; without, the account's root."""
        given = credentials or {"AccessKeyId": "test", "SecretAccessKey": "test"}
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given.get("SessionToken"),
            config=CLIENT,
        )

    def calls(self, execution: str) -> list[dict[str, Any]]:
        """The calls that were about an execution, in their order: see recorder.py."""
        url = f"{self.endpoint}/_emulator/calls?about={execution}"
        with urllib.request.urlopen(url, timeout=READY_WITHIN) as answer:
            return json.load(answer)

    def tail(self, lines: int = 40) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def emulator(
    state_dir: Path | None = None, auth: bool = False, folder: Path | None = None
) -> Iterator[Server]:
    """Run an emulator as long as the block lasts.

    What it holds is forgotten at the end, unless there is a `state_dir`: another emulator with the
    same one goes on from there, on the same port. With `auth` signatures and policies are enforced.
    `folder` is where the log is kept; without, it is gone afterwards and its end is added to what
    the block raises.
    """
    python = env.beside("emulator")
    with contextlib.ExitStack() as cleanup:
        scratch = Path(tempfile.mkdtemp(prefix="emulator-"))
        cleanup.callback(shutil.rmtree, scratch, ignore_errors=True)
        listening = cleanup.enter_context(_listen(state_dir))
        port = listening.getsockname()[1]
        log = (folder or scratch) / "emulator.log"
        server = Server(
            f"http://127.0.0.1:{port}",
            _start(python, listening, _surroundings(port, scratch, state_dir, auth), log),
            log,
        )
        cleanup.callback(_stop, server.process)
        listening.close()
        _wait_until_ready(server)
        try:
            yield server
        except BaseException as error:
            error.add_note(f"The end of the emulator's log:\n{server.tail()}")
            raise


def _listen(state_dir: Path | None) -> socket.socket:
    """The socket that the server will serve: bound here, so that no port can be lost in between."""
    port = 0
    if state_dir is not None:
        state_dir.mkdir(parents=True, exist_ok=True)
        remembered = state_dir / "port"
        # The state is full of URLs of queues.
        port = int(remembered.read_text()) if remembered.exists() else 0
    listening = socket.create_server(("127.0.0.1", port), backlog=512)
    if state_dir is not None:
        remembered.write_text(str(listening.getsockname()[1]))
    return listening


def _surroundings(port: int, scratch: Path, state_dir: Path | None, auth: bool) -> dict[str, str]:
    """The whole environment of the server. Functions inherit it, so there is little in it."""
    variables = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "AUTH": "true" if auth else "false",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
        "GATEWAY_PORT": str(port),
        "LAMBDA_ACCOUNT_CONCURRENCY": "100",
        "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.2",
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
    }
    if state_dir is not None:
        variables |= {"PERSIST_STATE": "1", "STATE_DIR": str(state_dir)}
        variables |= {"S3_PERSIST": "1", "S3_DATA_DIR": str(state_dir / "objects")}
    return variables


def _start(
    python: Path, listening: socket.socket, surroundings: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    launcher = Path(__file__).with_name("launcher.py")
    with log.open("ab") as output:
        return subprocess.Popen(
            [python, launcher, str(listening.fileno())],
            cwd=surroundings["TMPDIR"],
            env=surroundings,
            pass_fds=[listening.fileno()],
            # Held open by this process: when it ends, the server reads the end of it.
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A group of its own, which the processes of functions belong to.
            start_new_session=True,
        )


def _wait_until_ready(server: Server) -> None:
    # The socket listens already: the request waits in its queue until somebody serves it. If the
    # server dies instead, the connection breaks.
    try:
        with urllib.request.urlopen(server.endpoint + HEALTH, timeout=READY_WITHIN) as answer:
            answer.read()
    except OSError as error:
        raise EmulatorFailed(f"the emulator did not start ({error}):\n{server.tail()}") from error


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    process.stdin.close()

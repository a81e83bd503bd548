"""Functions on the emulator: AWS's own runtime client in an interpreter that has nothing else.

A function's archive gets a bootstrap that runs awslambdaric from the environment "lambda", which
holds what Lambda's Python runtimes hold: that client and boto3. What the archive lacks is missing
there as it would be missing at AWS. On the emulator such a function has the runtime RUNTIME.
"""

from __future__ import annotations

import functools
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.aws.emulator.server import Server
from tools import env

RUNTIME = "provided.al2023"

BOOTSTRAP = """\
#!/bin/sh
unset HOME VIRTUAL_ENV PYTHONPATH
exec {python} -m awslambdaric "$_HANDLER"
"""


@functools.cache
def interpreter() -> Path:
    """The Python of the functions: that of the tests, in an environment made on first use."""
    return env.beside("lambda")


def files_of(folder: Path) -> dict[str, bytes]:
    """Path in an archive -> content, of all files of a folder except compiled ones."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """A deployment package for the emulator, from paths and their content."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as package:
        for path, content in files.items():
            package.writestr(path, content)
        _add_bootstrap(package)
    return written.getvalue()


def runnable(file: Path) -> bytes:
    """The same from an archive for Lambda, whose entries stay as they are."""
    written = io.BytesIO(file.read_bytes())
    with zipfile.ZipFile(written, "a", zipfile.ZIP_DEFLATED) as package:
        _add_bootstrap(package)
    return written.getvalue()


def _add_bootstrap(package: zipfile.ZipFile) -> None:
    bootstrap = zipfile.ZipInfo("bootstrap")
    bootstrap.external_attr = 0o100755 << 16
    package.writestr(bootstrap, BOOTSTRAP.format(python=interpreter()))


def create(
    server: Server,
    name: str,
    handler: str,
    package: bytes,
    role: str = "",
    variables: Mapping[str, str] | None = None,
    timeout: int = 30,
    **options: Any,
) -> str:
    """Create a function and wait until it can be called; its ARN. `timeout` is in seconds."""
    client = server.client("lambda")
    created = client.create_function(
        FunctionName=name,
        Runtime=RUNTIME,
        Handler=handler,
        Role=role or f"arn:aws:iam::{server.account}:role/{name}",
        Code={"ZipFile": package},
        Timeout=timeout,
        Environment={"Variables": dict(variables or {})},
        **options,
    )
    waiting = {"Delay": 0.1, "MaxAttempts": 300}
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=waiting)
    return created["FunctionArn"]

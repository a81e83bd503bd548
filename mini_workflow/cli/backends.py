"""Open a backend by its name; import its packages only then."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from mini_workflow import settings
from mini_workflow.cli.config import Config
from mini_workflow.cli.failures import UNAVAILABLE, Failed
from mini_workflow.engine.client import Client
from mini_workflow.engine.runtime import Runtime
from mini_workflow.errors import StoreUnavailable, UsageError
from mini_workflow.settings import DEFAULT_WORKER

if TYPE_CHECKING:
    from mini_workflow.codecs.payload_codecs import Codecs
    from mini_workflow.runtimes.aws import AWSRuntime
    from mini_workflow.runtimes.local_client import LocalClient
    from mini_workflow.runtimes.postgres import PostgresClient

PULUMI_TIMEOUT: Final = 120
"""Seconds that `pulumi stack output` may take; a backend far away answers within a few."""

DEFAULT_GRACE: Final = 10
"""Seconds that tasks from a queue get to end when their worker stops; another worker takes the rest."""


class Backend(Protocol):
    """Opens clients and runtimes. Each is a context manager."""

    @property
    def name(self) -> str:
        """The backend as it is written in settings."""
        ...

    @property
    def place(self) -> str:
        """The place of the executions, for people: a path or an address."""
        ...

    def reader(self, *, trust: bool = False) -> Any:
        """Return a client that changes nothing; without `trust` it runs no code from the store."""
        ...

    def client(self, *, create: bool = False) -> Any:
        """Return a client; `create` makes the store where there is none."""
        ...

    def server(self, workers: Mapping[str, int], labels: Sequence[str] = ()) -> Any:
        """Return a runtime that runs executions in this process.

        `workers` has the number of processes for the tasks of each worker, 0 for threads. `labels`
        are workers whose tasks run like those that name no worker.
        """
        ...

    def is_served(self, client: Client) -> bool:
        """Return whether any process runs the executions now."""
        ...


def open_backend(config: Config) -> Backend:
    """Return the backend that is configured. Raises UsageError."""
    if config.backend == "aws":
        return AWSTarget(config)
    if config.backend.startswith(("postgresql://", "postgres://")):
        return PostgresTarget(config.backend, config.codec, config.direct_url)
    kind, _, path = config.backend.partition(":")
    if kind != "sqlite" or not path:
        raise UsageError(
            f"--backend {config.backend!r}: give aws, sqlite:PATH or postgresql://USER@HOST/DATABASE"
        )
    return SQLiteTarget(Path(path), config.codec)


def load_codec(name: str | None) -> Codecs | None:
    """Return the payload codecs at ``module:name``, or those that a function there makes.

    None for no name. Raises UsageError.
    """
    if name is None:
        return None
    from mini_workflow.cli.arguments import import_modules

    module, _, attribute = name.partition(":")
    if not module or not attribute.isidentifier():
        raise UsageError(f"--codec {name!r}: give MODULE:NAME, such as myapp.codec:CODEC")
    import_modules((module,))
    try:
        found = getattr(sys.modules[module], attribute)
    except AttributeError:
        raise UsageError(f"--codec {name!r}: {module} has no {attribute!r}") from None
    return cast("Codecs | None", found() if callable(found) else found)


class SQLiteTarget:
    """Executions in a file."""

    def __init__(self, path: Path, codec: str | None = None) -> None:
        self.path = path
        self._codec = codec
        self.name = f"sqlite:{path}"
        self.place = str(path)

    def reader(self, *, trust: bool = False) -> LocalClient:
        """See `Backend.reader`."""
        from mini_workflow.runtimes.local_client import LocalClient

        self._check_is_there()
        return LocalClient(self.path, read_only=True, trust=trust, codec=load_codec(self._codec))

    def client(self, *, create: bool = False) -> LocalClient:
        """See `Backend.client`."""
        from mini_workflow.runtimes.local_client import LocalClient

        if not create:
            self._check_is_there()
        return LocalClient(self.path, codec=load_codec(self._codec))

    def server(self, workers: Mapping[str, int], labels: Sequence[str] = ()) -> Runtime:
        """See `Backend.server`."""
        from mini_workflow.runtimes.local import LocalRuntime

        codec = load_codec(self._codec)
        return LocalRuntime(self.path, workers=workers, labels=labels, codec=codec)

    def is_served(self, client: Client) -> bool:
        """See `Backend.is_served`."""
        from mini_workflow.runtimes.local_client import LocalClient

        return not isinstance(client, LocalClient) or client.is_served()

    def _check_is_there(self) -> None:
        if not self.path.exists():
            raise StoreUnavailable(
                f"there is no store at {self.path}: name another one with --backend sqlite:PATH; "
                "`run`, `start` and `worker` make a new one"
            )


class PostgresTarget:
    """Executions in a Postgres database.

    The parameter ``schema`` of the address names another schema than the default one.
    """

    def __init__(self, url: str, codec: str | None = None, direct_url: str | None = None) -> None:
        self.url, schemas, shown = _parted(url)
        self._options = {"schema": schemas[-1]} if schemas else {}
        self._codec = codec
        self._direct_url = None if direct_url is None else _parted(direct_url)[0]
        self.name = self.place = shown

    @property
    def schema(self) -> str:
        """The schema that the tables are in."""
        from mini_workflow.stores.postgres.backend import SCHEMA

        return self._options.get("schema", SCHEMA)

    def reader(self, *, trust: bool = False) -> PostgresClient:
        """See `Backend.reader`."""
        return self._client(read_only=True, trust=trust)

    def client(self, *, create: bool = False) -> PostgresClient:
        """See `Backend.client`."""
        return self._client(migrate=create)

    def server(self, workers: Mapping[str, int], labels: Sequence[str] = ()) -> Runtime:
        """See `Backend.server`."""
        _check_psycopg()
        from mini_workflow.runtimes.postgres import PostgresRuntime

        codec = load_codec(self._codec)
        return PostgresRuntime(
            self.url,
            schema=self.schema,
            direct_url=self._direct_url,
            workers=workers,
            labels=labels,
            codec=codec,
        )

    def is_served(self, client: Client) -> bool:
        """See `Backend.is_served`."""
        from mini_workflow.runtimes.postgres import PostgresClient

        return not isinstance(client, PostgresClient) or client.is_served()

    def _client(
        self, *, read_only: bool = False, trust: bool = False, migrate: bool = True
    ) -> PostgresClient:
        _check_psycopg()
        from mini_workflow.runtimes.postgres import PostgresClient

        return PostgresClient(
            self.url,
            schema=self.schema,
            read_only=read_only,
            trust=trust,
            migrate=migrate,
            codec=load_codec(self._codec),
        )


_SHOWN: Final = ("host", "port", "dbname", "service", "schema")
"""The parameters of an address that tell which database it is, and are no secrets."""


def _parted(url: str) -> tuple[str, list[str], str]:
    """Return an address without the parameter ``schema``, which libpq does not know, the schemas that it
    names, and the address without user and secrets.

    All else stays as it is: libpq has rules of its own for what an address may contain, such as an empty host
    before a socket's folder, or a space that is no plus sign.
    """
    from urllib.parse import unquote

    scheme, _, rest = url.partition("://")
    user = re.match("(?:[^@/]*@)?", rest)
    assert user is not None
    place, _, query = rest[user.end() :].partition("?")
    parts = [(part.partition("=")[0], part) for part in query.split("&") if part]

    def joined(beginning: str, chosen: list[str]) -> str:
        return "?".join([beginning, "&".join(chosen)] if chosen else [beginning])

    values = [part.partition("=")[2] for name, part in parts if name == "schema"]
    return (
        joined(f"{scheme}://{user[0]}{place}", [part for name, part in parts if name != "schema"]),
        [unquote(value) for value in values if value],
        joined(f"postgresql://{place}", [part for name, part in parts if name in _SHOWN]),
    )


def _check_psycopg() -> None:
    from importlib.util import find_spec

    if find_spec("psycopg") is None:
        raise Failed(
            "a database needs the package psycopg: run pip install 'mini-workflow[postgres]'",
            UNAVAILABLE,
        )


class AWSTarget:
    """Executions on AWS, found by environment variables, a bucket's name or a Pulumi stack."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.name = self.place = "aws" + (f" (stack {config.stack})" if config.stack else "")

    def reader(self, *, trust: bool = False) -> AWSRuntime:
        """See `Backend.reader`. Pickled values have to be signed to be loaded, also with `trust`."""
        return self.client()

    def client(self, *, create: bool = False) -> AWSRuntime:
        """See `Backend.client`. The store is provisioned by Pulumi, and never made here."""
        from mini_workflow.runtimes.aws import AWSRuntime

        codec = load_codec(self._config.codec)
        return AWSRuntime.from_env({**os.environ, **self.environment()}, codec=codec)

    def server(self, workers: Mapping[str, int], labels: Sequence[str] = ()) -> Any:
        """See `Backend.server`. Functions on AWS run executions; here run workers with a queue alone.

        Raises UsageError if no worker is named.
        """
        named = {name: count for name, count in workers.items() if name != DEFAULT_WORKER}
        named = {**dict.fromkeys(labels, 1), **named}
        if not named:
            raise UsageError(
                "on AWS the functions of the engine run the executions; only workers that take their "
                "tasks from a queue run here: name one with --worker NAME or --label NAME"
            )
        return self.pull(self.environment(), named)

    def pull(
        self, variables: Mapping[str, str], workers: Mapping[str, int]
    ) -> AbstractContextManager[AWSRuntime]:
        """Return a runtime that runs the tasks of these workers, so many of each at a time.

        `variables` are settings of the engine, which come before those of the environment.
        """
        from mini_workflow.runtimes.aws import AWSRuntime

        return _pulling(AWSRuntime.from_env({**os.environ, **variables}), workers)

    def is_served(self, client: Client) -> bool:
        """See `Backend.is_served`. The functions of the engine are always there."""
        return True

    def environment(self) -> dict[str, str]:
        """Return the settings that the stack and the options give."""
        found = stack_settings(self._config.stack) if self._config.stack else {}
        if self._config.bucket:
            found[settings.BUCKET_NAME] = self._config.bucket
        return found


@contextmanager
def _pulling(runtime: AWSRuntime, workers: Mapping[str, int]) -> Generator[AWSRuntime]:
    """Run the tasks of these workers inside the block, so many of each at a time, 0 meaning one."""
    with runtime, ExitStack() as ending:
        for name, count in workers.items():
            ending.callback(runtime.pull(name, count or 1).close, DEFAULT_GRACE)
        yield runtime


def stack_settings(stack: str) -> dict[str, str]:
    """Return the engine's settings among the outputs of a Pulumi stack."""
    if shutil.which("pulumi") is None:
        raise Failed(
            f"--stack {stack}: the program pulumi is not on the PATH; install it, or set "
            f"{settings.BUCKET_NAME} and the other variables yourself",
            UNAVAILABLE,
        )
    command = ["pulumi", "stack", "output", "--json", "--show-secrets", "--stack", stack]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PULUMI_TIMEOUT
        )
        if done.returncode != 0:
            said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
            raise Failed(f"--stack {stack}: pulumi says: {said}", UNAVAILABLE)
        outputs: object = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise Failed(f"--stack {stack}: `{' '.join(command)}`: {error}", UNAVAILABLE) from error
    found = dict(_settings_in(outputs))
    if not found:
        raise Failed(
            f"--stack {stack}: none of its outputs has the engine's settings; add "
            'pulumi.export("engine", engine.link) to the program, and run `pulumi up`',
            UNAVAILABLE,
        )
    return found


def _settings_in(outputs: object) -> list[tuple[str, str]]:
    """Return settings by their variables' names, at any depth of the outputs."""
    if not isinstance(outputs, Mapping):
        return []
    found: list[tuple[str, str]] = []
    for name, value in cast("Mapping[str, object]", outputs).items():
        if name in settings.MEANING and isinstance(value, str):
            found.append((name, value))
        else:
            found.extend(_settings_in(value))
    return found

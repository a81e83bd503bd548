"""A project of Pulumi in a folder of its own, and the command line that deploys it.

Everything is offline: state and credentials are in the folder, the providers are those of
`provider.py`, and what they make is made on the emulator. They run as long as the stack is used: to
start them takes longer than what most commands do.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.aws.emulator.server import Server
from tests.pulumi.e2e import build

ROOT = build.ROOT
PASSPHRASE = "of the tests"
LIMIT = 1_200
"""Seconds that a command may take before it is taken to be stuck."""

PROJECT = """\
name: {name}
runtime:
  name: python
  options:
    toolchain: pip
    virtualenv: .venv
"""


@dataclass
class Done:
    """What a command did: its exit code, all it printed, and the steps of the resources."""

    code: int
    printed: str
    steps: list[Step] = field(default_factory=list)

    def by_operation(self) -> dict[str, list[str]]:
        """Operation -> names of the resources, without what stays the same."""
        found: dict[str, list[str]] = {}
        for step in self.steps:
            if step.operation not in ("same", "read", "refresh"):
                found.setdefault(step.operation, []).append(step.name)
        return {operation: sorted(names) for operation, names in found.items()}


@dataclass(frozen=True)
class Step:
    """What is done with one resource."""

    operation: str
    type: str
    urn: str
    changed: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.urn.rpartition("::")[2]

    @property
    def kind(self) -> str:
        """Its type, without its module."""
        return self.type.rpartition(":")[2]


class Failed(Exception):
    """A command ended with an error; the message has what it printed."""


class Stack:
    """A project named `name` below `folder`, with one stack, for the account of `server`.

    with Stack(folder, server) as stack:
        stack.pulumi("stack", "init", "dev")
    """

    def __init__(self, folder: Path, server: Server, name: str = "of-tests") -> None:
        self.folder = folder / name
        self.limit: float = LIMIT
        self.server = server
        self.folder.mkdir(parents=True)
        self.home = folder / "home"
        self.programs = folder / "bin"
        for place in (self.home, self.programs, folder / "state"):
            place.mkdir(exist_ok=True)
        self.engine = build.engine()
        for plugin in ("resource-aws", "resource-random", "language-python"):
            self._never(f"pulumi-{plugin}")
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AWS_")},
            **server.environment(),
            "PATH": os.pathsep.join(
                [str(self.programs), str(self.engine), os.environ.get("PATH", os.defpath)]
            ),
            "HOME": str(self.home),
            "PULUMI_HOME": str(self.home),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_DISABLE_REGISTRY_RESOLVE": "true",
            "PULUMI_DEBUG_COMMANDS": "true",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        (self.folder / "Pulumi.yaml").write_text(PROJECT.format(name=name))
        (self.folder / ".venv").symlink_to(Path(sys.prefix))

    def _never(self, name: str) -> None:
        """A program that the engine finds by its name, and does not run: it calls the plugins that run
        already.
        """
        script = self.programs / name
        script.write_text(f"#!/bin/sh\necho '{name} was started' >&2\nexit 1\n")
        script.chmod(0o755)

    def __enter__(self) -> Self:
        """Start the plugins, which serve all commands."""
        with (self.folder.parent / "plugins.log").open("wb") as log:
            self._plugins = subprocess.Popen(
                [sys.executable, "-m", "tests.pulumi.e2e.plugins", self.engine / build.EXECUTOR],
                cwd=self.folder,
                env={**self.environment, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._plugins.stdout is not None
        told = self._plugins.stdout.readline()
        assert told, (self.folder.parent / "plugins.log").read_text()
        self.environment |= json.loads(told)
        return self

    def __exit__(self, *_: object) -> None:
        self._plugins.communicate()

    def write(self, files: Mapping[str, str]) -> None:
        """Files of the project."""
        for path, content in files.items():
            place = self.folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)

    def pulumi(self, *arguments: str, check: bool = True) -> Done:
        """Run the command line. Raises Failed unless it ends well, or `check` is false."""
        log = self.folder.parent / "events.json"
        log.unlink(missing_ok=True)
        options = ["--non-interactive", "--color", "never"]
        if arguments[0] in ("preview", "up", "refresh", "destroy"):
            options += ["--event-log", str(log)]
        if arguments[0] in ("up", "refresh", "destroy"):
            options += ["--yes", "--skip-preview"]
        try:
            done = subprocess.run(
                [self.engine / "pulumi", *arguments, *options],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=self.limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            waiting = ", ".join(unfinished(log)) if log.exists() else ""
            raise Failed(
                f"pulumi {' '.join(arguments)} has not ended within {self.limit} s; it waits for: "
                f"{waiting or 'nothing that it says'}"
            ) from error
        steps = _steps(log) if log.exists() else []
        if check and done.returncode:
            asked = " ".join(arguments)
            raise Failed(f"pulumi {asked} ended with {done.returncode}:\n{done.stdout}")
        return Done(done.returncode, done.stdout, steps)

    def state(self) -> dict[str, Any]:
        """The state of the stack, as it is exported."""
        return json.loads(self.read("stack", "export"))

    def outputs(self) -> dict[str, Any]:
        """The outputs of the stack, without secrets."""
        return json.loads(self.read("stack", "output", "--json"))

    def read(self, *arguments: str) -> str:
        """What a command prints. Raises Failed if it ends with an error."""
        done = subprocess.run(
            [self.engine / "pulumi", *arguments, "--non-interactive"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        if done.returncode:
            raise Failed(f"pulumi {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
        return done.stdout


def unfinished(log: Path) -> list[str]:
    """The names of the resources that were begun and not done."""
    begun: dict[str, None] = {}
    for line in log.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # the last one may be half written
            for kind, told in json.loads(line).items():
                if kind == "resourcePreEvent":
                    begun[told["metadata"]["urn"]] = None
                elif kind in ("resOutputsEvent", "resOpFailedEvent"):
                    begun.pop(told["metadata"]["urn"], None)
    return [urn.rpartition("::")[2] for urn in begun]


def _steps(log: Path) -> list[Step]:
    steps: list[Step] = []
    for line in log.read_text().splitlines():
        event = json.loads(line)
        # Planned before, done after: what is done is also told before, once.
        planned = event.get("resourcePreEvent")
        if planned is None:
            continue
        about = planned["metadata"]
        changed = sorted(about.get("detailedDiff") or about.get("diffs") or ())
        steps.append(Step(about["op"], about["type"], about["urn"], tuple(changed)))
    return steps

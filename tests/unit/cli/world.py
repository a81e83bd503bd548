"""A place to run the installed command in, with somebody who serves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tests.paths import ROOT
from tests.waiting import WAIT

PROGRAM = Path(sys.executable).with_name("mini-workflow")


@dataclass(frozen=True)
class Said:
    """What a command has said. `out` and `err` are without the last line's end."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class World:
    """Runs the command in a folder. `environment` says where executions are kept.

    With `inside` only the first call of each command is a process of its own, and the others are
    calls in this one: where the process is not what is tested.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])
    inside: bool = False
    ran: set[str] = field(default_factory=set[str])

    def popen(self, *words: object, **options: Any) -> subprocess.Popen[str]:
        surroundings = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MINI_WORKFLOW_", "PYTEST_", "COV_", "AWS_"))
        }
        return subprocess.Popen(
            [PROGRAM, *map(str, words)],
            cwd=self.folder,
            env={
                **surroundings,
                "PYTHONPATH": str(ROOT),
                "PYTHONWARNINGS": "error",
                **self.environment,
            },
            text=True,
            **{**dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE), **options},
        )

    def __call__(self, *words: object, status: int | None = 0, typed: str = "") -> Said:
        """Run a command to its end. `status` is the exit status that it must have."""
        command = str(words[0]) if words else ""
        if self.inside and command in self.ran:
            code, out, err = self._call(list(map(str, words)), typed)
        else:
            self.ran.add(command)
            process = self.popen(*words)
            out, err = process.communicate(typed, timeout=WAIT)
            code = process.returncode
        said = Said(code, out.rstrip("\n"), err.rstrip("\n"))
        if status is not None:
            assert said.status == status, f"{words}: {said}"
        # The stacks of an execution that failed are indented; one of the program itself is not.
        own = any(line.startswith("Traceback") for line in said.err.splitlines())
        assert not own or "--debug" in words, said.err
        return said

    def _call(self, words: list[str], typed: str) -> tuple[int, str, str]:
        from mini_workflow.cli.app import cli

        hidden = {name: None for name in os.environ if name.startswith("MINI_WORKFLOW_")}
        runner = CliRunner(env={**hidden, **self.environment})
        with chdir(self.folder):
            done = runner.invoke(cli, words, input=typed, prog_name="mini-workflow")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    @contextmanager
    def served(self, *words: object) -> Generator[subprocess.Popen[str]]:
        """A worker that serves inside the block."""
        process = self.popen(*(words or ("worker", "cli_flows")))
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(("serving ", '{"serving"')), process.communicate()
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=WAIT)

"""A place to run the installed command in, with somebody who serves it."""

from __future__ import annotations

import importlib
import json
import linecache
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from click.testing import CliRunner

from mini_workflow.workflow import REGISTRY
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

    The first call of each command in a run of the tests is a process of its own, and the others are calls
    in this one. With `alone` all are processes: where the process is what is tested. So is what reads
    what is typed, and what has variables that Python itself reads when it starts.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])
    alone: bool = False
    RAN: ClassVar[set[str]] = set()

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
        apart = self.alone or typed or any(name.startswith("PYTHON") for name in self.environment)
        if apart or command not in self.RAN:
            self.RAN.add(command)
            process = self.popen(*words)
            out, err = process.communicate(typed, timeout=WAIT)
            code = process.returncode
        else:
            code, out, err = self._call(list(map(str, words)))
        said = Said(code, out.rstrip("\n"), err.rstrip("\n"))
        if status is not None:
            assert said.status == status, f"{words}: {said}"
        # The stacks of an execution that failed are indented; one of the program itself is not.
        own = any(line.startswith("Traceback") for line in said.err.splitlines())
        assert not own or "--debug" in words, said.err
        return said

    def _call(self, words: list[str]) -> tuple[int, str, str]:
        from mini_workflow.cli.app import cli

        hidden = {name: None for name in os.environ if name.startswith("MINI_WORKFLOW_")}
        runner = CliRunner(env={**hidden, **self.environment})
        with chdir(self.folder), self._imports():
            done = runner.invoke(cli, words, prog_name="mini-workflow")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    @contextmanager
    def _imports(self) -> Generator[None]:
        """Have a call find the modules of the folder as they are now and no workflows of other tests, and
        leave nothing of them behind.
        """
        path, known = [*sys.path], REGISTRY._workflows
        # Another dictionary, since executions may be served here meanwhile.
        REGISTRY._workflows = {
            name: one
            for name, one in known.items()
            if one.handler.__module__.startswith(("cli_flows", "tests.unit.cli."))
        }
        importlib.invalidate_caches()
        linecache.checkcache()
        try:
            yield
        finally:
            sys.path[:] = path
            for name, module in sys.modules.copy().items():  # other threads import meanwhile
                if str(getattr(module, "__file__", None)).startswith(f"{self.folder}{os.sep}"):
                    del sys.modules[name]
            REGISTRY._workflows = known

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

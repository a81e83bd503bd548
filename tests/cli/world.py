"""A place to run the installed command in, with somebody who serves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.waiting import WAIT

PROGRAM = Path(sys.executable).with_name("mini-workflow")
ROOT = Path(__file__).resolve().parents[2]


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
    """Runs the command in a folder. `environment` says where executions are kept."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])

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
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def __call__(self, *words: object, status: int | None = 0, typed: str = "") -> Said:
        """Run a command to its end. `status` is the exit status that it must have."""
        process = self.popen(*words)
        out, err = process.communicate(typed, timeout=WAIT)
        said = Said(process.returncode, out.rstrip("\n"), err.rstrip("\n"))
        if status is not None:
            assert said.status == status, f"{words}: {said}"
        assert "Traceback" not in said.err or "--debug" in words, said.err
        return said

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

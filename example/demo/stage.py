"""Where the demo takes place: a folder with the SQLite file, and engine processes on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

from example.demo.upload import Upload
from mini_workflow import LocalRuntime

EXECUTION_ID = "upload-1"

PATIENCE = 15.0
"""Seconds after which an engine process must be stuck; it is ended."""

ROOT = Path(__file__).resolve().parent.parent.parent


class DemoFailed(Exception):
    """Something did not go as told; the message says what."""


class Stage:
    def __init__(self, folder: Path, upload: Upload, s3_environment: dict[str, str]) -> None:
        self.database = folder / "workflow.db"
        self._upload = upload
        self._file = folder / "upload"
        self._file.write_bytes(upload.content)
        # Nothing of the user's own AWS set-up is used, nor looked for.
        unrelated = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        self._environment = unrelated | nothing | s3_environment | {"PYTHONIOENCODING": "utf-8"}

    @contextmanager
    def engine(self, seen: int) -> Iterator[Engine]:
        """An engine process, gone at the end; `seen` events need not be printed again."""
        arguments = [str(self.database), EXECUTION_ID, self._upload.key, str(self._file), str(seen)]
        engine: Engine | None = None
        try:
            with signals_held():
                engine = Engine(arguments, self._environment)
            yield engine
        finally:
            if engine is not None:
                engine.end()

    def result(self) -> Any:
        """What the workflow returned, according to the file."""
        with LocalRuntime(self.database) as runtime:
            return runtime.get_execution(EXECUTION_ID).result(timeout=0)


class Engine:
    """A process that runs `example.demo.engine`."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "example.demo.engine", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the demo, which ends this process
        )
        self.pid = self._process.pid
        self._stuck = False
        self._timer = Timer(PATIENCE, self._give_up)
        self._timer.start()

    def lines(self) -> Iterator[str]:
        """What it prints, to its end. Raises DemoFailed unless that is a good one."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield line.rstrip("\n")
        status = self._process.wait()
        if self._stuck:
            raise DemoFailed(f"process {self.pid} was stuck and has been ended")
        if status:
            raise DemoFailed(f"process {self.pid} ended with status {status}")

    def kill(self) -> None:
        """kill -9. Raises DemoFailed if it ended in another way before."""
        self._process.kill()
        status = self._process.wait()
        if status != -signal.SIGKILL:
            raise DemoFailed(f"process {self.pid} ended with status {status} before the kill")

    def end(self) -> None:
        """End the process, in whatever state it is."""
        self._timer.cancel()
        self._process.kill()
        self._process.communicate()

    def _give_up(self) -> None:
        self._stuck = True
        self._process.kill()


@contextmanager
def signals_held() -> Iterator[None]:
    """Let what would end this process wait: a process just made must get its owner first."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    held: list[int] = []
    handlers = {number: signal.signal(number, lambda n, _: held.append(n)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in held:
            signal.raise_signal(number)

"""Engines in processes of their own, which tests may kill."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import TracebackType
from typing import Self

import mini_workflow
from tests.waiting import WAIT

ROOT = Path(mini_workflow.__file__).parents[1]

PRELUDE = """
import os, sys, threading
from mini_workflow import *
from tests.unit.local import flows

def say(word):
    os.write(1, (word + "\\n").encode())

def hear():
    return sys.stdin.readline().strip()

if __name__ == "__main__":
    path, *arguments = sys.argv[1:]
"""


class Child:
    """Runs code, given the path of the store and more arguments. It is killed at the end."""

    def __init__(self, code: str, *arguments: object) -> None:
        program = PRELUDE + textwrap.indent(textwrap.dedent(code), "    ")
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            # What is imported here must be there too; -c would not add the root by itself.
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def hear(self) -> str:
        """The next word it says; empty when it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def expect(self, *words: str) -> None:
        for word in words:
            assert self.hear() == word

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        """Stop it as by Ctrl-Z, and wait until it stands still."""
        self.signal(signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Wait until it ends by itself, and well."""
        assert self._process.wait(WAIT) == 0


def wait_until_gone(pid: int) -> None:
    """Wait for the end of a process that is nobody's child here."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()  # unlike select() it takes any number
        poll.register(handle, select.POLLIN)
        assert poll.poll(WAIT * 1_000), f"{pid} is still there"
    finally:
        os.close(handle)

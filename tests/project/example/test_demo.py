"""The demo as a user runs it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.waiting import WAIT


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """As on a machine without AWS, behind a proxy that answers nothing."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    dead = "http://127.0.0.1:9"
    proxies = {"http_proxy": dead, "HTTP_PROXY": dead, "HTTPS_PROXY": dead, "ALL_PROXY": dead}
    return (
        kept
        | proxies
        | {
            "HOME": str(tmp_path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "error",
            "TMPDIR": str(temporary),
        }
    )


@contextmanager
def started(environment: dict[str, str], *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "example", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        encoding="utf-8",
        preexec_fn=hear_signals,  # noqa: PLW1509 - it only sets a handler
    ) as demo:
        try:
            yield demo
        finally:
            demo.kill()


def hear_signals() -> None:
    """Whoever runs the tests may ignore signals (nohup does), and children would inherit that."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def demonstrate(environment: dict[str, str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit status, output and errors."""
    with started(environment, *arguments) as demo:
        output, errors = demo.communicate(timeout=WAIT)
        return demo.returncode, output, errors


def assert_good(outcome: tuple[int, str, str], environment: dict[str, str]) -> str:
    status, output, errors = outcome
    assert (status, errors) == (0, ""), output
    assert "PUT requests that reached S3: 1." in output
    assert "GET requests that reached S3: 2." in output
    assert "came back equal" in output
    assert_nothing_left(output, environment)
    return output


def assert_nothing_left(output: str, environment: dict[str, str]) -> None:
    engines = {int(pid) for pid in re.findall(r"\. Process (\d+)", output)}
    assert engines
    for engine in engines:
        with pytest.raises(ProcessLookupError):
            os.kill(engine, 0)
    assert list(Path(environment["TMPDIR"]).iterdir()) == []


def test_the_story(environment: dict[str, str], tmp_path: Path) -> None:
    output = assert_good(demonstrate(environment), environment)
    readme = (ROOT / "README.md").stat().st_size
    phases = [line for line in output.splitlines() if re.match(r"\d\. ", line)]
    assert [phase[:10] for phase in phases[:1]] == ["1. S3 is s"]
    assert f"README.md has {readme:,} bytes" in phases[0]
    assert len(phases) == 5
    assert len(output.splitlines()) < 40
    before, after = output.split("kill -9")
    names = [re.findall(r"^ +\d+\.\d{3} s +(\w+)", part, re.MULTILINE) for part in (before, after)]
    assert names == [
        [
            "ExecutionStarted",
            "TimerStarted",
            "TimerFired",
            "TaskScheduled",
            "TaskCompleted",
            "TaskScheduled",
        ],
        ["TaskRetryScheduled", "TaskRetryStarted", "TaskCompleted", "ExecutionCompleted"],
    ]
    # Nothing was written beside the temporary directory, which is empty.
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty", b""), ("-naïve 100% #?&.txt", "☃\r\nline\0\n".encode().ljust(1_000_000, b"x"))],
    ids=["empty", "odd"],
)
def test_other_files(
    environment: dict[str, str], tmp_path: Path, name: str, content: bytes
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    output = assert_good(demonstrate(environment, file), environment)
    assert f"{name} has {len(content):,} bytes" in output


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "is not a regular file"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"caf\xe9"), "is not UTF-8 text (byte 3"),
        (lambda path: path.write_bytes(b"x" * 1_000_001), "has more than 1,000,000 bytes"),
    ],
    ids=["missing", "directory", "pipe", "loop", "binary", "too-large"],
)
def test_what_cannot_be_uploaded(
    environment: dict[str, str], tmp_path: Path, make, complaint: str
) -> None:
    path = tmp_path / "file"
    make(path)
    status, output, errors = demonstrate(environment, path)
    assert (status, output) == (2, "")
    last = errors.splitlines()[-1]
    assert last.startswith(f"python -m example: error: {path} ")
    assert complaint in last


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(mode=0)
    status, _, errors = demonstrate(environment, path)
    assert status == 2
    assert "cannot be read: Permission denied" in errors


@pytest.mark.parametrize(
    ("number", "status", "moment"),
    [
        (signal.SIGINT, 130, "2. Process"),
        (signal.SIGINT, 130, "TaskCompleted"),
        (signal.SIGINT, 130, "kill -9"),  # the second process is being started
        (signal.SIGTERM, 143, "TimerStarted"),
        (signal.SIGHUP, 129, "kill -9"),
    ],
)
def test_it_can_be_interrupted(
    environment: dict[str, str], number: signal.Signals, status: int, moment: str
) -> None:
    with started(environment) as demo:
        assert demo.stdout is not None
        output = ""
        while moment not in output:
            line = demo.stdout.readline()
            assert line, "the demo ended early"
            output += line
        demo.send_signal(number)
        rest, errors = demo.communicate(timeout=WAIT)
        assert demo.returncode == status, errors
        assert "Traceback" not in errors
        assert_nothing_left(output + rest, environment)


def test_the_reader_of_the_output_may_go(environment: dict[str, str]) -> None:
    with started(environment) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        output = demo.stdout.readline() + demo.stdout.readline() + demo.stdout.readline()
        demo.stdout.close()
        assert demo.stderr.read() == ""
        assert demo.wait(timeout=WAIT) == 1
        assert_nothing_left(output, environment)


def test_help_tells_what_it_is(environment: dict[str, str]) -> None:
    status, output, errors = demonstrate(environment, "--help")
    assert (status, errors) == (0, "")
    assert "kill -9" in output
    assert "exit status" in output

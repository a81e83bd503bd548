"""The documentation runs: its programs, the output they claim, its commands and its links.

The ``python`` fences of one document are one program, run in order as a script of its own in an
empty folder, like a reader who copies them into a file. A fence marked ``python isolated`` is a
program by itself, one marked ``python frameworks`` too, in the environment that has them, and one marked
``python pulumi`` a program that deploys, which tests/pulumi runs.
There is no mark to leave a fence out. A fence ``text output`` right after a
program fence is what that fence prints; ``...`` in it stands for anything.
"""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import click
import pytest

from mini_workflow.cli.app import cli
from tests.paths import ROOT
from tests.waiting import WAIT
from tools import env

TOP_LEVEL = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
DOCUMENTS = [path for path in map(ROOT.joinpath, TOP_LEVEL) if path.is_file()]
DOCUMENTS += sorted(ROOT.glob("docs/**/*.md"))

MARK = "\0end of fence "

ALONE = ("python isolated", "python frameworks")

every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block; `line` is the number of its opening line, counted from 1."""

    info: str
    line: int
    body: tuple[str, ...]

    @property
    def code(self) -> str:
        return textwrap.dedent("\n".join(self.body))


def fences(text: str) -> Iterator[Fence]:
    opening = re.compile(r"\s*(`{3,})([^`]*)")
    start, ticks, info = 0, "", ""
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not start:
            if match := opening.fullmatch(line):
                start, ticks, info, body = number, match[1], match[2].strip(), []
        elif line.strip().startswith(ticks) and not line.strip(" `"):
            yield Fence(info, start, tuple(body))
            start = 0
        else:
            body.append(line)
    assert not start, f"the fence opened in line {start} is never closed"


def programs(text: str) -> Iterator[list[Fence]]:
    """The fences that make up each program of a document."""
    shared = [fence for fence in fences(text) if fence.info == "python"]
    if shared:
        yield shared
    yield from ([fence] for fence in fences(text) if fence.info in ALONE)


def script(program: list[Fence]) -> str:
    """A script with every line where it is in the document, so that tracebacks point there."""
    lines: list[str] = []
    for fence in program:
        lines += [""] * (fence.line - len(lines))
        lines += fence.code.split("\n")
        # In place of the closing line. Worker processes import the script and stay silent.
        lines.append(f"if __name__ == '__main__': print({MARK + str(fence.line)!r}, flush=True)")
    return "\n".join(lines) + "\n"


def expected_outputs(text: str) -> dict[int, Fence]:
    """Line of a program fence -> the fence with what it prints."""
    expected: dict[int, Fence] = {}
    before = None
    for fence in fences(text):
        if fence.info == "text output":
            where = f"line {fence.line}: no program right before this output"
            assert before is not None, where
            assert before.info.startswith("python"), where
            expected[before.line] = fence
        before = fence
    return expected


def outputs(printed: str) -> dict[int, str]:
    """Line of a program fence -> what it printed."""
    parts = re.split(f"{MARK}(\\d+)\n", printed)
    return dict(zip(map(int, parts[1::2]), parts[0::2], strict=False))


def matches(expected: str, printed: str) -> bool:
    pattern = ".*?".join(map(re.escape, expected.strip().split("...")))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def prose(text: str) -> str:
    """The document without its fences, every line in its place."""
    lines = text.splitlines()
    for fence in fences(text):
        for number in range(fence.line - 1, fence.line + len(fence.body) + 1):
            lines[number] = ""
    return "\n".join(lines)


def anchors(text: str) -> set[str]:
    """The fragments that headings can be linked by."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", prose(text), re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower())
        slug = base = kept.replace(" ", "-")
        count = 0
        while slug in found:
            count += 1
            slug = f"{base}-{count}"
        found.add(slug)
    return found


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@every_document
def test_programs_run_and_print_what_they_claim(
    document: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    text = document.read_text(encoding="utf-8")
    expected = expected_outputs(text)
    surroundings = os.environ | {
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if document.name == "postgres.md":
        surroundings["DATABASE_URL"] = request.getfixturevalue("postgres").url
    for number, program in enumerate(programs(text)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "snippets.py").write_text(script(program), encoding="utf-8")
        apart = program[0].info == "python frameworks"
        interpreter = env.beside("frameworks") if apart else sys.executable
        done = subprocess.run(
            [interpreter, "-W", "error", "snippets.py"],
            cwd=folder,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert done.returncode == 0, f"{document.name}\n{done.stdout}\n{done.stderr}"
        printed = outputs(done.stdout)
        for fence in program:
            if fence.line in expected:
                wanted, got = expected[fence.line].code, printed[fence.line]
                where = f"{document.name}:{expected[fence.line].line}"
                assert matches(wanted, got), f"{where} says\n{wanted}\nbut it printed\n{got}"


@every_document
def test_every_python_fence_is_run(document: Path) -> None:
    run = {"python", *ALONE, "python pulumi"}
    for fence in fences(document.read_text(encoding="utf-8")):
        if fence.info.lower().startswith("py"):
            assert fence.info in run, f"{document.name}:{fence.line}: nothing runs {fence.info!r}"
        assert fence.info, f"{document.name}:{fence.line}: a fence says what it holds"


@every_document
def test_make_targets_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    shells = {"console", "sh", "bash", "shell"}
    commands = [line for fence in fences(text) if fence.info in shells for line in fence.body]
    commands += re.findall(r"`([^`]+)`", prose(text))
    named = {
        match[1]
        for command in commands
        if (match := re.match(r"\s*(?:\$ )?make(?: -\S+)* ([a-z][a-z-]*)(?![\w=-])", command))
    }
    assert named <= targets()


def shell_lines(text: str) -> list[str]:
    """The commands of the shell fences that nothing runs."""
    found: list[str] = []
    for fence in fences(text):
        if fence.info in {"sh", "bash", "shell"}:
            found += [re.sub(r"\s+#.*$", "", line).strip() for line in fence.body]
    return [line for line in found if line]


@every_document
def test_shell_lines_name_what_there_is(document: Path) -> None:
    """An installation names this project and its extras; a command its options and arguments."""
    extras = set(distribution("mini-workflow").metadata.get_all("Provides-Extra") or ())
    for line in shell_lines(document.read_text(encoding="utf-8")):
        words = [word for word in shlex.split(line) if word != "&"]
        if words[:2] == ["pip", "install"]:
            for match in re.finditer(r"mini-workflow\[([\w,-]+)\]", line):
                assert set(match[1].split(",")) <= extras, line
        elif words[0] == "mini-workflow":
            check_command(words[1:])


def check_command(words: list[str]) -> None:
    """Parse a command line of ours as click would, without running it. Raises click's errors."""
    group = click.Context(cli, info_name="mini-workflow")
    _, rest, _ = cli.make_parser(group).parse_args(list(words))
    name, command, arguments = cli.resolve_command(group, rest)
    assert command is not None
    command.make_parser(click.Context(command, info_name=name, parent=group)).parse_args(arguments)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    check_command(["--backend", "aws", "get", "order-o-1", "--follow"])
    for wrong in (["gett", "x"], ["get", "--folow", "x"]):
        with pytest.raises(click.UsageError):
            check_command(wrong)


@every_document
def test_relative_links_lead_somewhere(document: Path) -> None:
    without_code = re.sub(r"`[^`]*`", "", prose(document.read_text(encoding="utf-8")))
    links = re.findall(r"\]\(\s*<?([^)\s>]+)", without_code)
    links += re.findall(r"^\s*\[[^\]]+\]:\s*(\S+)", without_code, re.MULTILINE)
    for link in links:
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{document.name}: {link}"
        assert target.is_relative_to(ROOT), f"{document.name}: {link} leaves the repository"
        if fragment and target.suffix == ".md":
            assert fragment in anchors(target.read_text(encoding="utf-8")), link


# The runner itself: what it must notice.

SAMPLE = textwrap.dedent(
    """\
    # A *title*, with `code`

    ```python
    answer = 42
    ```

    - in a list:

      ```python
      for _ in range(2):
          print("answer", answer)
      ```

      ```text output
      answer 42
      ...
      ```

    ````text
    ```python
    not a program
    ```
    ````

    ```python isolated
    print("answer" in globals())
    ```
    """
)


def run_script(source: str) -> str:
    command = [sys.executable, "-c", source]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_fences_of_a_document_share_one_program() -> None:
    shared, isolated = programs(SAMPLE)
    assert outputs(run_script(script(shared))) == {3: "", 9: "answer 42\nanswer 42\n"}
    assert outputs(run_script(script(isolated))) == {25: "False\n"}


def test_output_belongs_to_the_program_before_it() -> None:
    ((line, fence),) = expected_outputs(SAMPLE).items()
    assert line == 9
    assert matches(fence.code, "answer 42\nanswer 42\n")
    assert not matches(fence.code, "answer 41\nanswer 42\n")


def test_output_without_a_program_is_refused() -> None:
    with pytest.raises(AssertionError, match="no program"):
        expected_outputs("```text output\nhello\n```\n")


def test_lines_of_the_script_are_lines_of_the_document() -> None:
    (program, _) = programs(SAMPLE)
    at = script(program).splitlines().index('    print("answer", answer)')
    assert SAMPLE.splitlines()[at].strip() == 'print("answer", answer)'


def test_anchors_are_made_from_headings_outside_of_fences() -> None:
    assert anchors(SAMPLE + "\n## Twice\n## Twice\n") == {"a-title-with-code", "twice", "twice-1"}

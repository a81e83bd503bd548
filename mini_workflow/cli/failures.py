"""Report an error as one line and an exit status."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import click

from mini_workflow.cli.output import Command, discard, failed_context, say, say_text
from mini_workflow.cli.remedy import translate
from mini_workflow.engine.description import Description
from mini_workflow.errors import (
    ExecutionAlreadyExists,
    ExecutionBlocked,
    ExecutionClosed,
    ExecutionError,
    ExecutionNotClosed,
    ExecutionNotFound,
    MailboxFull,
    MiniWorkflowError,
    SettingMissing,
    StoreError,
    UnknownWorkflow,
    UsageError,
    ValueNotSerializable,
)
from mini_workflow.printable import printable

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
BLOCKED: Final = 4
TIMEOUT: Final = 5
UNAVAILABLE: Final = 6
INTERRUPTED: Final = 130

MEANING: Final[dict[int, str]] = {
    OK: "the command worked; the workflow completed, the replay fits, nothing is wrong",
    FAILED: "the workflow failed, was cancelled or terminated; a handler refused; the replay does "
    "not fit; `doctor` has found something",
    USAGE: "the command or its arguments are wrong; nothing was changed",
    NOT_FOUND: "there is no such execution, or it has closed",
    BLOCKED: "the execution is blocked",
    TIMEOUT: "the time given is over, and the request is not done",
    UNAVAILABLE: "the store, AWS or a file cannot be used; a setting or a package is missing",
    INTERRUPTED: "interrupted by Ctrl-C",
}
"""The meaning of each exit status, for the documentation."""

_STATUS: Final[tuple[tuple[tuple[type[BaseException], ...], int], ...]] = (
    ((ExecutionNotFound, ExecutionClosed), NOT_FOUND),
    ((ExecutionBlocked,), BLOCKED),
    ((StoreError, SettingMissing, MailboxFull), UNAVAILABLE),
    (
        (UsageError, ValueNotSerializable, ExecutionAlreadyExists, ExecutionNotClosed),
        USAGE,
    ),
)


_OF_OUTPUT: Final = (errno.EPIPE, errno.ENOSPC, errno.EIO)
"""Errors of a system call that mean that the output cannot be written, where no file is named."""


_NO_ARGUMENTS: Final[Any] = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""The error of a group without a command, with its help as message; earlier versions of click print it."""


class Failed(Exception):
    """A message and an exit status, where no error of the library has them."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class NotDone(Failed):
    """A request that is not done after the time that was given."""

    def __init__(self, message: str) -> None:
        super().__init__(message, TIMEOUT)


@contextmanager
def using(path: Path) -> Generator[None]:
    """Turn errors of the operating system into Failed, with the user's file and a remedy."""
    try:
        yield
    except OSError as error:
        raise Failed(
            f"cannot use {error.filename or path}: {error.strerror or error}; check the path, its "
            "permissions and the space on its disk",
            UNAVAILABLE,
        ) from error


def status_of(error: BaseException) -> int:
    """Return the exit status for an error."""
    if isinstance(error, Failed):
        return error.status
    if type(error).__module__.partition(".")[0] in {"boto3", "botocore"}:
        return UNAVAILABLE
    return next((status for kinds, status in _STATUS if isinstance(error, kinds)), FAILED)


def in_one_line(error: BaseException, *, execution_id: str = "", of_workflow: bool = False) -> str:
    """Return the message of an error on one line, with commands in the place of the library's calls.

    `execution_id` is the execution that the error is about. An error of the user's own code, with
    `of_workflow`, is shown as it was raised.
    """
    text = printable(" ".join(str(error).split()))
    if isinstance(error, (MiniWorkflowError, NotDone)) and not of_workflow:
        return _with_commands(error, text, execution_id) or type(error).__name__
    if isinstance(error, (MiniWorkflowError, Failed)):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _with_commands(error: BaseException, text: str, execution_id: str) -> str:
    name = execution_id or (error.execution_id if isinstance(error, ExecutionError) else "")
    kind, short, command = _parted(name)
    if isinstance(error, ExecutionNotFound) and name:
        return f"there is no {kind} {short!r}; `mini-workflow {command}` lists those there are"
    if isinstance(error, SettingMissing) and " is not set: " in text:
        return f"{text.partition('. ')[0]}. Give --stack NAME, whose outputs have it, or set it yourself"
    own = isinstance(error, ExecutionBlocked)  # its reason may be an error of the user's code
    text = translate(text, failed_context(), name, arguments=not own)
    if kind != "execution":
        text = text.replace(f"execution {name!r}", f"{kind} {short!r}")
    if isinstance(error, UnknownWorkflow):
        return f"{text}; name that module before the command, as in `mini-workflow -m MODULE ...`"
    if isinstance(error, ExecutionClosed) and name:
        return f"{text}; `mini-workflow result {name}` shows what came of it"
    return text


def reason_of(description: Description) -> str:
    """Return why an execution is blocked, with commands in the place of the library's calls."""
    reason, name = description.blocked_reason or "", description.id
    return translate(reason, failed_context(), name, arguments=False)


def _parted(execution_id: str) -> tuple[str, str, str]:
    """Return what an id is of, its name, and the command that lists these."""
    for kind, command in (("limit", "limits"), ("schedule", "schedule ls")):
        if execution_id.startswith(f"{kind}:"):
            return kind, execution_id.removeprefix(f"{kind}:"), command
    return "execution", execution_id, "ls"


def report(error: BaseException, debug: bool) -> None:
    """Print an error to the standard error stream; with `debug` its traceback, too."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    _echo_error(in_one_line(error))


def _echo_error(text: str) -> None:
    say(("error", "red"), f": {text}", err=True)


def _drop_output() -> None:
    """Discard further output, since the standard output takes no more; also when Python ends."""
    with suppress(OSError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)


class Application(Command, click.Group):
    """A group of commands whose errors are printed in one line."""

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        """Run a command and exit with its status. Errors of click are printed in one line, too."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            status = super().main(*args, standalone_mode=False, **kwargs)
        except _NO_ARGUMENTS as error:
            say_text(error.format_message(), err=True)
            status = USAGE
        except click.UsageError as error:
            where = "mini-workflow" if error.ctx is None else error.ctx.command_path
            _echo_error(f"{error.format_message()} (see {where} --help)")
            status = USAGE
        except click.ClickException as error:
            _echo_error(error.format_message())
            status = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            discard()
            say("interrupted", err=True)
            status = INTERRUPTED
        except OSError as error:
            _drop_output()
            if error.errno != errno.EPIPE:  # a reader that closes its end has enough
                _echo_error(f"the output cannot be written: {error.strerror or error}")
            status = FAILED
        sys.exit(status if isinstance(status, int) else OK)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and translate its error into an exit status."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            raise click.Abort from None  # click itself would print an empty line before
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in _OF_OUTPUT and not error.filename:
                raise
            report(error, bool(ctx.params.get("debug")))
            ctx.exit(status_of(error))

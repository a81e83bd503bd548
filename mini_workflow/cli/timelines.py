"""Print timelines, whole or as they grow, and the outcome of an execution."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from mini_workflow.class_names import name_of
from mini_workflow.cli.failures import BLOCKED, FAILED, OK, in_one_line
from mini_workflow.cli.output import (
    Part,
    cut,
    say,
    say_json,
    say_text,
    shortened,
    shown,
    styled,
    to_json,
)
from mini_workflow.core import events, wire
from mini_workflow.core.codec import Codec
from mini_workflow.core.payload import Payload
from mini_workflow.doctor.executions import task_message
from mini_workflow.engine.client import Client
from mini_workflow.engine.description import RaisedError, readable
from mini_workflow.engine.execution import Execution
from mini_workflow.engine.instants import duration
from mini_workflow.engine.timeline import Entry
from mini_workflow.errors import (
    ExecutionBlocked,
    RuntimeClosed,
    SerializationError,
    StoreCorrupt,
    StoreError,
)

LOOK_AGAIN: Final = 0.1
"""Seconds between two reads of a history that is followed; more where reading takes long."""

WIDTH: Final = 100
"""Characters of a value in a timeline, unless all are asked for."""


def line_of(entry: Entry, width: int = WIDTH) -> list[Part]:
    """Return an entry as the parts of one line."""
    at = f"{entry.at:%Y-%m-%d %H:%M:%S}.{entry.at.microsecond // 1000:03}Z"
    parts: list[Part] = [
        f"{entry.number:4}  {at}  {duration(entry.took):>10}  {entry.subject} ",
        (entry.happened, _style(entry)),
    ]
    if entry.attempt is not None and (entry.attempt > 1 or entry.error is not None):
        parts.append(f" (attempt {entry.attempt})")
    if entry.error is not None:
        parts.append(f": {shortened(entry.error, width)}")
    for name, value in (entry.values or {}).items():
        text = _call(value, width) if name == "arguments" else f"{name}={shortened(value, width)}"
        parts.append(f"  {text}")
    if entry.note:
        parts.append(f"  {entry.note}")
    return parts


def _call(arguments: Any, width: int) -> str:
    """Positional and keyword arguments as in a call."""
    try:
        args, kwargs = arguments
        words = [repr(one) for one in args] + [f"{name}={one!r}" for name, one in kwargs.items()]
    except (TypeError, ValueError, AttributeError):
        return shortened(arguments, width)  # they could not be decoded
    return cut(f"({', '.join(words)})", width)


def _style(entry: Entry) -> str:
    if entry.error is not None:
        return "red"
    return "green" if entry.happened == "completed" else ""


def growth(
    client: Client, execution_id: str, *, while_running: bool
) -> Iterator[tuple[int, list[str]]]:
    """Return the lines of a history, then new ones as they come, each time with the number of the run.

    Ends after the first read, or, with `while_running`, once the execution has closed or is blocked.
    """
    run, seen = 0, 0
    while True:
        began = time.monotonic()
        # The head first: once it says that the execution has settled, the history is whole.
        head = client.head(execution_id)
        lines = client.lines(execution_id)
        if client.head(execution_id).run != head.run:
            continue  # the lines may be those of the next run
        if head.run != run:
            run, seen = head.run, 0
        if len(lines) > seen:
            yield run, lines[seen:]
            seen = len(lines)
        if not while_running or head.status != "running":
            return
        wait = max(LOOK_AGAIN, 5 * (time.monotonic() - began))
        try:
            client.wait(execution_id, wait)
        except TimeoutError:
            continue


def print_timeline(
    client: Client,
    execution: Execution[Any],
    *,
    follow: bool,
    width: int = WIDTH,
    trust: bool = False,
    err: bool = False,
) -> None:
    """Print the timeline of an execution; with `follow` until it has closed or is blocked.

    Values are cut at `width` characters, 0 for no limit. `err` prints to the standard error stream.
    """
    reader, at_run = execution.reader(trust=trust), 0
    for run, lines in growth(client, execution.id, while_running=follow):
        if run != at_run:
            if at_run:
                say(f"      run {run}", err=err)
            reader, at_run = execution.reader(trust=trust), run
        for line in lines:
            say(*line_of(reader.read(wire.decode(line)), width), err=err)


def workers_of(execution: Execution[Any]) -> tuple[str, ...]:
    """Return the workers that the running and waiting tasks of an execution name."""
    tasks = execution.history().state().tasks.values()
    return tuple(sorted({task.worker for task in tasks if task.worker and task.retry_at is None}))


def print_waiting(execution: Execution[Any]) -> None:
    """Print which running or waiting tasks of an execution name a worker."""
    for seq, task in execution.history().state().tasks.items():
        if task.worker and task.retry_at is None:
            say(
                f"task #{seq} {task.name!r} runs on worker {task.worker!r}, or waits for it: if no "
                f"process runs that worker, {task_message(task.worker)}"
            )


def print_outcome(execution: Execution[Any], as_json: bool, *, trust: bool = False) -> int:
    """Print the outcome of an execution that has closed or is blocked. Return the exit status.

    Without `trust` values and errors are shown as they are stored, and not loaded.
    """
    status = execution.describe().status
    answer: dict[str, Any] = {"id": execution.id, "status": status}
    if not trust and status in ("completed", "failed"):
        return _print_shown(execution, answer, as_json)
    try:
        value = execution.result()
    except ExecutionBlocked as error:
        failure: BaseException = error
        code = BLOCKED
    except (StoreError, RuntimeClosed):
        raise
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)) and status != "failed":
            raise
        failure, code = error, FAILED
    else:
        if as_json:
            say_json({**answer, "result": to_json(value)})
        else:
            say_text(shown(value))
        return OK
    if as_json:
        kind = type(failure)
        shown_error: dict[str, Any] = {"type": name_of(kind), "message": str(failure)}
        raised = execution.describe().failure
        if raised is not None:
            shown_error |= {"traceback": raised.traceback, "task_traceback": raised.task_traceback}
            shown_error["cause"] = None if raised.cause is None else asdict(raised.cause)
        say_json({**answer, "error": shown_error})
    else:
        _tell_failure(execution, status, failure)
    return code


def _print_shown(execution: Execution[Any], answer: dict[str, Any], as_json: bool) -> int:
    """Print the stored result or failure without loading it. Return the exit status."""
    closing = execution.history()[-1]
    if isinstance(closing, events.ExecutionFailed):
        failure = readable(execution.codec, closing.failure)
        if as_json:
            say_json({**answer, "error": asdict(RaisedError.of(failure, execution.codec))})
        else:
            _tell_failure(execution, answer["status"], execution.codec.show_failure(failure))
        return FAILED
    if not isinstance(closing, events.ExecutionCompleted):
        raise StoreCorrupt(f"execution {execution.id!r} has closed without a closing event")
    if as_json:
        say_json({**answer, "result": _plain(execution.codec, closing.result).tree})
    else:
        say_text(shown(execution.codec.show(closing.result)))
    return OK


def _plain(codec: Codec, payload: Payload) -> Payload:
    try:
        return codec.plain_payload(payload)
    except SerializationError:
        return payload


def _tell_failure(execution: Execution[Any], status: str, failure: BaseException) -> None:
    of_workflow = not isinstance(failure, ExecutionBlocked)
    say(styled(status), f": {in_one_line(failure, of_workflow=of_workflow)}", err=True)
    print_stacks(execution, err=True)


def print_stacks(execution: Execution[Any], *, err: bool = False) -> None:
    """Print the stacks of a failed workflow; nothing for one that has not failed.

    First the stack of the task whose error ended it, if one did, then its own, then those of the
    errors that caused it, for example in children.
    """
    closing = execution.history()[-1]
    failure = None
    if isinstance(closing, events.ExecutionFailed):
        failure = readable(execution.codec, closing.failure)
    said = "where it failed, innermost last:"
    while failure is not None:
        if failure.tracebacks:
            say_text(f"\n{said}\n", err=err)
        if failure.task_traceback:
            _print_stack(failure.task_traceback, "in the task, or the child:", err=err)
            _print_stack(failure.traceback, "in the workflow:", err=err)
        else:
            _print_stack(failure.traceback, err=err)
        failure, said = failure.cause, f"caused by {failure.type.partition(':')[2]}:"


def _print_stack(text: str, where: str = "", *, err: bool) -> None:
    for line in (*filter(None, [where]), *text.rstrip().splitlines()):
        say(f"  {line}", err=err)

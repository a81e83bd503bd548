"""The command `replay`: run a history against the code on this machine."""

from __future__ import annotations

import linecache
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from mini_workflow.cli.backends import AWSTarget, load_codec
from mini_workflow.cli.debugger import Debugger
from mini_workflow.cli.failures import FAILED, OK
from mini_workflow.cli.output import say, say_json
from mini_workflow.cli.session import (
    Session,
    command,
    id_argument,
    json_option,
    pass_session,
    trust_option,
)
from mini_workflow.codecs.standard import StandardCodec, with_codecs
from mini_workflow.core.codec import Codec
from mini_workflow.core.events import RECORDED
from mini_workflow.core.recorded import describe
from mini_workflow.engine.execution import Execution
from mini_workflow.engine.recording import Recording
from mini_workflow.errors import ExecutionNotFound, UsageError
from mini_workflow.loop.source_line import user_frame
from mini_workflow.testing.replay_check import SUFFIXES, read_recording
from mini_workflow.testing.replaying import Replayed, Step, replay

PLACE: Final = re.compile(r"(.*):(\d+) in (.*)")
"""The place of a line, as the library writes it."""

IN_MESSAGE: Final = re.compile(r"at ([^()\n]+?:\d+ in [^\s();,]+)")
"""The place of a line inside of an error's message."""


@command(
    "replay",
    "mini-workflow replay order-17 orders",
    "mini-workflow replay order-17.json orders --until 12 --pdb",
    "mini-workflow replay histories/order-17.json orders --json",
)
@id_argument
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option(
    "--until", type=click.IntRange(1), metavar="EVENT", help="Stop at the event of this number."
)
@click.option(
    "--pdb", "use_pdb", is_flag=True, help="Open pdb at the event of --until, or at the first one."
)
@click.option(
    "--trace", is_flag=True, help="Print each event, with the line of code that is at it."
)
@trust_option
@json_option
@click.pass_context
@pass_session
def replay_command(
    session: Session,
    ctx: click.Context,
    execution_id: str,
    modules: tuple[str, ...],
    until: int | None,
    use_pdb: bool,
    trace: bool,
    trust: bool,
    as_json: bool,
) -> None:
    """Run the code here over the history of an execution. No task runs; nothing is written.

    ID is an execution, or a file with the output of `get --json`, `get --lines` or `export`. MODULE
    defines the workflow. breakpoint() in the code opens pdb, as --pdb does; in an IDE's debugger run the
    module mini_workflow.cli. The exit status is 1 if the code does not fit the history, or cannot go on
    with messages that have arrived. Classes are taken from the imported modules. Pickled values are
    loaded only if they are signed, or if you --trust the source of the history.
    """
    recording, codec = _recording(session, execution_id, trust)
    session.import_modules(*modules)
    if until is not None and until > len(recording.history):
        raise UsageError(
            f"--until {until}: give the number of an event, 1 to {len(recording.history)}"
        )
    debugger = Debugger()
    if as_json and use_pdb:
        raise UsageError("--pdb prompts you, and --json answers a program: leave one of them out")
    watch = _Watch(debugger, (until or 1) if use_pdb else None, trace, as_json)
    with debugger.installed():
        replayed = replay(
            recording,
            codec=codec,
            until=None if use_pdb else until,
            observe=watch,
            now=round(time.time() * 1000),
            trust=trust,
        )
    if debugger.left:
        say("left the debugger")
        ctx.exit(OK)
    if as_json:
        say_json(_plain(replayed))
    else:
        _print(replayed)
    ctx.exit(OK if replayed.fits else FAILED)


def _recording(session: Session, name: str, trust: bool) -> tuple[Recording, Codec | None]:
    """Return the history to replay and the codec of its values, which on AWS has the signing key."""
    path = Path(name)
    if path.suffix in SUFFIXES and path.is_file():
        recording = read_recording(path)
        if not isinstance(session.backend, AWSTarget):
            codecs = load_codec(session.config.codec)
            return recording, with_codecs(StandardCodec(trust=trust), codecs)
        with session.backend.client() as client:
            return recording, client.codec
    with session.backend.reader(trust=trust) as client:
        try:
            execution: Execution[Any] = client.get_execution(name)
            return execution.recording(), execution.codec
        except ExecutionNotFound as error:
            if path.suffix in SUFFIXES:
                raise UsageError(
                    f"there is no file {name}, nor an execution with that id: `mini-workflow ls` lists "
                    "executions"
                ) from error
            raise


class _Watch:
    """An observer of a replay that prints each step, or stops at one."""

    def __init__(self, debugger: Debugger, stop_at: int | None, trace: bool, as_json: bool) -> None:
        self._debugger = debugger
        self._beside_json = as_json
        self._stop_at = stop_at
        self._trace = trace

    def __call__(self, step: Step) -> None:
        if self._trace:
            place = f"  {_short(step.place)}" if step.place else ""
            say(f"{step.number:4}  {describe(step.event)}{place}", err=self._beside_json)
        if step.number == self._stop_at:
            if not self._trace:
                say(f"event {step.number}: {describe(step.event)}")
            # Only code that asks for an operation is on the stack; code that waits is not.
            asks = type(step.event) in RECORDED
            frame = user_frame(sys._getframe(1)) if asks else None  # pyright: ignore[reportPrivateUsage]
            if frame is None:
                self._debugger.stop_soon()
            else:
                self._debugger.stop_at(frame)


def _print(replayed: Replayed) -> None:
    recording, mismatch = replayed.recording, replayed.mismatch
    total = len(recording.history)
    name = f"{recording.execution_id or 'the history'}  {recording.workflow}"
    if replayed.stopped:
        say(f"{name}  {replayed.stopped}")
    elif replayed.fits:
        say(f"{name}  all {total} events fit")
    elif mismatch is not None:
        say(f"{name}  does not fit at event {mismatch.number} of {total}")
        recorded = "nothing more" if mismatch.recorded is None else describe(mismatch.recorded)
        asked = "nothing more" if mismatch.asked is None else describe(mismatch.asked)
        say(f"  the history says    {recorded}")
        say(f"  the code asks for   {asked}")
        if mismatch.place:
            say(f"  at                  {_short(mismatch.place)}")
            _print_line(mismatch.place)
    else:
        where = "with messages that wait behind" if replayed.parked_fault else "after event"
        what = f"its {total} events" if replayed.parked_fault else f"{replayed.events} of {total}"
        say(f"{name}  cannot go on {where} {what}")
        say(f"  {type(replayed.fault).__name__}: {replayed.fault}")
        if found := IN_MESSAGE.search(str(replayed.fault)):
            _print_line(found[1])
    for task, place in replayed.waiting:
        say(f"  {task} waits at {_short(place)}")
        _print_line(place)
    for operation in replayed.open:
        say(f"  open: {operation}")
    for event in replayed.beyond:
        say(f"  next: {describe(event)}")


def _short(place: str) -> str:
    """Return a place with a path relative to the current directory, if it is below that."""
    return place.removeprefix(f"{Path.cwd()}{os.sep}")


def _print_line(place: str) -> None:
    match = PLACE.fullmatch(place)
    line = linecache.getline(match[1], int(match[2])).rstrip() if match else ""
    if match and line:
        say(f"    {match[2]}  {line.expandtabs()}")


def _plain(replayed: Replayed) -> dict[str, Any]:
    mismatch = replayed.mismatch
    return {
        "id": replayed.recording.execution_id,
        "workflow": replayed.recording.workflow,
        "fits": replayed.fits,
        "events": replayed.events,
        "stopped": replayed.stopped or None,
        "fault": None
        if replayed.fault is None
        else {"type": type(replayed.fault).__name__, "message": str(replayed.fault)},
        "mismatch": None
        if mismatch is None
        else {
            "event": mismatch.number,
            "recorded": None if mismatch.recorded is None else describe(mismatch.recorded),
            "asked": None if mismatch.asked is None else describe(mismatch.asked),
            "place": mismatch.place,
        },
        "waiting": [{"task": task, "place": place} for task, place in replayed.waiting],
        "open": list(replayed.open),
        "next": [describe(event) for event in replayed.beyond],
    }


COMMANDS: Final = (replay_command,)

"""The command `stream`: print a stream of an execution."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from mini_workflow.cli.output import note, say_line_of_json, say_text, shown, to_json
from mini_workflow.cli.session import (
    Session,
    command,
    id_argument,
    json_option,
    pass_session,
    trust_option,
)
from mini_workflow.engine.streams import Chunk, ExecutionStream


@command(
    "stream",
    "mini-workflow stream order-17 tokens --follow",
    "mini-workflow stream order-17 tokens --after 120 --json",
)
@id_argument
@click.argument("name")
@click.option(
    "--after",
    type=click.IntRange(0),
    default=0,
    metavar="OFFSET",
    help="Begin behind the chunk with this offset.",
)
@click.option(
    "--follow", "-f", is_flag=True, help="Print new chunks until the execution has closed."
)
@trust_option
@json_option
@pass_session
def stream(
    session: Session,
    execution_id: str,
    name: str,
    after: int,
    follow: bool,
    trust: bool,
    as_json: bool,
) -> None:
    """Print a stream of an execution, a chunk per line.

    Without --follow only the chunks of the last attempt of each task are printed. With --json each line
    is an object with offset, value, source (the number of the task, 0 for the workflow), attempt and
    restarts (true if earlier chunks of the same source are void).
    """
    with session.backend.reader(trust=trust) as client:
        execution = client.get_execution(execution_id)
        found: ExecutionStream = execution.stream(name, after)
        found = found if trust else found.for_people()
        printed = False
        for chunk in found if follow else found.read():
            _print(chunk, as_json)
            printed = True
        if not printed and name not in (names := execution.stream_names()):
            note(f"there is no stream {name!r}; there are: {', '.join(names) or 'none'}")


def _print(chunk: Chunk, as_json: bool) -> None:
    if as_json:
        plain: dict[str, Any] = {
            "offset": chunk.offset,
            "value": to_json(chunk.value, f"chunk {chunk.offset}"),
            "source": chunk.source,
            "attempt": chunk.attempt,
            "restarts": chunk.restarts,
        }
        say_line_of_json(json.dumps(plain))
        return
    if chunk.restarts:
        note(f"attempt {chunk.attempt} of task #{chunk.source} begins anew")
    say_text(shown(chunk.value))


COMMANDS: Final = (stream,)

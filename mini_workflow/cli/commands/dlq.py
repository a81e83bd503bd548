"""The commands of `dlq`, for the dead letters of an engine on AWS: ls, show, redrive and drop."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from mini_workflow.cli.backends import AWSTarget
from mini_workflow.cli.failures import NOT_FOUND, UNAVAILABLE, Failed
from mini_workflow.cli.output import Group, at_second, note, say, say_json, say_table
from mini_workflow.cli.session import Session, command, json_option, pass_session
from mini_workflow.errors import UsageError

if TYPE_CHECKING:
    from mini_workflow.runtimes.aws.dead_letters import DeadLetter, DeadLetterQueue, DeadLetters

QUEUES: Final = ("events", "timers", "failures", "schedules")

_Wanted = Callable[["DeadLetter"], bool]

COLUMNS: Final = ("id", "queue", "execution", "sent", "about", "reason")


@click.group(
    "dlq",
    cls=Group,
    examples=(
        "mini-workflow --stack prod dlq ls",
        "mini-workflow --stack prod dlq redrive --queue events",
    ),
)
def dlq() -> None:
    """Look at dead letters, send them again, or delete them.

    On AWS, a message that cannot be handled is kept in one of four queues: events, timers, failures
    (reports of dead attempts) and schedules. `doctor` reports queues that are not empty. While one
    command reads letters, other commands do not see them, for a minute at most.
    """


queue_option: Final = click.option(
    "--queue", type=click.Choice(QUEUES), help="Only letters in this queue."
)
execution_option: Final = click.option(
    "--execution", metavar="ID", help="Only letters about this execution."
)
limit_option: Final = click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="Read so many letters of a queue.",
)


def _chooses_letters(
    function: Callable[[Session, tuple[str, ...], str | None, _Wanted, int, bool], None],
) -> Callable[..., None]:
    """Give a command the arguments and options that select letters."""

    @click.argument("letters", nargs=-1, metavar="[LETTER]...")
    @queue_option
    @execution_option
    @click.option("--all", "everything", is_flag=True, help="All letters.")
    @limit_option
    @json_option
    @pass_session
    @wraps(function)
    def execute(
        session: Session,
        letters: tuple[str, ...],
        queue: str | None,
        execution: str | None,
        everything: bool,
        limit: int,
        as_json: bool,
    ) -> None:
        wanted = _selection(letters, queue, execution, everything)
        function(session, letters, queue, wanted, limit, as_json)

    return execute


@command(
    "ls",
    "mini-workflow dlq ls",
    "mini-workflow --stack prod dlq ls --queue events --json",
    group=dlq,
)
@queue_option
@execution_option
@limit_option
@json_option
@pass_session
def ls(
    session: Session, queue: str | None, execution: str | None, limit: int, as_json: bool
) -> None:
    """List dead letters, each with its execution and the reason why it is there.

    SQS shows at most ten letters of one execution in the queue of events.
    """
    with _dead_letters(session) as letters:
        queues = _chosen(letters, queue)
        found = [
            letter
            for one in queues
            for letter in letters.read(one, limit)
            if execution in (None, letter.execution_id)
        ]
    if as_json:
        say_json(
            {
                "queues": {one.kind: one.waiting for one in queues},
                "letters": [_plain(letter) for letter in found],
            }
        )
        return
    if found:
        say_table(COLUMNS, [_row(letter) for letter in found])
    note("letters: " + ", ".join(f"{one.kind} {one.waiting}" for one in queues))


@command("show", "mini-workflow dlq show 5fea7756-0ea4-451a-a703-a558b933e274", group=dlq)
@click.argument("letter")
@limit_option
@json_option
@pass_session
def show(session: Session, letter: str, limit: int, as_json: bool) -> None:
    """Show a dead letter in full. LETTER is its id, or the beginning of it."""
    with _dead_letters(session) as letters:
        found = [
            one
            for queue in _chosen(letters, None)
            for one in letters.read(queue, limit)
            if one.id.startswith(letter)
        ]
    if not found:
        raise _not_found([letter])
    if len(found) > 1:
        raise UsageError(
            f"{letter}: the ids of {len(found)} letters begin with it; give more of the id"
        )
    if as_json:
        say_json(_plain(found[0]))
        return
    for name, value in _plain(found[0]).items():
        say(f"{name}: {value}")


@command(
    "redrive",
    "mini-workflow dlq redrive --execution order-17",
    "mini-workflow dlq redrive --queue timers",
    "mini-workflow dlq redrive --all --json",
    group=dlq,
)
@_chooses_letters
def redrive(
    session: Session,
    letters: tuple[str, ...],
    queue: str | None,
    wanted: _Wanted,
    limit: int,
    as_json: bool,
) -> None:
    """Send dead letters again to the queue or function from which they came.

    Fix the cause first. Delivering a message twice, or late, does no harm. Select letters by their ids,
    --queue, --execution or --all.
    """
    with _dead_letters(session) as found:
        done = _each(found.redrive, _chosen(found, queue), wanted, limit)
        _tell(done, "sent again", letters, as_json)


@command(
    "drop",
    "mini-workflow dlq drop 5fea7756-0ea4-451a-a703-a558b933e274 --json > dropped.json",
    "mini-workflow dlq drop --execution order-17",
    group=dlq,
)
@_chooses_letters
def drop(
    session: Session,
    letters: tuple[str, ...],
    queue: str | None,
    wanted: _Wanted,
    limit: int,
    as_json: bool,
) -> None:
    """Delete dead letters. With --json they are printed in full, so that you can keep them.

    Select letters by their ids, --queue, --execution or --all. An execution that waits for a deleted
    message waits for ever; `resume` repeats the effects of its last turn.
    """
    with _dead_letters(session) as found:
        done = _each(found.drop, _chosen(found, queue), wanted, limit)
        _tell(done, "dropped", letters, as_json)


@contextmanager
def _dead_letters(session: Session) -> Generator[DeadLetters]:
    if not isinstance(session.backend, AWSTarget):
        raise UsageError(
            f"{session.backend.name} has no dead letters: a message that cannot be handled blocks its "
            "execution, see `mini-workflow ls --status blocked`. For dead letters on AWS give --backend "
            "aws, or --stack NAME"
        )
    with session.backend.client() as client:
        yield client.dead_letters()


def _chosen(letters: DeadLetters, kind: str | None) -> list[DeadLetterQueue]:
    """Return the queues that can be read, all or those of a kind. Raises Failed if none can."""
    found = [one for one in letters.queues() if kind in (None, one.kind)]
    for one in found:
        if one.problem:
            text = f"the dead letters of {one.kind} cannot be found: {one.problem}"
            if kind is not None or all(other.problem for other in found):
                raise Failed(text, UNAVAILABLE)
            note(text)
    return [one for one in found if not one.problem]


def _selection(
    letters: tuple[str, ...], queue: str | None, execution: str | None, everything: bool
) -> _Wanted:
    if not (letters or queue or execution or everything):
        raise UsageError("which letters? Give their ids, --queue, --execution or --all")
    if everything and (letters or execution):
        raise UsageError("--all selects all letters: leave out --all, or the ids and --execution")

    def wanted(letter: DeadLetter) -> bool:
        named = not letters or letter.id.startswith(letters)
        return named and execution in (None, letter.execution_id)

    return wanted


def _each(
    act: Callable[[DeadLetterQueue, _Wanted, int], Iterable[DeadLetter]],
    queues: list[DeadLetterQueue],
    wanted: _Wanted,
    limit: int,
) -> Generator[DeadLetter]:
    for queue in queues:
        if queue.waiting:
            yield from act(queue, wanted, min(limit, queue.waiting))


def _tell(done: Iterable[DeadLetter], what: str, letters: tuple[str, ...], as_json: bool) -> None:
    """Print each letter as soon as it is done, so that an error later hides none of them."""
    printed: list[DeadLetter] = []
    try:
        for letter in done:
            printed.append(letter)
            if not as_json:
                say(f"{letter.id}: {what}  {letter.queue.kind}  {letter.execution_id}")
    finally:
        if as_json:
            say_json({what.replace(" ", "_"): [_plain(letter) for letter in printed]})
    missing = [one for one in letters if not any(letter.id.startswith(one) for letter in printed)]
    if missing:
        raise _not_found(missing)
    if not as_json:
        note(f"{what}: {len(printed)}")


def _not_found(letters: list[str]) -> Failed:
    return Failed(
        f"there is no dead letter {', '.join(letters)}, or another command reads it now: wait a minute, "
        "or list those there are with `mini-workflow dlq ls`",
        NOT_FOUND,
    )


def _row(letter: DeadLetter) -> list[str]:
    sent = at_second(letter.sent_at)
    return [letter.id, letter.queue.kind, letter.execution_id, sent, letter.about, letter.reason]


def _plain(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "queue": letter.queue.kind,
        "execution": letter.execution_id or None,
        "about": letter.about,
        "reason": letter.reason,
        "sent_at": None if letter.sent_at is None else letter.sent_at.isoformat(),
        "receives": letter.receives,
        "body": letter.body,
    }


COMMANDS: Final = (dlq,)

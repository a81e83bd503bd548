"""The commands `dlq ls`, `dlq show`, `dlq redrive` and `dlq drop`: the dead letters of an engine on AWS."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from mini_workflow.cli.backends import AWSTarget
from mini_workflow.cli.failures import NOT_FOUND, UNAVAILABLE, Failed
from mini_workflow.cli.output import at_second, note, say, say_json, say_table
from mini_workflow.cli.session import Session, command, json_option, pass_session
from mini_workflow.errors import UsageError

if TYPE_CHECKING:
    from mini_workflow.runtimes.aws.dead_letters import DeadLetter, DeadLetterQueue, DeadLetters

QUEUES: Final = ("events", "timers", "failures", "schedules")

_Wanted = Callable[["DeadLetter"], bool]

COLUMNS: Final = ("id", "queue", "execution", "sent", "about", "reason")


@click.group("dlq")
def dlq() -> None:
    """Look at dead letters, send them again, or delete them.

    On AWS, a message that cannot be handled is kept in one of four queues: events, timers, failures
    (reports of dead attempts) and schedules. `doctor` tells when one of them is not empty. While
    letters are being looked at, others do not see them, for a minute at most.
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
    help="Look at so many letters of a queue.",
)


def _chooses_letters(
    function: Callable[[Session, tuple[str, ...], str | None, _Wanted, int, bool], None],
) -> Callable[..., None]:
    """Declare what says which letters are meant, for a command that does something with them."""

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
    """List dead letters: which execution each is about, and why it is there.

    Of the letters about one execution in the queue of events, SQS shows ten at a time.
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
    """Show a dead letter whole. LETTER is its id, or how that begins."""
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
        raise UsageError(f"{letter}: the ids of {len(found)} letters begin so; give more of it")
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
    """Send dead letters again to where they came from.

    Fix the cause first. It does no harm to deliver a message twice, or late. Say which letters: by their
    ids, --queue, --execution or --all.
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
    """Delete dead letters. With --json they are printed whole, to be kept.

    Say which letters: by their ids, --queue, --execution or --all. What an execution waits for then
    never comes; `resume` has what its last turn decided done again.
    """
    with _dead_letters(session) as found:
        done = _each(found.drop, _chosen(found, queue), wanted, limit)
        _tell(done, "dropped", letters, as_json)


@contextmanager
def _dead_letters(session: Session) -> Generator[DeadLetters]:
    if not isinstance(session.backend, AWSTarget):
        raise UsageError(
            "an SQLite file has no dead letters: what cannot be handled blocks its execution, see "
            "`mini-workflow ls --status blocked`. For those on AWS give --backend aws, or --stack NAME"
        )
    with session.backend.client() as client:
        yield client.dead_letters()


def _chosen(letters: DeadLetters, kind: str | None) -> list[DeadLetterQueue]:
    """Return the queues that are there; all that was asked for has to be."""
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
        raise UsageError("say which letters: give their ids, --queue, --execution or --all")
    if everything and (letters or execution):
        raise UsageError("--all means all letters: leave out their ids and --execution, or --all")

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
    """Print each letter when it is done, so that what was done is known whatever happens next."""
    told: list[DeadLetter] = []
    try:
        for letter in done:
            told.append(letter)
            if not as_json:
                say(f"{letter.id}: {what}  {letter.queue.kind}  {letter.execution_id}")
    finally:
        if as_json:
            say_json({what.replace(" ", "_"): [_plain(letter) for letter in told]})
    missing = [one for one in letters if not any(letter.id.startswith(one) for letter in told)]
    if missing:
        raise _not_found(missing)
    if not as_json:
        note(f"{what}: {len(told)}")


def _not_found(letters: list[str]) -> Failed:
    return Failed(
        f"there is no dead letter {', '.join(letters)}, or somebody is looking at it now; "
        "`mini-workflow dlq ls` lists those there are",
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

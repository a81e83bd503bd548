"""Commands that change executions or ask them: signal, query, update, cancel, fork and others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from mini_workflow.cli.arguments import handler_of, read_arguments, read_value
from mini_workflow.cli.failures import NotDone
from mini_workflow.cli.output import note, say, say_json, say_text, shown, to_json
from mini_workflow.cli.selection import Action, Selection, act, remark_request, selecting
from mini_workflow.cli.session import (
    Session,
    arguments_argument,
    command,
    id_argument,
    json_option,
    modules_option,
    pass_session,
    timeout_option,
    trust_option,
)
from mini_workflow.core.promises import read_token
from mini_workflow.engine.client import Client
from mini_workflow.engine.execution import Execution
from mini_workflow.workflow import REGISTRY

reason_option = click.option("--reason", default="", help="The reason, kept in the history.")
by_option = click.option(
    "--by", default="", help="The name of the person who asks, kept in the history or logged."
)


def _sent(
    session: Session,
    client: Client,
    what: str,
    execution_id: str,
    as_json: bool,
    *,
    verb: str = "",
) -> None:
    """Print that a request was sent, with a note if no worker runs that would take it."""
    served = remark_request(session, client, verb, [execution_id])
    if as_json:
        say_json({"id": execution_id, "sent": True, "served": served})
    else:
        say(f"{execution_id}: {what}")


@command(
    "signal",
    "mini-workflow signal order-17 approve",
    'mini-workflow signal order-17 approve \'{"by": "ann", "limit": 100}\'',
)
@id_argument
@click.argument("name")
@click.argument("value", required=False)
@by_option
@modules_option
@json_option
@pass_session
def signal(
    session: Session,
    execution_id: str,
    name: str,
    value: str | None,
    by: str,
    modules: tuple[str, ...],
    as_json: bool,
) -> None:
    """Send a signal. VALUE is JSON, or else a text.

    With the workflow's module (-m MODULE) the value is built to the annotation of the signal's handler.
    """
    session.import_modules(*modules)
    handler = None if value is None else _handler(session, execution_id, "signal", name)
    sent = None if value is None else read_value(value, handler)
    with session.backend.client() as client:
        client.get_execution(execution_id).signal(name, sent, by=by)
        _sent(session, client, "sent", execution_id, as_json)


@command(
    "query",
    "mini-workflow query order-17 limit -m orders",
    "mini-workflow query order-17 price currency=EUR -m orders --json",
)
@id_argument
@click.argument("name")
@arguments_argument
@modules_option
@trust_option
@json_option
@pass_session
def query(
    session: Session,
    execution_id: str,
    name: str,
    arguments: tuple[str, ...],
    modules: tuple[str, ...],
    trust: bool,
    as_json: bool,
) -> None:
    """Query an execution. Changes nothing.

    On SQLite and Postgres this command replays the history, for which it needs the workflow's module: -m
    MODULE.
    """
    session.import_modules(*modules)
    with session.backend.reader(trust=trust) as client:
        handler = handler_of(client, execution_id, "query", name) if arguments else None
        args, kwargs = read_arguments(arguments, handler)
        answer = client.get_execution(execution_id).query(name, *args, **kwargs)
    _print_answer(execution_id, answer, as_json)


@command(
    "update",
    "mini-workflow update order-17 raise by=5",
    "mini-workflow update order-17 raise by=5 --id raise-1 --timeout 10 --json",
)
@id_argument
@click.argument("name")
@arguments_argument
@click.option("--id", "update_id", help="An id of the request: sent twice, it is handled once.")
@timeout_option("Wait so long for the answer; the request goes on after that.")
@by_option
@modules_option
@json_option
@pass_session
def update(
    session: Session,
    execution_id: str,
    name: str,
    arguments: tuple[str, ...],
    update_id: str | None,
    timeout: float,
    by: str,
    modules: tuple[str, ...],
    as_json: bool,
) -> None:
    """Have an execution handle a request, and print its answer.

    With the workflow's module (-m MODULE) the arguments are built to the handler's annotations.
    """
    session.import_modules(*modules)
    handler = _handler(session, execution_id, "update", name) if arguments else None
    args, kwargs = read_arguments(arguments, handler)
    with session.backend.client() as client:
        execution = client.get_execution(execution_id)
        if client.head(execution_id).closed_at is None:
            session.remark_unserved(client, saved=True)
        try:
            answer = client.updates.ask(execution.id, name, args, kwargs, update_id, timeout, by)
        except TimeoutError as error:
            if "is not done after" in str(error):
                raise NotDone(str(error)) from None
            raise
    _print_answer(execution_id, answer, as_json)


def _handler(
    session: Session, execution_id: str, kind: str, name: str
) -> Callable[..., Any] | None:
    if not REGISTRY.names():
        return None
    with session.backend.reader() as client:
        return handler_of(client, execution_id, kind, name)


def _print_answer(execution_id: str, answer: Any, as_json: bool) -> None:
    if as_json:
        say_json({"id": execution_id, "answer": to_json(answer, "answer")})
    else:
        say_text(shown(answer))


@command(
    "cancel",
    "mini-workflow cancel order-17 --reason 'out of stock'",
    "mini-workflow cancel --workflow order --tag customer=c-7 --yes",
)
@selecting
@reason_option
@by_option
@json_option
@pass_session
def cancel(session: Session, selection: Selection, reason: str, by: str, as_json: bool) -> None:
    """Ask an execution, or all that match, to end. Its code may clean up."""
    action = Action("cancel", lambda execution: execution.cancel(reason, by=by))
    _act(session, selection, action, as_json)


@command(
    "terminate",
    "mini-workflow terminate order-17 --reason 'started by mistake'",
    "mini-workflow terminate --workflow order --older-than 30d --yes",
)
@selecting
@reason_option
@by_option
@json_option
@pass_session
def terminate(session: Session, selection: Selection, reason: str, by: str, as_json: bool) -> None:
    """End an execution, or all that match, without running any of its code."""
    action = Action("terminate", lambda execution: execution.terminate(reason, by=by))
    _act(session, selection, action, as_json)


@command(
    "pause",
    "mini-workflow pause order-17 --reason 'the shop moves'",
    "mini-workflow pause --workflow order --yes",
)
@selecting
@reason_option
@by_option
@json_option
@pass_session
def pause(session: Session, selection: Selection, reason: str, by: str, as_json: bool) -> None:
    """Stop the code of an execution, or of all that match, until it is resumed.

    Messages that arrive meanwhile are kept.
    """
    action = Action("pause", lambda execution: execution.pause(reason, by=by))
    _act(session, selection, action, as_json)


@command(
    "resume",
    "mini-workflow resume order-17",
    "mini-workflow resume --status blocked --workflow order --yes",
)
@selecting
@by_option
@json_option
@pass_session
def resume(session: Session, selection: Selection, by: str, as_json: bool) -> None:
    """Let a blocked or paused execution go on, or all that match, once the cause is fixed."""

    def go_on(execution: Execution[Any]) -> None:
        if execution.describe().status == "running":
            note(
                f"{execution.id} is running, and not blocked: resume only helps if a message was lost"
            )
        execution.resume(by=by)

    _act(session, selection, Action("resume", go_on), as_json)


@command(
    "retry",
    "mini-workflow retry order-17",
    "mini-workflow retry --status failed --workflow order --older-than 2h --yes",
)
@selecting
@by_option
@json_option
@pass_session
def retry(session: Session, selection: Selection, by: str, as_json: bool) -> None:
    """Let an execution that has failed, or all that match, go on from its last good point.

    Also one that was cancelled or terminated. Operations that failed run again; completed ones keep
    their results.
    """
    _act(
        session,
        selection,
        Action("retry", lambda execution: execution.retry(by=by)),
        as_json,
    )


@command(
    "restart", "mini-workflow restart order-17", "mini-workflow restart --tag day=monday --yes"
)
@selecting
@by_option
@json_option
@pass_session
def restart(session: Session, selection: Selection, by: str, as_json: bool) -> None:
    """Begin an execution that has closed, or all that match, anew with the same arguments."""
    _act(
        session,
        selection,
        Action("restart", lambda execution: execution.restart(by=by)),
        as_json,
    )


@command(
    "fork",
    "mini-workflow fork order-17 --before charge -m orders",
    "mini-workflow fork order-17 --at 12 --patch reserve=7 --id order-17b -m orders",
)
@id_argument
@click.option("--before", help="Keep the events before the operation of this name or number.")
@click.option("--at", type=int, help="Keep so many events, as `mini-workflow get` numbers them.")
@click.option("--id", "new_id", help="The id of the new execution.")
@click.option(
    "--patch",
    "patches",
    multiple=True,
    metavar="NAME=VALUE",
    help="Give a task or child before the cut another result. VALUE is JSON, or else a text.",
)
@by_option
@modules_option
@json_option
@pass_session
def fork(
    session: Session,
    execution_id: str,
    before: str | None,
    at: int | None,
    new_id: str | None,
    patches: tuple[str, ...],
    by: str,
    modules: tuple[str, ...],
    as_json: bool,
) -> None:
    """Begin a new execution with the first events of another one, and today's code.

    The code is first replayed here over these events, for which the workflow's module is needed: -m
    MODULE. The other execution stays as it is.
    """
    if (before is None) == (at is None):
        raise click.UsageError(
            f"give either --before or --at; `mini-workflow get {execution_id}` shows both"
        )
    session.import_modules(*modules)
    patch: dict[str | int, Any] = {}
    for one in patches:
        name, equals, value = one.partition("=")
        if not equals:
            raise click.UsageError(f"--patch {one!r}: give NAME=VALUE, as in reserve=7")
        patch[_operation(name)] = read_value(value)
    with session.backend.client() as client:
        cut = None if before is None else _operation(before)
        made = client.get_execution(execution_id).fork(
            before=cut, at=at, id=new_id, patch=patch, by=by
        )
        _sent(session, client, f"forked from {execution_id}", made.id, as_json)


def _operation(given: str) -> str | int:
    """Return the name of an operation, or its number."""
    digits = given.removeprefix("#")
    return int(digits) if digits.isdecimal() else given


def _act(session: Session, selection: Selection, action: Action, as_json: bool) -> None:
    with session.backend.client() as client:
        if selection.execution_id is None:
            act(session, client, selection, action, as_json)
            return
        name = selection.execution_id
        action.do(client.get_execution(name))
        _sent(session, client, f"asked to {action.verb}", name, as_json, verb=action.verb)


@command("complete-promise", 'mini-workflow complete-promise "$TOKEN" \'{"approved": true}\'')
@click.argument("token")
@click.argument("value", required=False)
@by_option
@json_option
@pass_session
def complete_promise(
    session: Session, token: str, value: str | None, by: str, as_json: bool
) -> None:
    """Give a promise its value, by its token. VALUE is JSON, or else a text."""
    with session.backend.client() as client:
        client.complete_promise(token, None if value is None else read_value(value), by=by)
        _sent(session, client, "promise completed", read_token(token)[0], as_json)


@command("heartbeat-promise", 'mini-workflow heartbeat-promise "$TOKEN" \'"page 3 of 7"\'')
@click.argument("token")
@click.argument("details", required=False)
@json_option
@pass_session
def heartbeat_promise(session: Session, token: str, details: str | None, as_json: bool) -> None:
    """Report that a promise is still worked on, by its token. DETAILS are JSON, or else a text."""
    with session.backend.client() as client:
        client.heartbeat_promise(token, None if details is None else read_value(details))
        _sent(session, client, "heartbeat sent", read_token(token)[0], as_json)


@command("fail-promise", "mini-workflow fail-promise \"$TOKEN\" 'the carrier refused'")
@click.argument("token")
@click.argument("why")
@by_option
@json_option
@pass_session
def fail_promise(session: Session, token: str, why: str, by: str, as_json: bool) -> None:
    """Fail a promise, by its token: the workflow gets a RuntimeError with the text WHY."""
    with session.backend.client() as client:
        client.fail_promise(token, why, by=by)
        _sent(session, client, "promise failed", read_token(token)[0], as_json)


COMMANDS: Final = (
    signal,
    query,
    update,
    cancel,
    terminate,
    pause,
    resume,
    retry,
    restart,
    fork,
    complete_promise,
    heartbeat_promise,
    fail_promise,
)

"""Translate the Python calls and arguments in an error into commands and options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import click

_PLACE: Final = re.compile(r"(\w+)(?:\((.*?)\))?: ")
"""The call that an error begins with, such as ``fork(at=9): ``."""

_CALL: Final = re.compile(r"(?:\b([Cc])all )?`?(?<![\w.])(\w+)\(\)`?")
_ARGUMENT: Final = re.compile(r"(?<![\w.'\"-])([a-z]+(?:_[a-z]+)*)=(?!\.\.\.)(?=([\s,;:.)]|$)?)")

_IDS: Final = ("execution_id", "schedule_id")
"""The arguments of commands that name an execution."""

_OTHER_CALLS: Final = {"ls": "list_executions"}
"""Commands whose calls have another name."""


def translate(
    text: str, ctx: click.Context | None, execution_id: str = "", *, arguments: bool = True
) -> str:
    """Return an error's text with the commands and options of the command line in it.

    A call without arguments, such as ``resume()``, becomes the command of that name, and an argument,
    such as ``start_at=``, the option of the command that was given. Other text stays, also calls that
    no command makes: their remedy is in the user's code. `execution_id` is the execution that commands
    are to name, if the command itself names none. Without `arguments` only calls are translated: for a
    text that is in part the user's own.
    """
    if ctx is None:
        return text
    commands, options = _commands(ctx), _options(ctx)
    given = next((ctx.params[one] for one in _IDS if ctx.params.get(one)), "")
    name = given or execution_id or "ID"

    def to_command(found: re.Match[str]) -> str:
        if found[2] not in commands:
            return found[0]
        path, command = commands[found[2]]
        of_one = any(parameter.name in _IDS for parameter in command.params)
        run = {"C": "Run ", "c": "run "}.get(found[1] or "", "")
        return f"{run}`{path} {name}`" if of_one else f"{run}`{path}`"

    def to_option(found: re.Match[str]) -> str:
        option, alone = options.get(found[1]), found[2] is not None
        in_signature = not alone and text[: found.start()].endswith(("(", ", "))
        if option is None or in_signature:
            return found[0]
        return option if alone else f"{option} "

    place = _PLACE.match(text)
    if place is not None and place[1] in commands:
        inside = f"{place[2]}: " if place[2] else ""
        text = inside + text[place.end() :]
    text = _CALL.sub(to_command, text)
    return _ARGUMENT.sub(to_option, text) if arguments else text


def _commands(ctx: click.Context) -> dict[str, tuple[str, click.Command]]:
    """Return paths and commands by the calls that they make; those of the command's own group come first."""
    found: dict[str, tuple[str, click.Command]] = {}
    for one in _upwards(ctx):
        if isinstance(one.command, click.Group):
            for name, command in one.command.commands.items():
                call = name.replace("-", "_")
                calls = (call, f"{call}_execution", f"{call}_executions")
                for known in calls if one.parent else (*calls, _OTHER_CALLS.get(name, call)):
                    found.setdefault(known, (f"{_path(one)} {name}", command))
    return found


def _options(ctx: click.Context) -> dict[str, str]:
    """Return the options and arguments of a command, and the options of its groups, by their names."""
    found: dict[str, str] = {}
    for one in _upwards(ctx):
        for parameter in one.command.params:
            if isinstance(parameter, click.Option):
                long = next((name for name in parameter.opts if name.startswith("--")), "")
                names = [parameter.name or "", *(_identifier(name) for name in parameter.opts)]
            else:
                long = (parameter.metavar or parameter.name or "").strip("[].").upper()
                names = [parameter.name or ""]
            for name in names if long else ():
                found.setdefault(name, long)
    return found


def _path(group: click.Context) -> str:
    """Return a group as users type it, however this process was started."""
    inner = [one.command.name or "" for one in _upwards(group) if one.parent is not None]
    return " ".join(("mini-workflow", *reversed(inner)))


def _identifier(option: str) -> str:
    return option.lstrip("-").replace("-", "_")


def _upwards(ctx: click.Context | None) -> Iterator[click.Context]:
    while ctx is not None:
        yield ctx
        ctx = ctx.parent

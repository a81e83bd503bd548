"""Write events as JSON text and read them, with a schema version and upcasters for older versions.

An event is one JSON object: its kind under ``event``, its fields, and ``v`` if the schema is not 1.
Fields that have their default are left out. Encoded values stand in it unchanged, so that people can
read a history in the store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import compress, count
from json.encoder import encode_basestring
from operator import is_not
from typing import Any, Final

from mini_workflow.core import events
from mini_workflow.core.events import Event
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload, dump_json, text_at_hand
from mini_workflow.core.records import MISSING, defaults_of, reader_of
from mini_workflow.errors import SchemaTooNew, WireError

SCHEMA: Final = 1
"""The schema version that this library writes."""

UPCASTERS: Final[dict[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}
"""For each older version the function that turns its plain event into one of the next version."""

_KINDS: Final[dict[str, Any]] = {
    kind.__name__: kind
    for kind in (*events.INCOMING, *events.RECORDED, *events.UNRECORDED, *events.REQUESTS)
}
_PAYLOADS: Final = {"arguments", "result", "value"}
_PLAIN: Final[dict[str, Callable[[Any], Any]]] = {
    "failure": Failure.to_plain,
    "heartbeat": lambda payload: payload.tree,
    "began_with": lambda payload: payload.tree,
}
"""Writers of the fields that are neither plain nor the payload of their event."""
_NAMES: Final[dict[type, tuple[str, ...]]] = {
    kind: tuple(n for n in defaults_of(kind) if n not in _PAYLOADS) for kind in _KINDS.values()
}
"""The fields of an event but its payload."""
_DEFAULTS: Final[dict[type, tuple[Any, ...]]] = {
    kind: tuple(defaults_of(kind)[name] for name in names) for kind, names in _NAMES.items()
}
_READ: Final[dict[type, Callable[[Any], tuple[Any, ...]]]] = {
    kind: reader_of(list(names)) for kind, names in _NAMES.items()
}
"""Functions that read those fields of an event, all at once."""
_PAYLOAD_FIELD: Final[dict[type, str]] = {
    kind: name for kind in _KINDS.values() for name in defaults_of(kind) if name in _PAYLOADS
}
_KIND: Final = '{"event":"'
"""The beginning of every line."""
_quote: Final[Callable[[str], str]] = encode_basestring
_INTEGERS: Final = (
    *("at", "seq", "attempt", "fire_at", "retry_at", "wait", "by", "begun"),
    *("delay", "start_at", "timeout", "heartbeat_timeout", "deadline"),
    *("run", "kept", "highest", "timer", "undoes", "part_of", "promise"),
)
_NUMBERS: Final[dict[type, tuple[str, ...]]] = {
    kind: tuple(name for name in defaults_of(kind) if name in _INTEGERS) for kind in _KINDS.values()
}
_OTHER_PAYLOADS: Final[dict[type, tuple[str, ...]]] = {
    kind: tuple(name for name in defaults_of(kind) if name in ("heartbeat", "began_with"))
    for kind in _KINDS.values()
}
_REQUIRED: Final[dict[type, frozenset[str]]] = {
    kind: frozenset(n for n, d in defaults_of(kind).items() if d is MISSING)
    for kind in _KINDS.values()
}


_IN_EACH_START: Final = {"at", "workflow", "seed", "python", "key", "behaviour", "arguments"}
"""The fields that differ from their defaults in most first events."""
_REST: Final = tuple(
    d for n, d in defaults_of(events.ExecutionStarted).items() if n not in _IN_EACH_START
)
_read_rest: Final[Callable[[Any], tuple[Any, ...]]] = reader_of(
    [n for n in defaults_of(events.ExecutionStarted) if n not in _IN_EACH_START]
)


def encode(event: Event | events.UnrecordedMessage | events.Request) -> str:
    """Return the event, or the message, as one line of JSON."""
    if SCHEMA == 1:
        # A short way for the kinds that most histories mainly consist of.
        if type(event) is events.TaskCompleted:
            begun = f',"begun":{event.begun}' if event.begun else ""
            if place := event.ran_on:
                begun += f',"ran_on":{_quote(place) if place.isascii() else dump_json(place)}'
            return (
                f'{{"event":"TaskCompleted","at":{event.at},"seq":{event.seq},"attempt":{event.attempt}'
                f'{begun},"result":{text_at_hand(event.result) or event.result.text}}}'
            )
        if type(event) is events.ExecutionCompleted:
            return f'{{"event":"ExecutionCompleted","result":{event.result.text}}}'
        if type(event) is events.ExecutionStarted and _read_rest(event) == _REST:
            workflow, python, key = event.workflow, event.python, event.key
            at, seed, behaviour = event.at, event.seed, event.behaviour
            if (
                (workflow.isascii() and python.isascii() and key.isascii())
                and (python and key and behaviour)
                and (type(at) is type(seed) is type(behaviour) is int)
            ):
                return (
                    f'{{"event":"ExecutionStarted","at":{at},"workflow":{_quote(workflow)},"seed":{seed},'
                    f'"python":{_quote(python)},"key":{_quote(key)},"behaviour":{behaviour},'
                    f'"arguments":{text_at_hand(event.arguments) or event.arguments.text}}}'
                )
        if (
            type(event) is events.TaskScheduled
            and event.retry is event.timeout is event.heartbeat_timeout is None
            and not event.refused
            and not event.worker
            and not event.undoes
            and not event.begun
            and event.map is None
            and event.limit is None
        ):
            name, call = event.name, event.call
            if name.isascii() and call.isascii():
                name, call = _quote(name), _quote(call)
            else:
                name, call = dump_json(name), dump_json(call)
            part = f',"part_of":{event.part_of}' if event.part_of else ""
            if event.call:
                return f'{{"event":"TaskScheduled","seq":{event.seq},"name":{name},"call":{call}{part}}}'
            return f'{{"event":"TaskScheduled","seq":{event.seq},"name":{name}{part}}}'
    return encode_any(event)


def encode_any(event: Event | events.UnrecordedMessage | events.Request) -> str:
    """Return the same text as `encode`, by one way for all kinds."""
    kind = type(event)
    # The text is joined from parts, since json.dumps of the whole takes longer.
    text = f'{{"event":"{kind.__name__}"'
    if SCHEMA != 1:
        text += f',"v":{SCHEMA}'
    names, values, defaults = _NAMES[kind], _READ[kind](event), _DEFAULTS[kind]
    # Most fields hold their default: those are passed over without a step of Python for each.
    for place in compress(count(), map(is_not, values, defaults)):
        name, value = names[place], values[place]
        if value == defaults[place]:
            continue
        if type(value) is str and value.isascii():
            value = _quote(value)
        elif type(value) is not int:
            to_plain = _PLAIN.get(name)
            value = dump_json(value if to_plain is None else to_plain(value))
        text += f',"{name}":{value}'
    name = _PAYLOAD_FIELD.get(kind)
    if name is not None:
        text += f',"{name}":{getattr(event, name).text}'
    return text + "}"


def kind_of(line: str) -> str:
    """Return the kind of an encoded event without decoding it; an empty text if the line is no event."""
    start = len(_KIND)
    return line[start : line.find('"', start)] if line.startswith(_KIND) else ""


def text_of(raw: bytes) -> str:
    """Return stored bytes as text. If they are not UTF-8, the text shows them and `decode` refuses it, so
    that only the readers of the damaged line fail.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"damaged, not UTF-8: {raw.decode(errors='backslashreplace')}"


def decode(line: str) -> Event:
    """Return the event that `encode` wrote.

    Raises:
        SchemaTooNew: a newer version of this library wrote it.
        WireError: the line is not an event.
    """
    try:
        plain: dict[str, Any] = json.loads(line)
        version = plain.pop("v", 1)
        name = plain.pop("event")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise WireError(f"not an event of a history: {line[:200]!r} ({error})") from error
    if version != SCHEMA:
        name, plain = _upcast(version, name, plain)
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise WireError(
            f"unknown event {name!r}: a newer version of mini-workflow may have written it; "
            "upgrade this process"
        )
    field = _PAYLOAD_FIELD.get(kind)
    try:
        if field is not None:
            plain[field] = Payload(tree=plain[field])
        if "failure" in plain:
            plain["failure"] = Failure.from_plain(plain["failure"])
        for other in _OTHER_PAYLOADS[kind]:
            if other in plain:
                plain[other] = Payload(tree=plain[other])
        for number in _NUMBERS[kind]:
            if number in plain and type(plain[number]) is not int:
                raise TypeError(f"{number} is {plain[number]!r}, not a whole number")
        return kind(**plain)
    except (KeyError, TypeError, AttributeError) as error:
        missing = sorted(_REQUIRED[kind] - plain.keys())
        also = f"; missing fields: {', '.join(missing)}" if missing else ""
        raise WireError(f"damaged event {name}: {error}{also}") from error


_SIMPLE: Final = r'[^"\\\x00-\x1f]*+'
"""A text of JSON without escapes."""
_COMPLETED: Final = (
    r'\{"event":"TaskCompleted","at":([0-9]+),"seq":([0-9]+),"attempt":([0-9]+)'
    rf'(?:,"begun":([0-9]+))?(?:,"ran_on":"({_SIMPLE})")?,"result":(.+)\}}'
)
_SCHEDULED: Final = (
    rf'\{{"event":"TaskScheduled","seq":([0-9]+),"name":"({_SIMPLE})"(?:,"call":"({_SIMPLE})")?'
    r'(?:,"part_of":([0-9]+))?\}'
)
"""Match the lines that `encode` writes in its short way."""

_TASK_LINES: Final = (
    r'^(?:\{"event":"Task(?:'
    rf'Scheduled","seq":([1-9][0-9]{{0,17}}),"name":"({_SIMPLE})"(?:,"call":"{_SIMPLE}")?'
    r'(?:,"part_of":([1-9][0-9]{0,17}))?|'
    r'Completed","at":([0-9]{1,18}),"seq":([1-9][0-9]{0,17}),"attempt":1(?:,"begun":[0-9]+)?'
    rf'(?:,"ran_on":"{_SIMPLE}")?,"result":.+)\}}|.*)$'
)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Return the compiled pattern: when a history is shown, since most processes show none."""
    return re.compile(text, re.MULTILINE if text is _TASK_LINES else re.DOTALL)


Column = list[str | None]
Columns = tuple[Column, Column, Column, Column, Column]


def task_lines(lines: Sequence[str]) -> Columns:
    """Return the facts about tasks in the lines, without decoding them, as five columns with an item for each
    line. For a TaskScheduled that `encode` writes in its short way: the number, the name. For a
    TaskCompleted of a first attempt: its time, its number. For a scheduled task of a map: the number of
    the map. Everything else is None.
    """
    # Makes no object for each line, since there are very many.
    found: list[Any] = _pattern(_TASK_LINES).split("\n".join(lines))
    if len(found) != 6 * len(lines) + 1:  # a damaged line may contain an end of line
        nothing: Column = [None] * len(lines)
        return nothing, nothing, nothing, nothing, nothing
    return found[1::6], found[2::6], found[4::6], found[5::6], found[3::6]


def decode_shown(line: str) -> Event:
    """Return the same event as `decode`, but parse the result of a task only when its `tree` is read, which
    raises ValueError or RecursionError if it is damaged. For views of histories. Raises like `decode`.
    """
    kind = line[10:25]
    if kind == 'TaskCompleted",' and (found := _pattern(_COMPLETED).fullmatch(line)) is not None:
        at, seq, attempt, begun, ran_on, result = found.groups()
        payload = Payload(result)
        return events.TaskCompleted(
            int(at), int(seq), int(attempt), payload, int(begun or 0), ran_on or ""
        )
    if kind == 'TaskScheduled",' and (found := _pattern(_SCHEDULED).fullmatch(line)) is not None:
        seq, name, call, part = found.groups()
        return events.TaskScheduled(
            seq=int(seq), name=name, call=call or "", part_of=int(part or 0)
        )
    return decode(line)


def _upcast(version: Any, name: Any, plain: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if type(version) is not int or version < 1:
        raise WireError(f"event {name!r} has the impossible schema version {version!r}")
    if version > SCHEMA:
        raise SchemaTooNew(
            f"event {name!r} has schema version {version}, this library reads versions up to {SCHEMA}: "
            "upgrade mini-workflow in this process"
        )
    plain["event"] = name
    while version < SCHEMA:
        plain = UPCASTERS[version](plain)
        version += 1
    return plain.pop("event"), plain


def decode_message(line: str) -> events.Message:
    """Return a message from the mailbox, or one that was parked. Raises WireError."""
    event = decode(line)
    if type(event) in events.RECORDED:
        raise WireError(f"not a message: {line[:200]!r}")
    return event  # type: ignore[return-value]

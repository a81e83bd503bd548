"""Write and read the object of an execution.

The object is JSON in lines: the first has the fields for listings, the second the pending effects of the
last commit. The parked messages and the newest events follow, a line each. Older events are sealed in
segments.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from itertools import repeat
from typing import Any, Final

from mini_workflow.core.records import frozen, replace
from mini_workflow.core.wire import text_of
from mini_workflow.errors import StoreCorrupt, StoreTooNew
from mini_workflow.ports import Commit, Head, QueuedMessage, StreamWrite
from mini_workflow.ports.queue import NO_EFFECTS, NO_WAKEUPS, PendingEffects, Wakeup, Wakeups
from mini_workflow.stores.s3.index import place_of

SCHEMA: Final = 4
"""The newest version of this form. Before 4 no id was used again, before 3 executions had no tags, and
before 2 all markers of a status were below one prefix."""

_WITH_TAGS: Final = 3
_WITHOUT_TAGS: Final = 2
"""The versions that are written where they are enough, so that older processes can read the object."""

_HEAD: Final = '{"head":'
_EFFECTS: Final = '"errands":'
_PARKED: Final = '"parked":['
_EVENTS: Final = '"events":['
_END: Final = "]}"

_NOTES: Final = ("waits", "progress")
"""The fields of a head in the second line, where older processes ignore them."""

_NUMBERS: Final = (
    *("fingerprint", "born", "length", "sealed", "segments", "first", "turn", "writer", "tries"),
    *("spread", "unlisted", "deleted"),
)
"""The fields of the first line that are left out when they are empty."""

_ELSEWHERE: Final = frozenset({"parent", *_NOTES})
_dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@frozen
class ExecutionObject:
    """The object of an execution.

    Attributes:
        length: the number of events, over all runs.
        sealed: the number of events in segments; the others are the `tail`.
        segments: the number of segments.
        first: the segment in which the current run begins, or `segments` if that is in the tail.
        begins: the number of the first event in segment `first`; None if an older process began the run.
        unswept: the oldest segment before `first` that may still exist; None if there is none.
        fingerprint: that of the arguments of the start.
        born: the time of the first write, in microseconds since the epoch.
        turn: the number of writes.
        writer: another text with each write, behind the version of the orchestrator: see `written_by`.
        spread: 1 if the markers in the index are spread over prefixes.
        unlisted: 1 as long as there may be no marker.
        deleted: the number of events of deleted executions that had the id before.
        etag: that of the object which was read.
    """

    head: Head
    parent: dict[str, Any] | None = None
    fingerprint: str = ""
    born: int = 0
    length: int = 0
    sealed: int = 0
    segments: int = 0
    first: int = 0
    turn: int = 0
    writer: str = ""
    tries: int = 0
    spread: int = 0
    unlisted: int = 0
    deleted: int = 0
    unswept: int | None = None
    begins: int | None = None
    wakeup: Wakeups = NO_WAKEUPS
    pending: PendingEffects = NO_EFFECTS
    parked: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    etag: str = ""

    def after(
        self, commit: Commit, pending: PendingEffects, wakeup: Wakeups, tries: int, writer: str
    ) -> ExecutionObject:
        """Return the document behind a commit, written by a writer of that name."""
        head = commit.head or self.head
        first, begins = self.first, self.begins
        if head.base != self.head.base:
            # The beginning of the new run is not sealed yet, and will be in the next segment or later.
            first, begins = self.segments, self.sealed
        return replace(
            self,
            head=head,
            length=self.length + len(commit.events),
            first=first,
            begins=begins,
            turn=self.turn + 1,
            writer=writer,
            tries=tries,
            unlisted=0,
            wakeup=wakeup,
            pending=pending,
            parked=(*(() if commit.unpark else self.parked), *commit.park),
            tail=(*self.tail, *commit.events),
        )

    @property
    def place(self) -> str:
        """The place of the execution in listings."""
        head = self.head
        return place_of(head.execution_id, head.workflow, head.started_at, self.born)

    @property
    def written_by(self) -> str:
        """The version of the orchestrator that wrote the object; empty if it has none."""
        version, dot, _ = self.writer.partition(".")
        return version if dot else ""

    @property
    def listed(self) -> bool:
        """Whether the execution has a marker in the index."""
        return not self.unlisted

    @property
    def version(self) -> int:
        """The number of writes."""
        return self.turn

    def tail_bytes(self) -> int:
        """Return the size of the tail in bytes."""
        return sum(map(len, map(str.encode, self.tail)))


def encode(document: ExecutionObject) -> bytes:
    """Return the object."""
    head = document.head
    older = _WITH_TAGS if head.tags else _WITHOUT_TAGS
    header: dict[str, Any] = {"schema": SCHEMA if document.deleted else older}
    header.update(
        [
            (k, v)
            for k, v in asdict(head).items()
            if v is not None and v is not False and k not in _ELSEWHERE and (k != "tags" or v)
        ]
    )
    header.update([(k, v) for k in _NUMBERS if (v := getattr(document, k))])
    if document.parent is not None:
        header["parent"] = document.parent
    pending = document.pending
    plain: dict[str, Any] = {k: v for k in _NOTES if (v := getattr(head, k))}
    for name, wakeup in (("alarm", document.wakeup.timer), ("deadline", document.wakeup.deadline)):
        if wakeup is not None:
            header[name] = [wakeup.at, wakeup.schedule]
    if document.unswept is not None:
        # Older processes ignore it, and keep those segments until the execution is deleted.
        plain["unswept"] = document.unswept
    if document.begins is not None:
        plain["begins"] = document.begins
    if pending.tasks:
        plain["tasks"] = pending.tasks
    if pending.outbox:
        plain["outbox"] = [(out.execution_id, out.body, out.key) for out in pending.outbox]
    if pending.wakeup:
        plain["alarm"] = True
    if pending and pending.caused_by:
        plain["causes"] = pending.caused_by
    if pending.unconfirmed:
        plain["doubtful"] = True
    if pending.chunks:
        plain["chunks"] = [
            (one.stream, one.source, one.attempt, one.number, one.body) for one in pending.chunks
        ]
    return "\n".join(
        (
            f"{_HEAD}{_dump(header)},",
            f"{_EFFECTS}{_dump(plain)},",
            _PARKED,
            *_listed(document.parked),
            "],",
            _EVENTS,
            *_listed(document.tail),
            _END,
        )
    ).encode()


def decode(body: bytes, etag: str) -> ExecutionObject:
    """Return the document in an object. Raises StoreCorrupt or StoreTooNew."""
    try:
        lines = _lines(body)
        plain = json.loads(lines[1][len(_EFFECTS) : -1])
        document = _noted(_header(lines[0]), plain)
        end = lines.index("],", 3)
        if lines[2] != _PARKED or lines[end + 1] != _EVENTS or lines[-1] != _END:
            raise ValueError("a line is out of place")
        pending = PendingEffects(
            tasks=tuple((seq, attempt) for seq, attempt in plain.get("tasks", ())),
            outbox=tuple(QueuedMessage(*fields) for fields in plain.get("outbox", ())),
            wakeup=plain.get("alarm", False),
            caused_by=tuple(plain.get("causes", ())),
            unconfirmed=plain.get("doubtful", False),
            chunks=tuple(
                StreamWrite(document.head.execution_id, *fields)
                for fields in plain.get("chunks", ())
            ),
        )
        return replace(
            document,
            unswept=plain.get("unswept"),
            begins=plain.get("begins"),
            pending=pending,
            parked=tuple(_unlisted(lines[3:end])),
            tail=tuple(_unlisted(lines[end + 2 : -1])),
            etag=etag,
        )
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise _corrupt(body, error) from error


def decode_header(body: bytes) -> ExecutionObject | None:
    """Return the document without its lines, from the beginning of an object; None if that is too short.

    The waits of the execution are left out if the second line does not fit. Raises StoreCorrupt or
    StoreTooNew.
    """
    first, newline, rest = body.partition(b"\n")
    if not newline:
        return None
    second, whole, _ = rest.partition(b"\n")
    try:
        plain: dict[str, Any] = json.loads(second.decode()[len(_EFFECTS) : -1]) if whole else {}
        return _noted(_header(first.decode()), plain)
    except (ValueError, KeyError, TypeError) as error:
        raise _corrupt(body, error) from error


def encode_segment(events: Iterable[str]) -> bytes:
    """Return a segment: its events, a line each, in a JSON list."""
    return "\n".join(("[", *_listed(tuple(events)), "]")).encode()


def decode_segment(body: bytes) -> list[str]:
    """Return the events of a segment."""
    return list(_unlisted(_lines(body)[1:-1]))


def _header(line: str) -> ExecutionObject:
    if not line.startswith(_HEAD):
        raise ValueError("it does not begin with its head")
    plain = json.loads(line[len(_HEAD) : -1])
    schema = plain.pop("schema")
    if schema > SCHEMA:
        raise StoreTooNew(
            f"execution {plain.get('execution_id')!r} was written in form {schema}, and this "
            f"version of mini-workflow reads forms up to {SCHEMA}: deploy a newer version"
        )
    wakeup = Wakeups(*(_wakeup(plain.pop(name, None)) for name in ("alarm", "deadline")))
    rest = {name: plain.pop(name) for name in ("parent", *_NUMBERS) if name in plain}
    about: dict[str, Any] | None = rest.get("parent")
    # An execution that is only notified of the end is no parent: see `engine.runs.parent_of`.
    parent = None if about is None or "notify" in about else about["id"]
    head = Head(**plain, parent=parent)
    return ExecutionObject(head, wakeup=wakeup, **rest)


def _noted(document: ExecutionObject, plain: dict[str, Any]) -> ExecutionObject:
    """Return the document with the fields of its head from the second line."""
    notes = {name: plain[name] for name in _NOTES if name in plain}
    return replace(document, head=replace(document.head, **notes)) if notes else document


def _wakeup(plain: list[Any] | None) -> Wakeup | None:
    return None if plain is None else Wakeup(*plain)


def _lines(body: bytes) -> list[str]:
    """Return the lines of an object. Damaged lines become errors only when they are read."""
    try:
        return body.decode().split("\n")
    except UnicodeDecodeError:
        return list(map(text_of, body.split(b"\n")))


def _corrupt(body: bytes, error: Exception) -> StoreCorrupt:
    return StoreCorrupt(f"not the object of an execution ({error}): {body[:200]!r}")


def _listed(lines: tuple[str, ...]) -> Iterable[str]:
    """Return the lines of a JSON list: JSON objects on one line as they are, other texts as strings."""
    if not lines:
        return ()
    text = ",\n".join(lines)
    if text.count("\n") != len(lines) - 1 or not all(map(str.startswith, lines, repeat("{"))):
        fits = (line[:1] == "{" and "\n" not in line for line in lines)
        text = ",\n".join(
            line if fit else _dump(line) for line, fit in zip(lines, fits, strict=True)
        )
    return text.split("\n")


def _unlisted(lines: list[str]) -> Iterable[str]:
    last = len(lines) - 1
    for index, line in enumerate(lines):
        plain = line if index == last else line[:-1]
        yield json.loads(plain) if plain[:1] == '"' else plain

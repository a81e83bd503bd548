"""Write and read the tombstone that takes the place of a deleted execution's object.

A tombstone blocks the id while objects of the execution remain, and after that keeps its number of
events. A new execution with the id takes its place; otherwise a rule of the bucket removes it by its tag.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from mini_workflow.core.records import frozen

SCHEMA: Final = 4
"""The version of this form, which older versions of the library refuse."""

TAG: Final = "mini-workflow=deleted"
"""The tag of the object, by which the bucket's rule finds it."""

_BEGINNING: Final = f'{{"head":{{"schema":{SCHEMA},"deleted":'
_END: Final = "}}"


@frozen
class Tombstone:
    """The rest of a deleted execution in a bucket.

    Attributes:
        events: the number of events of all deleted executions with the id.
        at: the time of the last deletion, in milliseconds since the epoch.
        place, spread: the place of the execution in the index.
        tags: the tags of the execution, as text.
        writer: another text with each write.
        finished: whether all objects of the execution are removed.
        etag: that of the object which was read.
    """

    events: int
    at: int
    place: str
    spread: int
    tags: str = ""
    writer: str = ""
    finished: bool = False
    etag: str = ""


def encode(tombstone: Tombstone) -> bytes:
    """Return the object."""
    plain: dict[str, Any] = {k: v for k, v in asdict(tombstone).items() if v and k != "etag"}
    text = json.dumps(plain, separators=(",", ":"), ensure_ascii=False)
    return f"{_BEGINNING}{text}{_END}".encode()


def decode(body: bytes, etag: str) -> Tombstone | None:
    """Return the tombstone, or None for another object. Raises ValueError if it is damaged or cut off."""
    if not body.startswith(_BEGINNING.encode()):
        return None
    plain = json.loads(body.decode()[len(_BEGINNING) : -len(_END)])
    return Tombstone(**plain, etag=etag)

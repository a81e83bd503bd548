"""Leave a tombstone where the object of a deleted execution was.

It keeps the id from being used while something of the execution is still to be removed, and after that
says how many events it had. A rule of the bucket removes it, by its tag, once that does not matter any
more; an execution that gets the id takes its place before.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from mini_workflow.core.records import frozen

SCHEMA: Final = 4
"""The version of this form: versions of the library that read less say so."""

TAG: Final = "mini-workflow=deleted"
"""The tag of the object, by which the bucket's rule finds it."""

_BEGINNING: Final = f'{{"head":{{"schema":{SCHEMA},"deleted":'
_END: Final = "}}"


@frozen
class Tombstone:
    """The number of `events` that the executions had which were deleted here, all together, when
    the last one was
    deleted, where it stood in listings (`place`, `spread`) and the `tags` by which it was found. It is
    `finished` when nothing of it is left. `etag` is of the object.
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
    """Return the tombstone, or None if it is another object. Raises ValueError if it is damaged, or not
    whole.
    """
    if not body.startswith(_BEGINNING.encode()):
        return None
    plain = json.loads(body.decode()[len(_BEGINNING) : -len(_END)])
    return Tombstone(**plain, etag=etag)

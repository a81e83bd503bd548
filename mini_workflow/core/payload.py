"""Payload: an encoded value, as JSON text or as the parsed JSON tree, each made from the other if needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def dump_json(tree: Any) -> str:
    """Return the tree as JSON text that every store takes. It is ASCII if the tree has lone surrogates,
    which UTF-8 cannot encode.
    """
    text = _encode(tree)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return json.dumps(tree, separators=(",", ":"))
    return text


ENCODED_FINGERPRINT: Final = "encoded:"
"""The beginning of the fingerprint of an encrypted payload. One checksum by each key follows."""


class Payload:
    """A value in its encoded form.

    Stores hold the text, decoders want the tree; each is made from the other at most once. The
    tree is the plain result of ``json.loads`` and must not be changed.
    """

    __slots__ = ("_text", "_tree")

    def __init__(self, text: str | None = None, tree: Any = None) -> None:
        self._text = text
        self._tree: Any = _UNREAD if text is not None else tree

    @property
    def text(self) -> str:
        """The JSON text."""
        if self._text is None:
            self._text = dump_json(self._tree)
        return self._text

    @property
    def tree(self) -> Any:
        """The parsed JSON."""
        if self._tree is _UNREAD:
            self._tree = json.loads(self._text or "null")
        return self._tree

    def fingerprint(self) -> str:
        """Return a text that only equal payloads share. For an encrypted payload, see `matches`."""
        tree = self.tree
        if type(tree) is dict and "same" in tree and tree.get("$") == "encoded":  # pyright: ignore[reportUnknownMemberType]
            return str(tree["same"])  # pyright: ignore[reportUnknownArgumentType]
        from hashlib import sha256

        canonical = json.dumps(tree, separators=(",", ":"), sort_keys=True)
        return sha256(canonical.encode()).hexdigest()

    def matches(self, fingerprint: str) -> bool:
        """Return whether an equal payload has that fingerprint. An encrypted payload has a checksum by each
        key of its key ring; one common checksum is enough.
        """
        own = self.fingerprint()
        if not own.startswith(ENCODED_FINGERPRINT) or not fingerprint.startswith(
            ENCODED_FINGERPRINT
        ):
            return own == fingerprint
        start = len(ENCODED_FINGERPRINT)
        return bool({*own[start:].split(",")} & {*fingerprint[start:].split(",")})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Payload):
            return NotImplemented
        return self.tree == other.tree

    # Equal trees may be written as different texts, so there is no cheap hash that fits.
    __hash__: ClassVar[None]  # pyright: ignore[reportIncompatibleMethodOverride]

    def __repr__(self) -> str:
        return f"Payload({self.text})"


_UNREAD: Final = object()

text_at_hand: Final[Callable[[Payload], str | None]] = cast(Any, Payload)._text.__get__
"""Return the JSON text of a payload if it has been made, otherwise None: then the payload has its tree.
Reads a slot, without a Python call.
"""

EMPTY: Final = Payload(text="null")

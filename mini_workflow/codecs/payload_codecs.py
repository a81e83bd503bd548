"""Declare a PayloadCodec, which encodes the bytes of values and failures before they leave the process (for
example compresses or encrypts them), and the form in which such a payload is stored.

``{"$": "encoded", "by": ["zlib", "aes-gcm:2026"], "v": "<base64>"}`` is a value that was compressed and
then encrypted with the key named 2026.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from mini_workflow.codecs.kinds import Kind
from mini_workflow.core.records import frozen
from mini_workflow.errors import CodecMismatch, PayloadNotReadable, UsageError

if TYPE_CHECKING:
    from mini_workflow.codecs.decoding import Decoder

ENCODED: Final = "encoded"
"""The tag of a value that a payload codec has encoded."""

ENCODED_TEXT: Final = '{"$":"encoded"'
"""The beginning of a text that a payload codec has encoded."""

ENCODED_CALL: Final = b"mwe1;"
"""The beginning of a call that a payload codec has encoded."""

_MINIMUM: Final = 256
"""Bytes below which compression is not tried, since it saves little. Our own bound."""

_LARGEST: Final = 1_000_000_000
"""Bytes that a decompressed payload may have: more than any value that was stored. Our own bound."""


@frozen
class PayloadContext:
    """The place that a payload belongs to: the execution of that id, and the kind of payload ("value",
    "arguments", "call", "failure" or "traceback"). It is the same for `encode` and `decode`.
    """

    execution_id: str
    kind: str


class PayloadCodec(Protocol):
    """Encodes bytes, and decodes them again. The methods are called on any thread, also on that of workflow
    code, so that they must not wait for anything outside. With worker processes it must be picklable.
    """

    @property
    def name(self) -> str:
        """The name of the codec in stored payloads, which must never change: letters, digits, `-`."""
        ...

    @property
    def key_id(self) -> str:
        """The name of the key that encodes now, for people to read; empty without a key."""
        ...

    @property
    def is_private(self) -> bool:
        """Whether the data must not be readable anywhere else, such as in errors and logs."""
        ...

    def encode(self, data: bytes, context: PayloadContext) -> bytes:
        """Return the data encoded, or the very same object to leave it as it is."""
        ...

    def decode(self, data: bytes, context: PayloadContext) -> bytes:
        """Return the data before encoding. Raises PayloadNotReadable, whose message has the remedy."""
        ...

    def digests(self, data: bytes, context: PayloadContext) -> Sequence[str]:
        """Return texts that are the same for the same data and context, one for each key. Without the key
        they reveal nothing about the data. Called only if `is_private`.
        """
        ...


Codecs = PayloadCodec | Sequence[PayloadCodec]
"""One payload codec, or several, of which the first encodes first."""


class CompressionCodec:
    """Compresses payloads of `minimum` bytes or more by zlib, if that makes them smaller.

    Put it in front of a codec that encrypts: ``codec=[CompressionCodec(), EncryptionCodec(keys)]``. The
    stored length then reveals how well the data could be compressed.

    Args:
        level: 1 is fastest, 9 smallest.
        minimum: bytes below which a payload stays as it is.

    Raises UsageError if an argument is out of range.
    """

    name: str = "zlib"
    key_id: str = ""
    is_private: bool = False

    def __init__(self, level: int = 6, minimum: int = _MINIMUM) -> None:
        if not 1 <= level <= 9:
            raise UsageError(f"CompressionCodec(level={level!r}): give 1 to 9")
        if minimum < 0:
            raise UsageError(f"CompressionCodec(minimum={minimum!r}): give 0 bytes or more")
        self._level = level
        self._minimum = minimum

    def encode(self, data: bytes, context: PayloadContext) -> bytes:
        """See `PayloadCodec.encode`."""
        if len(data) < self._minimum:
            return data
        packed = zlib.compress(data, self._level)
        return packed if len(packed) < len(data) else data

    def decode(self, data: bytes, context: PayloadContext) -> bytes:
        """See `PayloadCodec.decode`."""
        unpacker = zlib.decompressobj()
        try:
            plain = unpacker.decompress(data, _LARGEST)
        except zlib.error as error:
            raise PayloadNotReadable(f"a compressed payload is damaged: {error}") from error
        if not unpacker.eof or unpacker.unused_data:
            raise PayloadNotReadable("a compressed payload is damaged: it is cut, or too long")
        return plain

    def digests(self, data: bytes, context: PayloadContext) -> Sequence[str]:
        """See `PayloadCodec.digests`. Raises UsageError, since this codec is not private."""
        raise UsageError(
            "a CompressionCodec has no digests, since it is not private: encrypt with EncryptionCodec"
        )


def is_encoded(tree: Any) -> bool:
    """Return whether a payload codec has encoded a tree."""
    return isinstance(tree, dict) and bool(tree.get("$") == ENCODED)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def bytes_of(tree: dict[str, Any]) -> bytes:
    """Return the encoded bytes of a tree. Raises PayloadNotReadable."""
    try:
        return base64.b64decode(tree["v"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise PayloadNotReadable(f"an encoded value is damaged: {error}") from error


def shown_encoded(tree: dict[str, Any]) -> str:
    """Return a description of an encoded value, which is not decoded."""
    size = len(str(tree.get("v", ""))) * 3 // 4
    return f"<{encoded_by(tree.get('by'))}, {size} bytes>"


def encoded_by(labels: Any) -> str:
    """Return the codecs of a payload in words, such as ``encoded by zlib, aes-gcm (key 2026)``."""
    if not isinstance(labels, list):
        return "encoded"
    words: list[str] = []
    for label in labels:  # pyright: ignore[reportUnknownVariableType]
        name, _, key = str(label).partition(":")  # pyright: ignore[reportUnknownArgumentType]
        words.append(f"{name} (key {key})" if key else name)
    return f"encoded by {', '.join(words)}"


def read_encoded_call(payload: bytes) -> tuple[Any, bytes]:
    """Return the labels of the codecs of an encoded call, and its bytes. Raises PayloadNotReadable."""
    labels, _, data = payload[len(ENCODED_CALL) :].partition(b"\n")
    try:
        return json.loads(labels), data
    except ValueError:
        raise PayloadNotReadable(
            "the bytes of an encoded call are damaged: they do not name the codecs that encoded them"
        ) from None


def needs_codec(labels: Any) -> CodecMismatch:
    """Return the error for an encoded payload in a process without the codec."""
    return CodecMismatch(
        f"it is {encoded_by(labels)}, and this process has no such codec: give the runtime the same "
        "codec (codec=, or --codec on the command line)"
    )


def _refuse(_decoder: Decoder, tree: dict[str, Any]) -> Any:
    error = needs_codec(tree.get("by"))
    raise CodecMismatch(f"a stored value cannot be read: {error}")


def _never(_encoder: object, _value: object) -> Any:
    raise AssertionError("no value is of this kind")


ENCODED_KIND: Final = Kind((), _never, _refuse, lambda _decoder, tree: shown_encoded(tree))
"""The kind of encoded values in a process without the codec: an error, or a text for people."""

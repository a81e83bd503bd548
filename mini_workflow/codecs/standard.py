"""StandardCodec: the codec that every runtime uses unless it is given another."""

from __future__ import annotations

import json
from copy import copy
from typing import Any, Final

from mini_workflow.codecs.closures import capture_call, restore_call, share_call
from mini_workflow.codecs.failures import decode_failure, encode_failure, show_failure
from mini_workflow.codecs.fingerprints import fingerprint_call, outline_payload
from mini_workflow.codecs.signing import Signer, ValueSigner
from mini_workflow.codecs.values import decode_value, encode_value, show_value
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload, text_at_hand
from mini_workflow.errors import ValueTooLarge

DEFAULT_VALUE_LIMIT: Final = 32 * 1024 * 1024
"""Bytes that one value (an argument, a result, what a signal carries, ...) may take, encoded. Our own
bound: it is written and read as a whole, and kept in memory with the execution."""

MAXIMUM_VALUE_LIMIT: Final = 256 * 1024 * 1024
"""Bytes to which the limit can be raised. SQLite refuses texts from 1,000,000,000 bytes on."""

_LONGEST_CHARACTER: Final = 4
"""Bytes of a character in UTF-8, at most."""

_TOLD: Final = 200
"""Characters of the message that are told of an exception which is too large."""


class StandardCodec:
    """Typed JSON for values and exceptions, pickled bytecode for calls.

    With a `signer`, the parts of values and exceptions that have to be pickled are signed, and
    refused when they are not. Use `for_execution`: they are valid in one execution only, and what is
    encoded without it, in none. Calls are signed by whoever sends them, who knows the attempt.

    Without `trust` values are loaded for looking only: classes of modules that are imported, and
    pickled parts that are signed. The rest is PayloadNotReadable.

    A value of more than `value_limit` bytes is refused: ValueTooLarge.
    """

    __slots__ = ("_signer", "_trust", "_value_limit")

    def __init__(
        self,
        signer: Signer | None = None,
        *,
        value_limit: int = DEFAULT_VALUE_LIMIT,
        trust: bool = True,
    ) -> None:
        self._signer = None if signer is None else ValueSigner(signer, "")
        self._trust = trust
        self._value_limit = value_limit

    def for_execution(self, execution_id: str) -> StandardCodec:
        """See `Codec.for_execution`."""
        if self._signer is None:
            return self
        bound = copy(self)
        bound._signer = ValueSigner(self._signer.signer, execution_id)
        return bound

    def encode(self, value: object, path: str) -> Payload:
        """See `Codec.encode`."""
        payload = encode_value(value, path, self._signer)
        text = text_at_hand(payload) or payload.text
        if len(text) * _LONGEST_CHARACTER > self._value_limit and (size := self._size_beyond(text)):
            raise ValueTooLarge(f"the {path} takes {size:,} bytes. {self._remedy()}", path=path)
        return payload

    def decode(self, payload: Payload) -> Any:
        """See `Codec.decode`. Also raises PythonVersionMismatch and SignatureInvalid."""
        return decode_value(payload, self._signer, trust=self._trust)

    def decode_ordered(self, payload: Payload) -> Any:
        """See `Codec.decode_ordered`. Raises like `decode`."""
        return decode_value(payload, self._signer, ordered=True, trust=self._trust)

    capture = staticmethod(capture_call)
    fingerprint = staticmethod(fingerprint_call)
    outline = staticmethod(outline_payload)
    restore = staticmethod(restore_call)
    show = staticmethod(show_value)
    show_failure = staticmethod(show_failure)

    def encode_failure(self, error: BaseException) -> Failure:
        """See `Codec.encode_failure`. Of one that is too large only that is told."""
        failure = encode_failure(error, self._signer)
        size = self._size_beyond(json.dumps(failure.to_plain(), ensure_ascii=False))
        if size:
            told = f"{failure.type.rpartition(':')[2]}: {failure.message[:_TOLD]}"
            return encode_failure(
                ValueTooLarge(f"an exception takes {size:,} bytes ({told}...). {self._remedy()}")
            )
        return failure

    def decode_failure(self, failure: Failure) -> BaseException:
        """See `Codec.decode_failure`."""
        return decode_failure(failure, self._signer, trust=self._trust)

    def _size_beyond(self, text: str) -> int:
        """Return how many bytes a text takes if that is more than a value may; 0 otherwise."""
        if len(text) * _LONGEST_CHARACTER <= self._value_limit:
            return 0
        size = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
        return size if size > self._value_limit else 0

    def _remedy(self) -> str:
        return (
            f"One value may take {self._value_limit:,} bytes (value_limit of the runtime): keep large "
            "data in a file or an object store and pass its name, or raise the limit"
        )


class InProcessCodec(StandardCodec):
    """A codec of a runtime whose tasks all run in its process: its captured calls are for nobody else,
    and bytes only where something in them may change.
    """

    __slots__ = ()

    capture = staticmethod(share_call)  # pyright: ignore[reportAssignmentType] of others, bytes alone

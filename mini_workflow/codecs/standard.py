"""StandardCodec: the default codec of every runtime."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from copy import copy
from typing import TYPE_CHECKING, Any, Final

from mini_workflow.codecs.closures import capture_call, restore_call, share_call
from mini_workflow.codecs.failures import decode_failure, encode_failure, show_failure
from mini_workflow.codecs.fingerprints import fingerprint_call, outline_payload
from mini_workflow.codecs.payload_codecs import Codecs, is_encoded, needs_codec
from mini_workflow.codecs.signing import Signer, ValueSigner
from mini_workflow.codecs.values import decode_value, encode_value, show_value
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload, text_at_hand
from mini_workflow.core.records import replace
from mini_workflow.errors import CodecMismatch, ValueNotSerializable, ValueTooLarge

if TYPE_CHECKING:
    from mini_workflow.codecs.chained import ChainedCodec

DEFAULT_VALUE_LIMIT: Final = 32 * 1024 * 1024
"""Bytes that one encoded value (an argument, a result, the value of a signal, ...) may take. Our own bound: a
value is written and read as a whole, and kept in memory with the execution."""

MAXIMUM_VALUE_LIMIT: Final = 256 * 1024 * 1024
"""Bytes to which the limit can be raised. SQLite refuses texts from 1,000,000,000 bytes on."""

_LONGEST_CHARACTER: Final = 4
"""Bytes of a character in UTF-8, at most."""

_NO_ARGUMENTS: Final = Payload(text="[[],{}]")
"""Shared, since each execution keeps its own for as long as it waits."""

_QUOTED: Final = 200
"""Characters that are quoted of the message of an exception which is too large."""


class StandardCodec:
    """Typed JSON for values and exceptions, pickled bytecode for calls.

    With a `signer`, the parts of values and exceptions that have to be pickled are signed, and refused if
    they are not. Use `for_execution`, since a signed part is valid in one execution only; without it, in
    none. The sender of a call signs it, since it knows the attempt.

    Without `trust` only classes of imported modules and signed pickled parts are loaded; anything else
    raises PayloadNotReadable.

    With `in_process` all tasks run in this process: captured calls do not leave it, and are bytes only if
    a part of them may change.

    A value of more than `value_limit` bytes raises ValueTooLarge.
    """

    __slots__ = ("_signer", "_trust", "_value_limit", "capture", "in_process")

    is_private: bool = False

    def __init__(
        self,
        signer: Signer | None = None,
        *,
        value_limit: int = DEFAULT_VALUE_LIMIT,
        trust: bool = True,
        in_process: bool = False,
    ) -> None:
        self._signer = None if signer is None else ValueSigner(signer, "")
        self._trust = trust
        self._value_limit = value_limit
        self.in_process: Final = in_process
        self.capture: Callable[..., Any] = share_call if in_process else capture_call

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

    def for_run(self, arguments: Payload) -> StandardCodec:
        """See `Codec.for_run`."""
        return self

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """See `Codec.encode_arguments`."""
        if not kwargs:
            if not args:
                return _NO_ARGUMENTS
            if (positional := self._at_once(args)) is not None:
                return Payload(f"[[{positional}],{{}}]")
        encode = self.encode
        positional = ",".join(
            [encode(value, f"argument {number}").text for number, value in enumerate(args, 1)]
        )
        keyword = ",".join(
            [
                f"{json.dumps(name)}:{encode(value, f'argument {name!r}').text}"
                for name, value in kwargs.items()
            ]
        )
        return Payload(text=f"[[{positional}],{{{keyword}}}]")

    def _at_once(self, values: Iterable[object]) -> str | None:
        """Return the texts of values, joined; None if each needs a look of its own, since one of them cannot
        be encoded, or may be too large.
        """
        signer = self._signer
        try:
            text = ",".join([text_at_hand(encode_value(v, "value", signer)) or "" for v in values])
        except ValueNotSerializable:
            return None
        return text if len(text) * _LONGEST_CHARACTER <= self._value_limit else None

    def decode(self, payload: Payload) -> Any:
        """See `Codec.decode`. Also raises PythonVersionMismatch and SignatureInvalid."""
        return decode_value(payload, self._signer, trust=self._trust)

    def decode_ordered(self, payload: Payload) -> Any:
        """See `Codec.decode_ordered`. Raises like `decode`."""
        return decode_value(payload, self._signer, ordered=True, trust=self._trust)

    fingerprint = staticmethod(fingerprint_call)
    outline = staticmethod(outline_payload)
    restore = staticmethod(restore_call)
    show = staticmethod(show_value)
    show_failure = staticmethod(show_failure)

    def encode_failure(self, error: BaseException) -> Failure:
        """See `Codec.encode_failure`. An exception that is too large becomes a ValueTooLarge."""
        failure = encode_failure(error, self._signer)
        size = self._size_beyond(json.dumps(failure.to_plain(), ensure_ascii=False))
        if size:
            start = f"{failure.type.rpartition(':')[2]}: {failure.message[:_QUOTED]}"
            return encode_failure(
                ValueTooLarge(f"an exception takes {size:,} bytes ({start}...). {self._remedy()}")
            )
        return failure

    def decode_failure(self, failure: Failure, *, ordered: bool = False) -> BaseException:
        """See `Codec.decode_failure`."""
        self.plain_failure(failure)
        return decode_failure(failure, self._signer, ordered=ordered, trust=self._trust)

    def moved(self, payload: Payload, target: StandardCodec) -> Payload:
        """See `Codec.moved`."""
        if self._signer is None:
            return payload
        return target.encode(self.decode(payload), "value")

    def moved_failure(self, failure: Failure, target: StandardCodec) -> Failure:
        """See `Codec.moved_failure`."""
        if self._signer is None:
            return failure
        moved = target.encode_failure(self.decode_failure(failure))
        return replace(
            failure,
            state=moved.state,
            cause=None if failure.cause is None else self.moved_failure(failure.cause, target),
        )

    def plain_payload(self, payload: Payload) -> Payload:
        """See `Codec.plain_payload`."""
        if is_encoded(payload.tree):
            error = needs_codec(payload.tree.get("by"))
            raise CodecMismatch(f"a stored value cannot be read: {error}")
        return payload

    def plain_failure(self, failure: Failure) -> Failure:
        """See `Codec.plain_failure`."""
        if is_encoded(failure.state):
            error = needs_codec(failure.state.get("by"))
            raise CodecMismatch(f"a stored exception ({failure.type}) cannot be read: {error}")
        return failure

    def _size_beyond(self, text: str) -> int:
        """Return the bytes of a text if they exceed the limit of a value; otherwise 0."""
        if len(text) * _LONGEST_CHARACTER <= self._value_limit:
            return 0
        size = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
        return size if size > self._value_limit else 0

    def _remedy(self) -> str:
        return (
            f"One value may take {self._value_limit:,} bytes (value_limit of the runtime): keep large "
            "data in a file or an object store and pass its name, or raise the limit"
        )


def with_codecs(standard: StandardCodec, given: Codecs | None) -> StandardCodec | ChainedCodec:
    """Return the codec of a runtime with these payload codecs, or without any. Raises UsageError."""
    if given is None:
        return standard
    from mini_workflow.codecs.chained import chained

    return chained(standard, given)

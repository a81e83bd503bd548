"""StandardCodec: the codec that every runtime uses unless it is given another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mini_workflow.codecs.closures import capture_call, restore_call
from mini_workflow.codecs.failures import decode_failure, encode_failure
from mini_workflow.codecs.fingerprints import fingerprint_call, outline_payload
from mini_workflow.codecs.signing import Signer
from mini_workflow.codecs.values import decode_value, encode_value
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import Payload


class StandardCodec:
    """Typed JSON for values and exceptions, pickled bytecode for calls.

    With a `signer`, the parts of values and exceptions that have to be pickled are signed, and
    refused when they are not. Calls are signed by whoever sends them, who knows the attempt.
    """

    __slots__ = ("_signer",)

    def __init__(self, signer: Signer | None = None) -> None:
        self._signer = signer

    def encode(self, value: object, path: str) -> Payload:
        """See `Codec.encode`."""
        return encode_value(value, path, self._signer)

    def decode(self, payload: Payload) -> Any:
        """See `Codec.decode`. Also raises PythonVersionMismatch and SignatureInvalid."""
        return decode_value(payload, self._signer)

    def decode_ordered(self, payload: Payload) -> Any:
        """See `Codec.decode_ordered`. Raises like `decode`."""
        return decode_value(payload, self._signer, ordered=True)

    def capture(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bytes:
        """See `Codec.capture`."""
        return capture_call(function, args, kwargs)

    def fingerprint(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str:
        """See `Codec.fingerprint`."""
        return fingerprint_call(function, args, kwargs)

    def outline(self, payload: Payload) -> str:
        """See `Codec.outline`."""
        return outline_payload(payload)

    def restore(self, payload: bytes) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """See `Codec.restore`."""
        return restore_call(payload)

    def encode_failure(self, error: BaseException) -> Failure:
        """See `Codec.encode_failure`."""
        return encode_failure(error, self._signer)

    def decode_failure(self, failure: Failure) -> BaseException:
        """See `Codec.decode_failure`."""
        return decode_failure(failure, self._signer)

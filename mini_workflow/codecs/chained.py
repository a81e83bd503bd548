"""ChainedCodec: the standard codec followed by payload codecs."""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from mini_workflow.codecs.payload_codecs import (
    ENCODED,
    ENCODED_CALL,
    ENCODED_TEXT,
    Codecs,
    PayloadCodec,
    PayloadContext,
    bytes_of,
    encoded_by,
    is_encoded,
    needs_codec,
    read_encoded_call,
)
from mini_workflow.codecs.standard import StandardCodec
from mini_workflow.core.codec import CapturedCall
from mini_workflow.core.failure import Failure
from mini_workflow.core.payload import ENCODED_FINGERPRINT, Payload, dump_json
from mini_workflow.errors import CodecMismatch, PayloadNotReadable, UsageError, ValueNotSerializable

_NAME: Final = re.compile(r"[A-Za-z0-9\-]{1,40}")
_SALT_BYTES: Final = 16
_VALUE: Final = "value"
_ARGUMENTS: Final = "arguments"


def chained(standard: StandardCodec, given: Codecs) -> ChainedCodec:
    """Return the codec of a runtime with these payload codecs.

    Raises UsageError if an object is no PayloadCodec, or two have the same name.
    """
    chain: tuple[PayloadCodec, ...] = (
        tuple(given) if isinstance(given, (list, tuple)) else (given,)  # type: ignore[assignment]
    )
    for codec in chain:
        needed = ("encode", "decode", "digests", "key_id", "is_private")
        lacking = [name for name in needed if not hasattr(codec, name)]
        name = getattr(codec, "name", None)
        if (
            lacking
            or isinstance(codec, type)
            or not isinstance(name, str)
            or not _NAME.fullmatch(name)
        ):
            raise UsageError(
                f"codec={codec!r}: give a PayloadCodec, such as EncryptionCodec(keys), or a list of them; "
                f"this has no {', '.join(lacking) or 'name of letters, digits and -'}"
            )
    names = [codec.name for codec in chain]
    if not chain or len({*names}) < len(names):
        raise UsageError(f"codec={names!r}: give one or more payload codecs, each of another name")
    return ChainedCodec(standard, chain)


class EncodedPayload(Payload):
    """A value that was encoded in this process, together with the plain value."""

    __slots__ = ("plain",)

    def __init__(self, tree: dict[str, Any], plain: Payload) -> None:
        super().__init__(tree=tree)
        self.plain: Final = plain

    def matches(self, fingerprint: str) -> bool:
        """See `Payload.matches`. The fingerprint may also be of the plain value, from before the codec."""
        return super().matches(fingerprint) or self.plain.matches(fingerprint)


class ChainedCodec:
    """Encodes values, failures and the calls that leave the process by the standard codec, and then by the
    payload codecs. It also reads values that were written without payload codecs.

    Use `for_execution`, since encoded values are bound to one execution. Without it only failures of this
    library are encoded, which contain no data of users, and stay as they are.
    """

    __slots__ = ("_chain", "_execution_id", "_inner", "_salt", "is_private")

    def __init__(self, inner: StandardCodec, chain: tuple[PayloadCodec, ...]) -> None:
        self._inner = inner
        self._chain = chain
        self._execution_id = ""
        self._salt: bytes | None = None
        self.is_private: Final = any(codec.is_private for codec in chain)

    def for_execution(self, execution_id: str) -> ChainedCodec:
        """See `Codec.for_execution`."""
        bound = ChainedCodec(self._inner.for_execution(execution_id), self._chain)
        bound._execution_id = execution_id
        return bound

    def for_run(self, arguments: Payload) -> ChainedCodec:
        """See `Codec.for_run`. The salt of the run's fingerprints is encoded in its arguments."""
        tree = arguments.tree
        if not is_encoded(tree) or not _is_salted(tree):
            return self
        bound = self.for_execution(self._execution_id)
        bound._salt = self._decoded(tree)[:_SALT_BYTES]
        return bound

    # Values

    def encode(self, value: object, path: str) -> Payload:
        """See `Codec.encode`."""
        return self._encoded(self._inner.encode(value, path), _VALUE, path)

    def encode_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """See `Codec.encode_arguments`."""
        plain = self._inner.encode_arguments(args, kwargs)
        return self._encoded(plain, _ARGUMENTS, "arguments")

    def decode(self, payload: Payload) -> Any:
        """See `Codec.decode`."""
        return self._inner.decode(self.plain_payload(payload))

    def decode_ordered(self, payload: Payload) -> Any:
        """See `Codec.decode_ordered`."""
        return self._inner.decode_ordered(self.plain_payload(payload))

    def show(self, payload: Payload) -> Any:
        """See `Codec.show`."""
        return self._inner.show(self.plain_payload(payload))

    def outline(self, payload: Payload, execution_id: str) -> str:
        """See `Codec.outline`."""
        if isinstance(payload, EncodedPayload):
            return self._inner.outline(payload.plain, execution_id)
        plain = self.for_execution(execution_id).plain_payload(payload)
        return self._inner.outline(plain, execution_id)

    def moved(self, payload: Payload, target: ChainedCodec) -> Payload:
        """See `Codec.moved`. The salt stays, since the fingerprints of the run's calls depend on it."""
        plain = self._inner.moved(self.plain_payload(payload), target._inner)
        tree = payload.tree
        if not is_encoded(tree):
            return plain
        salt = self._decoded(tree)[:_SALT_BYTES] if _is_salted(tree) else b""
        encoded = target._tree(salt + plain.text.encode(), tree.get("kind", _VALUE), "a value")
        if encoded is None:
            return plain
        if "same" in tree:
            encoded["same"] = target._digests(plain) if salt else plain.fingerprint()
        return EncodedPayload(encoded, plain)

    def moved_failure(self, failure: Failure, target: ChainedCodec) -> Failure:
        """See `Codec.moved_failure`."""
        plain = self._inner.moved_failure(self.plain_failure(failure), target._inner)
        return target._hidden(plain) if is_encoded(failure.state) else plain

    def plain_payload(self, payload: Payload) -> Payload:
        """See `Codec.plain_payload`."""
        tree = payload.tree
        if not is_encoded(tree):
            return payload
        data = self._decoded(tree)
        if _is_salted(tree):
            data = data[_SALT_BYTES:]
        return Payload(text=data.decode())

    # Calls

    def capture(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> CapturedCall:
        """See `Codec.capture`."""
        call = self._inner.capture(function, args, kwargs)
        if self._inner.in_process:
            return call
        labels, data = self._apply(call, "call", "the call")
        return ENCODED_CALL + json.dumps(labels).encode() + b"\n" + data if labels else call

    def fingerprint(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        captured: CapturedCall | None = None,
    ) -> str:
        """See `Codec.fingerprint`. The checksum of the values cannot be guessed without the key."""
        call = self._inner.fingerprint(function, args, kwargs, captured)
        salt = self._salt
        if salt is None:
            return call
        called, _, values = call.rpartition(".")
        if values == "0":  # the call has no values
            return call
        return f"{called}.{hmac.digest(salt, values.encode(), 'sha256')[:4].hex()}"

    def restore(
        self, payload: CapturedCall
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """See `Codec.restore`."""
        if isinstance(payload, bytes) and payload.startswith(ENCODED_CALL):
            payload = self._revert(*read_encoded_call(payload), "call")
        return self._inner.restore(payload)

    # Failures

    def encode_failure(self, error: BaseException) -> Failure:
        """See `Codec.encode_failure`. The names of classes stay readable, since retries depend on them."""
        failure = self._inner.encode_failure(error)
        try:
            return self._hidden(failure)
        except Exception as problem:
            message = f"(the exception cannot be encoded: {type(problem).__name__})"
            return Failure(type=failure.type, message=message, lineage=failure.lineage)

    def decode_failure(self, failure: Failure, *, ordered: bool = False) -> BaseException:
        """See `Codec.decode_failure`."""
        return self._inner.decode_failure(self.plain_failure(failure), ordered=ordered)

    def show_failure(self, failure: Failure) -> BaseException:
        """See `Codec.show_failure`."""
        with suppress(PayloadNotReadable):  # the message then names the codecs
            failure = self.plain_failure(failure)
        return self._inner.show_failure(failure)

    def plain_failure(self, failure: Failure) -> Failure:
        """See `Codec.plain_failure`."""
        if not is_encoded(failure.state):
            return failure
        traceback, task = map(self._plain_text, (failure.traceback, failure.task_traceback))
        plain = json.loads(self._decoded(failure.state))
        return Failure(
            type=failure.type,
            message=plain["message"],
            traceback=traceback,
            lineage=failure.lineage,
            state=plain.get("state"),
            cause=None if failure.cause is None else self.plain_failure(failure.cause),
            retry_after=failure.retry_after,
            attempts=failure.attempts,
            final=failure.final,
            task_traceback=task,
        )

    def _hidden(self, failure: Failure) -> Failure:
        if not self._execution_id:
            return failure
        hidden = {"message": failure.message, "state": failure.state}
        state = self._tree(dump_json(hidden).encode(), "failure", "the exception")
        if state is None:
            return failure
        traceback, task = map(self._hidden_text, (failure.traceback, failure.task_traceback))
        return Failure(
            type=failure.type,
            message=f"({encoded_by(state['by'])})",
            traceback=traceback,
            lineage=failure.lineage,
            state=state,
            cause=None if failure.cause is None else self._hidden(failure.cause),
            retry_after=failure.retry_after,
            attempts=failure.attempts,
            final=failure.final,
            task_traceback=task,
        )

    def _plain_text(self, traceback: str) -> str:
        if not traceback.startswith(ENCODED_TEXT):
            return traceback
        return self._decoded(json.loads(traceback)).decode()

    def _hidden_text(self, traceback: str) -> str:
        tree = self._tree(traceback.encode(), "traceback", "the traceback") if traceback else None
        return traceback if tree is None else dump_json(tree)

    # Inside

    def _encoded(self, plain: Payload, kind: str, path: str) -> Payload:
        data = plain.text.encode()
        salted = kind == _ARGUMENTS and self.is_private
        if salted:
            data = secrets.token_bytes(_SALT_BYTES) + data
        tree = self._tree(data, kind, path)
        if tree is None:
            return plain
        if kind == _ARGUMENTS:
            tree["same"] = self._digests(plain) if salted else plain.fingerprint()
        return EncodedPayload(tree, plain)

    def _digests(self, plain: Payload) -> str:
        context = PayloadContext(self._execution_id, _ARGUMENTS)
        data = plain.fingerprint().encode()
        first = next(codec for codec in self._chain if codec.is_private)
        return ENCODED_FINGERPRINT + ",".join(first.digests(data, context))

    def _tree(self, data: bytes, kind: str, path: str) -> dict[str, Any] | None:
        """Return the tree of encoded bytes; None if no payload codec has changed them."""
        labels, encoded = self._apply(data, kind, path)
        if not labels:
            return None
        tree: dict[str, Any] = {"$": ENCODED, "by": labels}
        if kind != _VALUE:
            tree["kind"] = kind
        tree["v"] = base64.b64encode(encoded).decode("ascii")
        return tree

    def _decoded(self, tree: dict[str, Any]) -> bytes:
        return self._revert(tree.get("by"), bytes_of(tree), tree.get("kind", _VALUE))

    def _apply(self, data: bytes, kind: str, path: str) -> tuple[list[str], bytes]:
        context, labels = PayloadContext(self._execution_id, kind), list[str]()
        for codec in self._chain:
            try:
                encoded = codec.encode(data, context)
                if encoded is not data:
                    labels.append(f"{codec.name}:{codec.key_id}" if codec.key_id else codec.name)
            except Exception as error:
                raise ValueNotSerializable(
                    f"{path} cannot be encoded by codec {codec.name!r}: {type(error).__name__}: {error}",
                    path=path,
                ) from error
            data = encoded
        return labels, data

    def _revert(self, labels: Any, data: bytes, kind: str) -> bytes:
        context = PayloadContext(self._execution_id, kind)
        if not isinstance(labels, list):
            raise PayloadNotReadable(
                f"an encoded value is damaged: {labels!r} is not a list of the codecs that encoded it"
            )
        for label in reversed(labels):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            name = str(label).partition(":")[0]  # pyright: ignore[reportUnknownArgumentType]
            codec = next((known for known in self._chain if known.name == name), None)
            if codec is None:
                error = needs_codec(labels)
                raise CodecMismatch(
                    f"a payload ({kind}) of execution {self._execution_id!r} cannot be read: {error}; "
                    f"this one has {', '.join(known.name for known in self._chain)}"
                )
            try:
                data = codec.decode(data, context)
            except PayloadNotReadable:
                raise
            except Exception as error:
                raise PayloadNotReadable(
                    f"a payload ({kind}) of execution {self._execution_id!r} cannot be decoded by codec "
                    f"{name!r}: {type(error).__name__}: {error}"
                ) from error
        return data


def _is_salted(tree: dict[str, Any]) -> bool:
    return str(tree.get("same", "")).startswith(ENCODED_FINGERPRINT)

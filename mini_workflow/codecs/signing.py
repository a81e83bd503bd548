"""Sign bytes and verify signatures, so that bytes of other origin are never unpickled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mini_workflow.core.records import frozen
from mini_workflow.errors import SignatureInvalid, UsageError

MIN_KEY_BYTES: Final = 32
"""The length of a code of HMAC-SHA-256. A shorter key would be easier to guess than a code."""

KEY_SEPARATOR: Final = "|"
"""The separator of the keys of a ring in a text."""

_PREFIX: Final = b"mws1"
_MAC_BYTES: Final = 32
_TASK: Final = b"task"
_VALUE: Final = b"value"
_TEXT: Final = b"text"


Keys = bytes | Sequence[bytes]
"""A key, or a ring of keys of which the first signs."""


class Signer:
    """Signs and verifies payloads by HMAC-SHA-256.

    An envelope is the prefix ``mws1``, the 32 bytes of the code, and the payload. The code covers the
    purpose of the payload and its bytes, so that an envelope cannot be used for another attempt.

    `key` is secret and has at least 32 bytes; a shorter one raises UsageError. It may be a ring of keys, of
    which the first signs and all verify, so that a key can be changed while signatures of the old one are
    in use. A function is called for the key at its first use. `renew` returns the present keys, or None if
    they are the same. It is called before a signature is made, and with True when a signature fits none of
    the keys.
    """

    __slots__ = ("_given", "_known", "_renew")

    def __init__(
        self,
        key: Keys | Callable[[], Keys],
        renew: Callable[[bool], Keys | None] | None = None,
    ) -> None:
        self._given = key
        self._renew = renew
        self._known = None if callable(key) else _checked(key)

    @property
    def _keys(self) -> tuple[bytes, ...]:
        if self._known is None:
            assert callable(self._given)
            self._known = _checked(self._given())
        return self._known

    def sign(self, payload: bytes, *, execution_id: str, seq: int, attempt: int) -> bytes:
        """Return the payload in an envelope that is valid for this attempt only."""
        return _PREFIX + self._code(payload, _task(execution_id, seq, attempt)) + payload

    def verify(self, envelope: bytes, *, execution_id: str, seq: int, attempt: int) -> bytes:
        """Return the payload of an envelope. Raises SignatureInvalid, without reading the payload."""
        what = f"the payload of task {seq}, attempt {attempt}, of execution {execution_id!r}"
        return self._open(envelope, _task(execution_id, seq, attempt), what)

    def sign_value(self, payload: bytes, *, execution_id: str, form: str) -> bytes:
        """Return the payload in an envelope that is valid for values of this execution, in that form."""
        return _PREFIX + self._code(payload, _value(execution_id, form)) + payload

    def verify_value(self, envelope: bytes, *, execution_id: str, form: str) -> bytes:
        """Return the payload of `sign_value`. Raises SignatureInvalid."""
        what = f"a pickled part of a value of execution {execution_id!r}"
        return self._open(envelope, _value(execution_id, form), what)

    def code(self, text: str, *purpose: str) -> str:
        """Return the code of a text that is valid for this purpose only, as hexadecimal digits."""
        fields = _fields(_TEXT, *(part.encode() for part in purpose))
        return self._code(text.encode(), fields).hex()

    def check(self, text: str, code: object, *purpose: str) -> None:
        """Raise SignatureInvalid unless `code` is the result of `code()` for the text and purpose."""
        if not isinstance(code, str) or not code:
            raise SignatureInvalid(
                f"the message ({', '.join(purpose)}) is not signed. Give the process that made it "
                "the signing key"
            )
        fields = _fields(_TEXT, *(part.encode() for part in purpose))
        if not self._fits(code.encode(), text.encode(), fields, lambda made: made.hex().encode()):
            raise SignatureInvalid(
                f"the message ({', '.join(purpose)}) was signed with another key, was made for "
                "something else, or was changed since"
            )

    def _code(self, payload: bytes, purpose: bytes) -> bytes:
        self._renewed(refused=False)
        from hmac import digest

        return digest(self._keys[0], purpose + payload, "sha256")

    def _fits(
        self,
        given: bytes,
        payload: bytes,
        purpose: bytes,
        written: Callable[[bytes], bytes] = bytes,
    ) -> bool:
        """Return whether one of the keys makes the code that is `given`. `written` converts codes to the
        form of that one.
        """
        from hmac import compare_digest, digest

        def fits(keys: Sequence[bytes]) -> bool:
            codes = (digest(key, purpose + payload, "sha256") for key in keys)
            return any(compare_digest(given, written(code)) for code in codes)

        if fits(self._keys):
            return True
        return self._renewed(refused=True) and fits(self._keys)

    def _renewed(self, *, refused: bool) -> bool:
        """Take the present keys, and return whether they differ from those before."""
        keys = None if self._renew is None else self._renew(refused)
        if keys is not None:
            self._known = _checked(keys)
        return keys is not None

    def _open(self, envelope: bytes, purpose: bytes, what: str) -> bytes:
        start = len(_PREFIX) + _MAC_BYTES
        if len(envelope) < start or not envelope.startswith(_PREFIX):
            raise SignatureInvalid(
                f"{what} is not signed. Give the process that made it the signing key"
            )
        payload = envelope[start:]
        given = envelope[len(_PREFIX) : start]
        if not self._fits(given, payload, purpose):
            raise SignatureInvalid(
                f"{what} was signed with another key, was made for something else, or was changed "
                "since. Give every process the same signing key; if they have it, do not trust "
                "whatever wrote this"
            )
        return payload


@frozen
class ValueSigner:
    """Signs the pickled parts of the values of one execution, and verifies them."""

    signer: Signer
    execution_id: str

    def sign(self, payload: bytes, form: str) -> bytes:
        """See `Signer.sign_value`."""
        return self.signer.sign_value(payload, execution_id=self.execution_id, form=form)

    def verify(self, envelope: bytes, form: str) -> bytes:
        """See `Signer.verify_value`."""
        return self.signer.verify_value(envelope, execution_id=self.execution_id, form=form)


def read_keys(text: str) -> tuple[bytes, ...]:
    """Return the keys of a setting: one, or several separated by bars, of which the first signs."""
    return tuple(part.strip().encode() for part in text.split(KEY_SEPARATOR))


def _checked(given: Keys) -> tuple[bytes, ...]:
    keys = (given,) if isinstance(given, bytes) else tuple(given)
    if not keys:
        raise UsageError("there is no signing key: give one, or several")
    for number, key in enumerate(keys, 1):
        if len(key) < MIN_KEY_BYTES:
            which = "the signing key" if len(keys) == 1 else f"signing key {number} of {len(keys)}"
            raise UsageError(
                f"{which} has {len(key)} bytes and needs at least {MIN_KEY_BYTES}: make "
                "one with secrets.token_urlsafe(32) and give the same to every process"
            )
    return keys


def _task(execution_id: str, seq: int, attempt: int) -> bytes:
    return _fields(_TASK, execution_id.encode(), b"%d" % seq, b"%d" % attempt)


def _value(execution_id: str, form: str) -> bytes:
    return _fields(_VALUE, execution_id.encode(), form.encode())


def _fields(*fields: bytes) -> bytes:
    """Return the fields in an unambiguous form: their number, then each field after its length.

    The payload may follow, since the end of the fields is known without it.
    """
    sized = b"".join([len(field).to_bytes(4, "big") + field for field in fields])
    return len(fields).to_bytes(4, "big") + sized

"""EncryptionCodec: encrypt payloads by AES-256-GCM, with a ring of keys."""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mini_workflow.codecs.payload_codecs import PayloadContext
from mini_workflow.errors import CodecMismatch, PayloadNotReadable, UsageError

KEY_BYTES: Final = 32
"""Bytes of a key of AES-256."""

KEY_ID: Final = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
"""Names that a key may have. Our own bound, since every payload contains the name."""

_FORMAT: Final = b"\x01"
_NONCE_BYTES: Final = 12
"""The length that NIST SP 800-38D recommends for GCM. Nonces are random, so that one key may encrypt 2**32
payloads."""
_DIGEST_BYTES: Final = 16

KeyRing = Mapping[str, bytes]
"""Keys of 32 bytes by their names. The first one encrypts, all of them decrypt."""


class EncryptionCodec:
    """Encrypts payloads by AES-256-GCM; needs the extra ``mini-workflow[encryption]``.

    Each payload has a nonce of its own, names its key, and is bound to its execution and its kind (a value,
    the arguments of a start, a call, a failure). A payload that was changed or moved elsewhere is refused.

    To rotate keys, add the new key in every process: first as the last key, so that all processes can read
    it, then as the first. Keep the old keys. Remove one when nothing is left that it has encrypted.

    Args:
        keys: the ring, such as ``{"2026": key, "2025": old}``, of which the first key encrypts. A
            function is called for the ring at the first use, and again when a payload names a missing key.
        reads_only: leave new payloads unencrypted, to switch encryption off.

    Raises:
        UsageError: there is no key, a name is not 1 to 64 letters, digits and ``_.-``, a key has not 32
            bytes, or `cryptography` is not installed.
    """

    name: str = "aes-gcm"
    is_private: bool = True

    def __init__(self, keys: KeyRing | Callable[[], KeyRing], *, reads_only: bool = False) -> None:
        _cipher_class()
        self._given = keys
        self._reads_only = reads_only
        self._ring: dict[str, _Key] | None = None if callable(keys) else _checked(keys)

    def __reduce__(self) -> Any:
        return _made, (self._given, self._reads_only)

    def __repr__(self) -> str:
        return f"EncryptionCodec(reads_only={self._reads_only})"  # no key, in no traceback

    @property
    def key_id(self) -> str:
        """The name of the key that encrypts now."""
        return next(iter(self._keys()))

    def encode(self, data: bytes, context: PayloadContext) -> bytes:
        """See `PayloadCodec.encode`."""
        if self._reads_only:
            return data
        name, key = next(iter(self._keys().items()))
        nonce = os.urandom(_NONCE_BYTES)
        start = _FORMAT + len(name).to_bytes(1, "big") + name.encode()
        return start + nonce + key.cipher.encrypt(nonce, data, _bound_to(start, context))

    def decode(self, data: bytes, context: PayloadContext) -> bytes:
        """See `PayloadCodec.decode`."""
        from cryptography.exceptions import InvalidTag

        whose = f"a payload ({context.kind}) of execution {context.execution_id!r}"
        length = 2 + (data[1] if len(data) > 1 else 0)
        start, nonce = data[:length], data[length : length + _NONCE_BYTES]
        if data[:1] != _FORMAT or len(nonce) < _NONCE_BYTES:
            raise PayloadNotReadable(f"{whose} is damaged: it is not what EncryptionCodec writes")
        name = start[2:].decode("ascii", "replace")
        ring = self._keys()
        if name not in ring and callable(self._given):
            ring = self._ring = _checked(self._given())
        key = ring.get(name)
        if key is None:
            raise CodecMismatch(
                f"{whose} is encrypted with key {name!r}, which is not in the key ring (it has "
                f"{', '.join(map(repr, ring))}): add that key to the ring of this process"
            )
        try:
            return key.cipher.decrypt(
                nonce, data[len(start) + _NONCE_BYTES :], _bound_to(start, context)
            )
        except InvalidTag:
            raise CodecMismatch(
                f"{whose} cannot be decrypted with key {name!r}: this process has another key under "
                "that name, or the payload was changed or belongs to another execution. Give every "
                "process the same keys; if they have them, restore the payload from a backup"
            ) from None

    def digests(self, data: bytes, context: PayloadContext) -> Sequence[str]:
        """See `PayloadCodec.digests`. Each key of the ring gives one, so that the digests before and after a
        rotation have one in common.
        """
        text = _bound_to(b"digest", context) + data
        return [
            f"{name}={hmac.digest(key.digest, text, 'sha256')[:_DIGEST_BYTES].hex()}"
            for name, key in self._keys().items()
        ]

    def _keys(self) -> dict[str, _Key]:
        ring = self._ring
        if ring is None:
            assert callable(self._given)
            ring = self._ring = _checked(self._given())
        return ring


class _Key:
    """One key: its cipher, and another key made from it for digests."""

    __slots__ = ("cipher", "digest")

    def __init__(self, key: bytes) -> None:
        self.cipher: Any = _cipher_class()(key)
        self.digest = hmac.digest(key, b"mini-workflow digest key", "sha256")


def _made(keys: KeyRing | Callable[[], KeyRing], reads_only: bool) -> EncryptionCodec:
    return EncryptionCodec(keys, reads_only=reads_only)


def _cipher_class() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise UsageError(
            "EncryptionCodec needs the package cryptography: install mini-workflow[encryption]"
        ) from error
    return AESGCM


def _checked(keys: KeyRing) -> dict[str, _Key]:
    if not isinstance(keys, Mapping) or not keys:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(
            "EncryptionCodec needs keys by their names, the one that encrypts first: "
            '{"2026": key}, each made by secrets.token_bytes(32)'
        )
    for name, key in keys.items():
        if not isinstance(name, str) or KEY_ID.fullmatch(name) is None:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(
                f"EncryptionCodec: {name!r} cannot name a key: use 1 to 64 letters, digits and '_.-'"
            )
        if not isinstance(key, bytes) or len(key) != KEY_BYTES:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(
                f"EncryptionCodec: key {name!r} is not {KEY_BYTES} bytes: make one with "
                "secrets.token_bytes(32)"
            )
    return {name: _Key(key) for name, key in keys.items()}


def _bound_to(start: bytes, context: PayloadContext) -> bytes:
    """Return the associated data: the bytes before the ciphertext, and the place of the payload."""
    parts = (start, context.kind.encode(), context.execution_id.encode())
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

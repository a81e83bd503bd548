"""Envelopes: signed JSON in which content travels from one function to another.

What is too large for a queue goes to the bucket by the hash of its content, and the envelope only
names it.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any, Final, Protocol

from mini_workflow.errors import SignatureInvalid, WireError
from mini_workflow.stores.aws_limits import CLAIM_OVER
from mini_workflow.stores.s3.bucket import Bucket

PAYLOADS: Final = "payloads/"
"""What the keys of claim checks begin with."""

_REFUSED: Final = re.compile("[\ufffe\uffff]")


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


_dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Signs(Protocol):
    """What signs texts: a `Signer`."""

    def code(self, text: str, *purpose: str) -> str:
        """Return the code of a text for a purpose."""
        ...

    def check(self, text: str, code: object, *purpose: str) -> None:
        """Raise SignatureInvalid unless the code is that of the text for the purpose."""
        ...


class Envelopes:
    """Seals and opens envelopes. `over` is the number of bytes from which content is claimed."""

    def __init__(self, signer: Signs, bucket: Bucket, over: int = CLAIM_OVER) -> None:
        self._signer = signer
        self._bucket = bucket
        self._over = over

    def seal(self, content: str, purpose: tuple[str, ...], **open_fields: Any) -> dict[str, Any]:
        """Return an envelope with that content, for that purpose; `open_fields` lie beside it,
        unsigned.

        Raises StoreUnavailable if the content has to go to the bucket and cannot.
        """
        code = self._signer.code(content, *purpose)
        data = content.encode()
        if len(data) <= self._over:
            return {**open_fields, "content": content, "code": code}
        digest = sha256(data).hexdigest()
        self._bucket.put(PAYLOADS + digest, data)
        return {**open_fields, "claim": digest, "code": code}

    def open(self, envelope: dict[str, Any], purpose: tuple[str, ...]) -> str:
        """Return the content. Raises SignatureInvalid, WireError if the content is not there, and
        StoreUnavailable if the bucket cannot be read.
        """
        claim = envelope.get("claim")
        content = envelope.get("content")
        if isinstance(claim, str):
            content = self._claimed(claim)
        if not isinstance(content, str):
            raise WireError("an envelope without content")
        self._signer.check(content, envelope.get("code"), *purpose)
        return content

    def certify(self, purpose: tuple[str, ...]) -> str:
        """Return a code that proves the purpose alone."""
        return self._signer.code("", *purpose)

    def verify(self, code: object, purpose: tuple[str, ...]) -> None:
        """Raise SignatureInvalid unless `certify` gave that code for that purpose."""
        self._signer.check("", code, *purpose)

    def _claimed(self, digest: str) -> str:
        if len(digest) != 64 or not digest.isalnum():
            raise WireError(f"not the hash of a content: {digest[:100]!r}")
        found = self._bucket.get(PAYLOADS + digest)
        if found is None:
            raise WireError(f"the content {PAYLOADS + digest!r} is not in the bucket any more")
        if sha256(found.body).hexdigest() != digest:
            raise SignatureInvalid(f"the content {PAYLOADS + digest!r} has another hash")
        return found.body.decode()


def dump(plain: dict[str, Any]) -> str:
    """Return an envelope as text that SQS takes: all of Unicode but two characters, which are
    escaped.

    Source: SQS API Reference, SendMessage, on the characters of a message.
    """
    text = _dump(plain)
    return text if _REFUSED.search(text) is None else _REFUSED.sub(_escaped, text)


def parse(text: str) -> dict[str, Any]:
    """Return the plain object in a text. Raises WireError."""
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise WireError(f"not JSON: {text[:200]!r}") from error
    if not isinstance(plain, dict):
        raise WireError(f"not a JSON object: {text[:200]!r}")
    return plain  # pyright: ignore[reportUnknownVariableType]

"""Envelopes: signed JSON in which content travels from one function to another.

Content that is too large for a queue goes to the bucket under its hash, and the envelope only names it.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any, Final, Protocol

from mini_workflow.core.validation import check_id
from mini_workflow.errors import SignatureInvalid, WireError
from mini_workflow.stores.aws.limits import CLAIM_OVER
from mini_workflow.stores.s3.bucket import Bucket

PAYLOADS: Final = "payloads/"
"""The beginning of the keys of claim checks."""

CLAIMS: Final = PAYLOADS + "claims/"
"""The beginning of the keys of claim checks for an execution; its id follows."""

_REFUSED: Final = re.compile("[\ufffe\uffff]")


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


_dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Signs(Protocol):
    """A part that signs texts: a `Signer`."""

    def code(self, text: str, *purpose: str) -> str:
        """Return the code of a text for a purpose."""
        ...

    def check(self, text: str, code: object, *purpose: str) -> None:
        """Raise SignatureInvalid unless the code is that of the text for the purpose."""
        ...


class Envelopes:
    """Seals and opens envelopes. Content of more than `over` bytes becomes a claim check."""

    def __init__(self, signer: Signs, bucket: Bucket, over: int = CLAIM_OVER) -> None:
        self._signer = signer
        self._bucket = bucket
        self._over = over

    def seal(self, content: str, purpose: tuple[str, ...], **open_fields: Any) -> dict[str, Any]:
        """Return an envelope with content for a purpose, and `open_fields` beside it, unsigned.

        Raises StoreUnavailable if the content has to go to the bucket and cannot be written.
        """
        code = self._signer.code(content, *purpose)
        data = content.encode()
        if len(data) <= self._over:
            return {**open_fields, "content": content, "code": code}
        claim = sha256(data).hexdigest()
        if (name := open_fields.get("execution_id")) is not None:
            # Below the execution's id, so that it is deleted with the execution.
            claim = f"{name}/{sha256(dump_purpose(purpose) + data).hexdigest()}"
        self._bucket.put((CLAIMS if "/" in claim else PAYLOADS) + claim, data)
        return {**open_fields, "claim": claim, "code": code}

    def open(self, envelope: dict[str, Any], purpose: tuple[str, ...]) -> str:
        """Return the content of an envelope for a purpose.

        Raises SignatureInvalid, WireError if there is no content, and StoreUnavailable if the bucket
        cannot be read.
        """
        claim = envelope.get("claim")
        content = envelope.get("content")
        if isinstance(claim, str):
            content = self._claimed(claim, purpose)
        if not isinstance(content, str):
            raise WireError("an envelope without content")
        self._signer.check(content, envelope.get("code"), *purpose)
        return content

    def certify(self, purpose: tuple[str, ...]) -> str:
        """Return a code for a purpose without content."""
        return self._signer.code("", *purpose)

    def verify(self, code: object, purpose: tuple[str, ...]) -> None:
        """Raise SignatureInvalid unless `certify` gave that code for that purpose."""
        self._signer.check("", code, *purpose)

    def _claimed(self, claim: str, purpose: tuple[str, ...]) -> str:
        name, slash, digest = claim.rpartition("/")
        if len(digest) != 64 or not digest.isalnum():
            raise WireError(f"not the hash of a content: {claim[:200]!r}")
        if slash:
            check_id(name)
        key = (CLAIMS if slash else PAYLOADS) + claim
        found = self._bucket.get(key)
        if found is None:
            raise WireError(f"the content {key!r} is not in the bucket any more")
        beside = dump_purpose(purpose) if slash else b""
        if sha256(beside + found.body).hexdigest() != digest:
            raise SignatureInvalid(f"the content {key!r} has another hash")
        return found.body.decode()


def dump_purpose(purpose: tuple[str, ...]) -> bytes:
    """Return a purpose as bytes, by which equal contents for two purposes have different hashes."""
    return json.dumps(purpose).encode()


def dump(plain: dict[str, Any]) -> str:
    """Return an envelope as text for SQS, with the two characters escaped that SQS refuses.

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

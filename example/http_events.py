"""HTTP as Lambda has it: the body of a request, and an answer in JSON."""

from __future__ import annotations

import base64
import json
from http import HTTPStatus
from typing import Any


def body_of(event: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a request. Raises ValueError or TypeError if it has none."""
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body)
    return dict(json.loads(body))


def answer(code: HTTPStatus, /, **body: Any) -> dict[str, Any]:
    """Return what a function answers."""
    return {
        "statusCode": code,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(body),
    }

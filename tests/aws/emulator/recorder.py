"""Recorder: every call that reaches the emulator, with what it is about, for those who ask.

GET /_emulator/calls?about=<execution> answers with the calls that name an execution, in their
order. Part of the emulator's process; server.py asks.
"""

from __future__ import annotations

import json
import re
import threading
import time
from urllib.parse import parse_qs

PATH = "/_emulator/calls"

SCOPE = re.compile(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/")
NAMED = re.compile(rb'execution_?[iI]d\\*"\s*:\s*\\*"([\w.-]+)')
GROUP = re.compile(rb'"MessageGroupId"\s*:\s*"([\w.-]+)"')


class Recorder:
    """An application that records, and passes on to another."""

    def __init__(self, application) -> None:
        self._application = application
        self._calls: list[dict] = []
        self._lock = threading.Lock()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
        elif scope["path"] == PATH:
            await self._answer(scope, send)
        else:
            await self._record(scope, receive, send)

    async def _record(self, scope, receive, send) -> None:
        body: list[bytes] = []

        async def listen():
            message = await receive()
            if message["type"] == "http.request":
                body.append(message.get("body", b""))
            return message

        await self._application(scope, listen, send)
        call = _described(scope, b"".join(body))
        if call is not None:
            with self._lock:
                self._calls.append(call)

    async def _answer(self, scope, send) -> None:
        (about,) = parse_qs(scope["query_string"].decode())["about"]
        with self._lock:
            found = [call for call in self._calls if _is_about(call, about)]
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(found).encode()})


def _described(scope, body: bytes) -> dict | None:
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    signed = SCOPE.search(headers.get("authorization", ""))
    if signed is None:
        return None
    path = scope["path"]
    about = {name.decode() for name in (*NAMED.findall(body), *GROUP.findall(body))}
    target = headers.get("x-amz-target", "").rpartition(".")[2]
    return {
        "time": time.time(),
        "caller": signed[1],
        "service": signed[2],
        "operation": target or scope["method"],
        "path": path,
        "bytes": len(body),
        "about": sorted(about),
    }


def _is_about(call: dict, execution: str) -> bool:
    # As a part of a path, or of the name of an object.
    parts = re.split(r"[/?]", call["path"].removesuffix(".json"))
    return execution in call["about"] or execution in parts

"""Check requests for pages and actions.

A page on a developer's machine is reached by every site that the developer's browser visits. So a request
has to name a host that is expected, which stops a site whose name is pointed at this machine. An action
has to come from a page of this application, shown by the browser's Origin and by a token in the form.
Nothing from elsewhere is loaded, run or framed.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
"""The hosts that are always expected."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

COOKIE: Final = "mini-workflow"
"""The cookie of a browser: what it has shown of the token, and what its forms are bound to."""

FIELD: Final = "form-token"
"""The field of a form that says that a page of ours has made it."""


class Guard:
    """A filter of requests: those that may be answered go on to `inner`.

    `hosts` are the names that are expected beside the loopback's own. A visitor has to show the `token`, if
    it is not empty: in the address once, as ``?token=``, or in a header ``Authorization: Bearer``.
    """

    def __init__(
        self, inner: ASGIApp, hosts: Iterable[str], token: str, *, read_only: bool
    ) -> None:
        self._inner = inner
        self._hosts = {*LOOPBACK, *(host.lower() for host in hosts)}
        self._token = token
        self._read_only = read_only
        self._key = secrets.token_bytes(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send, ""))
            return
        known = _cookie(headers)
        browser = known or secrets.token_urlsafe(24)
        scope["mini_workflow.form_token"] = self.form_token(browser)
        cookie = "" if known else self._cookie_line(scope, browser)
        await self._inner(scope, receive, _with_headers(send, cookie))

    def form_token(self, browser: str) -> str:
        """Return the token of the forms that are made for a browser."""
        return hmac.new(self._key, browser.encode(), sha256).hexdigest()

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "").lower()
        if _name_of(host) not in self._hosts:
            return _refuse(
                421,
                f"this page does not answer to the host {host!r}. Start it with --host-name {host}",
            )
        if scope["method"] not in ("GET", "HEAD"):
            if self._read_only:
                return _refuse(403, "this page was started with --read-only: it changes nothing")
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc.lower() != host:
                return _refuse(403, f"a page of {origin} may not act here")
        return self._stranger(scope, headers) if self._token else None

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to a visitor who has not shown the token."""
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(shown.strip()):
            return None
        browser = _cookie(headers)
        if browser and self._is_known(browser):
            return None
        asked = QueryParams(scope["query_string"])
        if scope["method"] == "GET" and self._is_token(asked.get("token", "")):
            kept = QueryParams([pair for pair in asked.multi_items() if pair[0] != "token"])
            path = scope.get("root_path", "") + scope["path"].removeprefix(
                scope.get("root_path", "")
            )
            answer = RedirectResponse(f"{path}?{kept}" if kept else path, 303)
            answer.headers["set-cookie"] = self._cookie_line(scope, self._known())
            return answer
        return _refuse(
            401,
            "this page asks for a token: open the address that the command has printed, with ?token=",
        )

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _known(self) -> str:
        """Return a cookie that only this process makes, for a browser that has shown the token."""
        name = secrets.token_urlsafe(24)
        return f"{name}.{hmac.new(self._key, f'known {name}'.encode(), sha256).hexdigest()}"

    def _is_known(self, cookie: str) -> bool:
        name, _, proof = cookie.partition(".")
        wanted = hmac.new(self._key, f"known {name}".encode(), sha256).hexdigest()
        return hmac.compare_digest(proof.encode(), wanted.encode())

    def _cookie_line(self, scope: Scope, value: str) -> str:
        path = scope.get("root_path", "") or "/"
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        return f"{COOKIE}={value}; Path={path}; HttpOnly; SameSite=Strict{secure}"


def is_ours(scope: Scope, given: str) -> bool:
    """Return whether a form was made by a page of ours for the browser that sends it."""
    return hmac.compare_digest(given.encode(), scope["mini_workflow.form_token"].encode())


def _name_of(host: str) -> str:
    """Return a host without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _refuse(status: int, why: str) -> Response:
    return PlainTextResponse(f"{why}\n", status)


def _with_headers(send: Send, cookie: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
            if cookie:
                headers.append("set-cookie", cookie)
        await send(message)

    return sending

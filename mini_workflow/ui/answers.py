"""Make the answers of all pages: fill templates, read and check forms, and report errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast
from urllib.parse import parse_qsl, quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from mini_workflow.core.validation import MAXIMUM_NAME
from mini_workflow.engine.client import Client
from mini_workflow.engine.picture import words
from mini_workflow.errors import ExecutionNotFound, StoreUnavailable, UsageError
from mini_workflow.ui.forms import LONGEST_REASON
from mini_workflow.ui.lists import utc_now, with_names
from mini_workflow.ui.security import FIELD, is_ours
from mini_workflow.ui.values import json_of, tree_of

LARGEST_FORM: Final = 1_000_000
"""Bytes of a form: a value that is sent by hand."""

EARLIER: Final = "the form was made by an earlier page: load the page again"

REFUSED: Final = 409

KEYS: Final = (
    ("/", "go to an execution by its id"),
    ("j k", "the next, the one before"),
    ("o", "open it"),
    ("x", "select it; with Shift, click a range"),
    ("f", "the next failure"),
    ("+ - 0", "zoom in, out, show all"),
    ("i", "breaks or true scale"),
    ("z", "times: relative, local, UTC"),
    ("r", "show what is new"),
    ("g e", "executions"),
    ("g w", "workflows"),
    ("g s", "schedules"),
    ("g i", "limits"),
    ("g l", "workers"),
    ("g d", "doctor"),
    ("Esc", "close this"),
    ("?", "this list"),
)
"""The actions of keys, as the pages show them."""


class Answers:
    """Answers requests. Functions that read the store run in a thread of the pool."""

    def __init__(self, client: Client, read_only: bool, user_header: str, name: str) -> None:
        self._client = client
        self._read_only = read_only
        self._user_header = user_header
        self._name = name
        self._templates = Environment(
            loader=PackageLoader("mini_workflow.ui"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        known: dict[str, Any] = {"words": words, "tree_of": tree_of, "json_of": json_of, "len": len}
        known |= {"address_with": address_with, "keys": KEYS, "with_names": with_names}
        cast("dict[str, Any]", self._templates.globals).update(known)  # pyright: ignore[reportUnknownMemberType]
        cast("dict[str, Any]", self._templates.filters)["pc"] = _percent  # pyright: ignore[reportUnknownMemberType]

    async def done(
        self,
        request: Request,
        do: Callable[[], Any],
        ask: Callable[[str], Awaitable[Response]] | None = None,
    ) -> Any:
        """Return the answer of an action, or the page with its error: the form that was filled in, as
        `ask` returns it for a problem, or else a page of its own.
        """
        try:
            return await run_in_threadpool(do)
        except (StoreUnavailable, ExecutionNotFound):
            raise
        except Exception as error:  # a handler of the workflow may raise anything
            problem = f"{type(error).__name__}: {error}"
        return self.refused(request, problem) if ask is None else await ask(problem)

    async def form(self, request: Request) -> Mapping[str, str] | None:
        """Return the fields of a form, or None if no page of ours has made it for this browser."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_FORM:
                raise UsageError(f"a form may have {words.size(LARGEST_FORM)}")
        fields = dict[str, str]()
        for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True):
            fields[name] = f"{fields[name]} {value}" if name in fields else value
        if not is_ours(request.scope, fields.pop(FIELD, "")):
            return None
        reason = " ".join(fields.get("reason", "").split())[:LONGEST_REASON]
        who = request.headers.get(self._user_header, "") if self._user_header else ""
        if who:
            reason = f"{reason} (by {who}, on the page)" if reason else f"by {who}, on the page"
        return {
            **fields,
            "reason": reason,
            "why": fields.get("reason", ""),
            "by": f"{who}, on the page"[:MAXIMUM_NAME] if who else "",
        }

    # What is wrong

    async def failed(self, request: Request, error: Exception) -> Response:
        """Report an error: a bad address, a missing execution, or a store that does not answer."""
        if isinstance(error, ExecutionNotFound):
            name = request.path_params.get("id", "") if "/executions/" in request.url.path else ""
            return self.page(request, "wrong.html", 404, title=str(error), text="", prefix=name)
        if isinstance(error, StoreUnavailable):
            return self.page(
                request, "wrong.html", 503, title="The store does not answer", text=str(error)
            )
        if isinstance(error, UsageError):
            return self.page(request, "wrong.html", 400, title=str(error), text="")
        return self.page(request, "wrong.html", 500, title=type(error).__name__, text=str(error))

    async def missing(self, request: Request, error: Exception | None) -> Response:
        """Report that there is no such page."""
        return self.page(request, "wrong.html", 404, title="There is no such page", text="")

    def refused(self, request: Request, why: str = EARLIER) -> Response:
        """Report that nothing was done, and why: by default, since the form is of an earlier page."""
        return self.page(request, "wrong.html", REFUSED, title="Nothing was done", text=why)

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """Return a page: a template with values, beside those that every page has."""
        root = request.scope.get("root_path", "")
        text = self._templates.get_template(template).render(
            root=root,
            store=self._name,
            read_only=self._read_only,
            form_token=request.scope["mini_workflow.form_token"],
            field=FIELD,
            now=utc_now(),
            here=request.url.path,
            **{"prefix": "", "problem": "", **values},
        )
        return HTMLResponse(text, status)


def _percent(x: float) -> str:
    """Return a number of percent as shapes have it."""
    return f"{x:.2f}".rstrip("0").rstrip(".")


def address_with(asked: Mapping[str, str], **changes: object) -> str:
    """Return an address of the same page with some parts of its query changed; an empty part is left out."""
    parts = {**asked, "again": "", **changes}
    return "?" + urlencode({name: value for name, value in parts.items() if value})


def file_of(text: str, name: str) -> Response:
    """Return JSON as a file, which no browser opens as a page."""
    named = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="application/json", headers=named)


def address_of(request: Request, path: str) -> str:
    """Return the address of a page, below where the pages are mounted."""
    return request.scope.get("root_path", "") + path


def part_of(name: str) -> str:
    """Return an id as a part of an address."""
    return quote(name, safe=":@")

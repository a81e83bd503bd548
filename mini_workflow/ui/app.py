"""App: the pages as an ASGI application, over any runtime or client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import parse_qsl, quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mini_workflow.core.records import replace
from mini_workflow.core.validation import MAXIMUM_NAME
from mini_workflow.doctor.findings import Finding
from mini_workflow.engine.client import Client
from mini_workflow.engine.picture import words
from mini_workflow.errors import ExecutionNotFound, MiniWorkflowError, StoreUnavailable, UsageError
from mini_workflow.ports.owner import MOST_HELD
from mini_workflow.ui.actions import ACTIONS, Action, Asked, possible
from mini_workflow.ui.execution_page import ExecutionPage, rows_of_child, whole
from mini_workflow.ui.followed import AllFollowed
from mini_workflow.ui.forms import MESSAGES, Asking
from mini_workflow.ui.limit_page import changes_of, limit_of_page, lines_of_limits
from mini_workflow.ui.lists import SINCE, Filter, counts_of, lines_of, utc_now
from mini_workflow.ui.live import Watch
from mini_workflow.ui.schedule_page import ANSWER, SCHEDULE_ACTIONS, lines_of_schedules
from mini_workflow.ui.security import FIELD, Guard, is_ours
from mini_workflow.ui.stream_page import StreamPart, lines_of_stream
from mini_workflow.ui.values import json_of, tree_of
from mini_workflow.ui.worker_page import WorkerPage, examine
from mini_workflow.ui.workflow_page import (
    SAMPLE,
    SCALE,
    WINDOWS,
    lines_of_workflows,
    page_of_workflow,
    window_of,
)

HERE: Final = Path(__file__).parent

LARGEST_FORM: Final = 1_000_000
"""Bytes of a form: a value that is sent by hand."""

LONGEST_REASON: Final = 500
"""Characters of a reason that a person gives."""

REFUSED: Final = 409


def app(
    runtime: Client,
    *,
    read_only: bool = False,
    token: str = "",
    hosts: Iterable[str] = (),
    user_header: str = "",
    name: str = "",
    doctor: Callable[[], Iterable[Finding]] | None = None,
) -> Starlette:
    """Return the pages of a runtime or client as an ASGI application; mount it, or serve it alone.

    Args:
        runtime: what has the executions: a LocalRuntime, an AWSRuntime, a client of one.
        read_only: show no action, and refuse all.
        token: what a visitor has to show, in the address once (``?token=``) or as a bearer token; empty
            for nobody has to.
        hosts: names by which it is reached beside 127.0.0.1 and localhost, without a port.
        user_header: a header in which a proxy says who asks, such as ``X-Forwarded-User``: it stands in
            the reasons that are recorded. Set it only behind a proxy that removes it from what comes in.
        name: the store, as the pages call it.
        doctor: what the page of the doctor finds; by default what is known from the executions alone.
    """
    pages = _Pages(runtime, read_only, user_header, name, doctor)
    routes = [
        Route("/", pages.home),
        Route("/executions", pages.executions),
        Route("/executions/bulk", pages.bulk, methods=["POST"]),
        Route("/executions/{id}", pages.execution),
        Route("/executions/{id}/history", pages.history),
        Route("/executions/{id}/child", pages.child),
        Route("/executions/{id}/stream", pages.stream),
        Route("/executions/{id}/stream/live", pages.live_stream),
        Route("/executions/{id}/{action}", pages.act, methods=["GET", "POST"]),
        Route("/schedules", pages.schedules),
        Route("/schedules/{id}/{action}", pages.act_on_schedule, methods=["GET", "POST"]),
        Route("/limits", pages.limits),
        Route("/limits/{name}/change", pages.change_limit, methods=["GET", "POST"]),
        Route("/workflows", pages.workflows),
        Route("/workflow", pages.workflow),
        Route("/workers", pages.workers),
        Route("/doctor", pages.doctor),
        Route("/live", pages.live),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    guard = Middleware(Guard, hosts, token, read_only=read_only)
    return Starlette(
        routes=routes,
        middleware=[guard],
        exception_handlers={MiniWorkflowError: pages.failed, 404: pages.missing},
    )


class _Pages:
    """Answers requests. Whatever reads the store does so in a thread of the pool."""

    def __init__(
        self,
        client: Client,
        read_only: bool,
        user_header: str,
        name: str,
        doctor: Callable[[], Iterable[Finding]] | None,
    ) -> None:
        self._client = client
        self._read_only = read_only
        self._user_header = user_header
        self._name = name
        self._known = AllFollowed(client)
        self._watch = Watch(client, self._known)
        self._doctor = doctor or partial(examine, client, name)
        self._templates = Environment(
            loader=PackageLoader("mini_workflow.ui"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        known: dict[str, Any] = {"words": words, "tree_of": tree_of, "json_of": json_of, "len": len}
        cast("dict[str, Any]", self._templates.globals).update(known)  # pyright: ignore[reportUnknownMemberType]
        cast("dict[str, Any]", self._templates.filters)["pc"] = _percent  # pyright: ignore[reportUnknownMemberType]

    # Pages

    async def home(self, request: Request) -> Response:
        return RedirectResponse(_address(request, "/executions"), 307)

    async def executions(self, request: Request) -> Response:
        asked = request.query_params
        jump = asked.get("id", "").strip()
        if jump:
            return RedirectResponse(_address(request, f"/executions/{_quoted(jump)}"), 303)
        wanted = Filter.of(asked)
        after = asked.get("after", "")
        now = utc_now()

        def read() -> Any:
            lines = lines_of(self._client, wanted, after, now)
            everything = replace(wanted, status="")
            return lines, counts_of(self._client, everything, now)

        (lines, following), counts = await run_in_threadpool(read)
        return self._page(
            request,
            "executions.html",
            lines=lines,
            following=following,
            counts=counts,
            wanted=wanted,
            after=after,
            since=SINCE,
            actions=[one for one in ACTIONS.values() if one.bulk],
        )

    async def execution(self, request: Request) -> Response:
        page = await run_in_threadpool(
            ExecutionPage.read, self._known, request.path_params["id"], request.query_params
        )
        return self._page(request, "execution.html", page=page, actions=ACTIONS)

    async def child(self, request: Request) -> Response:
        """Give the rows of a child, for the timeline of its parent."""
        name, asked = request.path_params["id"], request.query_params
        child, true = asked.get("of", ""), asked.get("scale") == "true"
        rows = await run_in_threadpool(partial(rows_of_child, self._known, name, child, true=true))
        return self._page(request, "child.html", name=name, child=child, rows=rows, true=true)

    async def history(self, request: Request) -> Response:
        """Give the history away, as `mini-workflow replay` and `check_replay` take it."""
        name = request.path_params["id"]

        def read() -> Any:
            return self._client.get_execution(name).recording().to_plain()

        text = json.dumps(await run_in_threadpool(read), indent=1)
        named = {"content-disposition": f'attachment; filename="{name}.json"'}
        return Response(text, media_type="application/json", headers=named)

    async def stream(self, request: Request) -> Response:
        """Show a part of a stream."""
        name, asked = request.path_params["id"], request.query_params
        after = whole("after", asked.get("after", "")) or 0

        def read() -> StreamPart:
            return StreamPart.of(self._client.get_execution(name), asked.get("name", ""), after)

        part = await run_in_threadpool(read)
        return self._page(request, "stream.html", name=name, part=part)

    async def live_stream(self, request: Request) -> Response:
        """Send what is written to a stream, as it comes."""
        name, asked = request.path_params["id"], request.query_params
        behind = request.headers.get("last-event-id") or asked.get("after", "")
        after = whole("after", behind) or 0
        execution = await run_in_threadpool(self._client.get_execution, name)
        execution.stream(asked.get("name", ""), after)  # or it is no name
        lines = lines_of_stream(execution, asked.get("name", ""), after)
        return StreamingResponse(lines, media_type="text/event-stream")

    async def workflows(self, request: Request) -> Response:
        window = window_of(request.query_params)
        lines, more = await run_in_threadpool(lines_of_workflows, self._client, window, utc_now())
        return self._page(
            *(request, "workflows.html"),
            lines=lines,
            more=more,
            window=window,
            windows=WINDOWS,
            scale=SCALE,
            sample=SAMPLE,
        )

    async def workflow(self, request: Request) -> Response:
        window, name = window_of(request.query_params), request.query_params.get("name", "")
        page = await run_in_threadpool(page_of_workflow, self._client, name, window, utc_now())
        return self._page(request, "workflow.html", page=page, window=window, windows=WINDOWS)

    async def schedules(self, request: Request) -> Response:
        lines, more = await run_in_threadpool(lines_of_schedules, self._client, utc_now())
        return self._page(
            request, "schedules.html", lines=lines, more=more, actions=SCHEDULE_ACTIONS
        )

    async def limits(self, request: Request) -> Response:
        lines, more = await run_in_threadpool(lines_of_limits, self._client)
        return self._page(request, "limits.html", lines=lines, more=more)

    async def workers(self, request: Request) -> Response:
        page = await run_in_threadpool(WorkerPage.read, self._client)
        return self._page(request, "workers.html", page=page, most_held=MOST_HELD)

    async def doctor(self, request: Request) -> Response:
        """Show what `mini-workflow doctor` finds."""
        findings = await run_in_threadpool(lambda: list(self._doctor()))
        problems = sum(one.level == "problem" for one in findings)
        return self._page(request, "doctor.html", findings=findings, problems=problems)

    async def live(self, request: Request) -> Response:
        lines = self._watch.changes(request.query_params.get("id", ""))
        return StreamingResponse(lines, media_type="text/event-stream")

    # Actions

    async def act(self, request: Request) -> Response:
        """Ask for a confirmation, or do what was confirmed."""
        action = ACTIONS.get(request.path_params["action"])
        if action is None or self._read_only:
            return await self.missing(request, None)
        name = request.path_params["id"]
        if request.method == "GET":
            return await self._ask(request, action)
        form = await self._form(request)
        if form is None:
            return self._refused(
                request, "the form was made by an earlier page: load the page again"
            )

        answer = await self._done(request, lambda: action.do(Asked.of(self._client, name, form)))
        if isinstance(answer, Response):
            return answer
        if action.answers:
            return self._page(request, "answer.html", name=name, action=action, answer=answer)
        if action.name == "delete":
            return RedirectResponse(_address(request, "/executions"), 303)
        following = answer if isinstance(answer, str) else name
        return RedirectResponse(_address(request, f"/executions/{_quoted(following)}"), 303)

    async def _ask(self, request: Request, action: Action) -> Response:
        """Return the form of an action."""
        name, given = request.path_params["id"], request.query_params

        def read() -> dict[str, Any]:
            execution = self._client.get_execution(name)
            one = execution.describe()
            found: dict[str, Any] = {"one": one, "fits": action.name in possible(one)}
            found["given"], found["asking"], found["promises"] = given, None, ()
            if action.name in MESSAGES:
                found["asking"] = Asking.of(self._client, one, action.name, given.get("name", ""))
            if "promise" in action.fields:
                found["promises"] = execution.open_promises()
            return found

        values = await run_in_threadpool(read)
        return self._page(request, "act.html", action=action, **values)

    async def bulk(self, request: Request) -> Response:
        """Do the same to each execution that was selected, and say which were left out, and why."""
        form = await self._form(request)
        if form is None:
            return self._refused(
                request, "the form was made by an earlier page: load the page again"
            )
        action = ACTIONS.get(form.get("action", ""))
        names = [name for name in form.get("ids", "").split() if name]
        if action is None or not action.bulk or not names:
            return self._refused(request, "select executions, and an action that they all take")
        if form.get("confirmed") != str(len(names)):
            return self._page(request, "bulk.html", action=action, names=names)

        def do() -> list[tuple[str, str]]:
            left: list[tuple[str, str]] = []
            for name in names:
                try:
                    action.do(Asked.of(self._client, name, form))
                except MiniWorkflowError as error:
                    left.append((name, str(error)))
            return left

        left = await run_in_threadpool(do)
        return self._page(request, "done.html", action=action, names=names, left=left)

    async def act_on_schedule(self, request: Request) -> Response:
        act = SCHEDULE_ACTIONS.get(request.path_params["action"])
        if act is None or self._read_only:
            return await self.missing(request, None)
        name = request.path_params["id"]
        if request.method == "GET":
            await run_in_threadpool(self._client.schedules.get, name)
            return self._page(request, "schedule_act.html", name=name, action=act)
        form = await self._form(request)
        if form is None:
            return self._refused(
                request, "the form was made by an earlier page: load the page again"
            )

        def do() -> Any:
            return act.do(self._client.schedules.get(name, timeout=ANSWER), form)

        answer = await self._done(request, do)
        if isinstance(answer, Response):
            return answer
        return RedirectResponse(_address(request, "/schedules"), 303)

    async def change_limit(self, request: Request) -> Response:
        if self._read_only:
            return await self.missing(request, None)
        name = request.path_params["name"]
        if request.method == "GET":
            one = await run_in_threadpool(lambda: limit_of_page(self._client, name).describe())
            return self._page(request, "limit_change.html", one=one)
        form = await self._form(request)
        if form is None:
            return self._refused(
                request, "the form was made by an earlier page: load the page again"
            )

        def do() -> Any:
            return limit_of_page(self._client, name, ANSWER).update(**changes_of(form))

        answer = await self._done(request, do)
        if isinstance(answer, Response):
            return answer
        return RedirectResponse(_address(request, "/limits"), 303)

    async def _done(self, request: Request, do: Callable[[], Any]) -> Any:
        """Return what an action answers, or the page that says why not."""
        try:
            return await run_in_threadpool(do)
        except (StoreUnavailable, ExecutionNotFound):
            raise
        except Exception as error:  # a handler of the workflow may raise anything
            return self._refused(request, f"{type(error).__name__}: {error}")

    async def _form(self, request: Request) -> Mapping[str, str] | None:
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
            "by": f"{who}, on the page"[:MAXIMUM_NAME] if who else "",
        }

    # What is wrong

    async def failed(self, request: Request, error: Exception) -> Response:
        """Say what is wrong: a bad address, no such execution, or a store that does not answer."""
        if isinstance(error, ExecutionNotFound):
            return self._page(request, "wrong.html", 404, title=str(error), text="")
        if isinstance(error, StoreUnavailable):
            return self._page(
                request, "wrong.html", 503, title="The store does not answer", text=str(error)
            )
        if isinstance(error, UsageError):
            return self._page(request, "wrong.html", 400, title=str(error), text="")
        return self._page(request, "wrong.html", 500, title=type(error).__name__, text=str(error))

    async def missing(self, request: Request, error: Exception | None) -> Response:
        """Say that there is no such page."""
        return self._page(request, "wrong.html", 404, title="There is no such page", text="")

    def _refused(self, request: Request, why: str) -> Response:
        return self._page(request, "wrong.html", REFUSED, title="Nothing was done", text=why)

    def _page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        root = request.scope.get("root_path", "")
        text = self._templates.get_template(template).render(
            root=root,
            store=self._name,
            read_only=self._read_only,
            form_token=request.scope["mini_workflow.form_token"],
            field=FIELD,
            now=utc_now(),
            here=request.url.path,
            **values,
        )
        return HTMLResponse(text, status)


def _percent(x: float) -> str:
    """Return a number of percent as shapes have it."""
    return f"{x:.2f}".rstrip("0").rstrip(".")


def _address(request: Request, path: str) -> str:
    return request.scope.get("root_path", "") + path


def _quoted(name: str) -> str:
    return quote(name, safe=":@")

"""App: the pages as an ASGI application, over any runtime or client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mini_workflow.core.records import replace
from mini_workflow.doctor.findings import Finding
from mini_workflow.engine.client import Client
from mini_workflow.errors import MiniWorkflowError
from mini_workflow.ports import STATUSES
from mini_workflow.ports.owner import MOST_HELD
from mini_workflow.ui.actions import ACTIONS, Action, Asked, possible
from mini_workflow.ui.answers import REFUSED, Answers, address_of, file_of, part_of
from mini_workflow.ui.bulk_pages import BulkPages, numbers_for
from mini_workflow.ui.execution_page import ExecutionPage, rows_of_child, whole
from mini_workflow.ui.followed import AllFollowed
from mini_workflow.ui.forms import MESSAGES, Asking
from mini_workflow.ui.limit_page import (
    NO_FIELDS,
    changes_of,
    form_of,
    limit_of_page,
    lines_of_limits,
)
from mini_workflow.ui.lists import SINCE, Filter, counts_by_part, counts_of, lines_of, utc_now
from mini_workflow.ui.live import Watch, sign_of, state_of_list
from mini_workflow.ui.members_page import MembersPage
from mini_workflow.ui.schedule_page import ANSWER, SCHEDULE_ACTIONS, lines_of_schedules
from mini_workflow.ui.security import Guard
from mini_workflow.ui.stream_page import StreamPart, lines_of_stream
from mini_workflow.ui.value_file import value_file
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
        runtime: the runtime or client with the executions, such as a LocalRuntime or an AWSRuntime.
        read_only: show no actions, and refuse all changes.
        token: a secret that each visitor has to give, in the address once (``?token=``) or as a bearer
            token; empty for none.
        hosts: host names by which the pages are reached, besides 127.0.0.1 and localhost, without a port.
        user_header: the header with which a proxy names the visitor, such as ``X-Forwarded-User``. The
            name is recorded with each change. Set it only behind a proxy that removes the header from
            requests that come in.
        name: the name of the store on the pages.
        doctor: a function that returns the findings of the doctor's page; by default those about
            executions.
    """
    pages = _Pages(runtime, read_only, user_header, name, doctor)
    many = BulkPages(runtime, read_only, user_header, name)
    routes = [
        Route("/", pages.home),
        Route("/executions", pages.executions),
        Route("/executions/bulk", many.bulk, methods=["POST"]),
        Route("/executions/{id}", pages.execution),
        Route("/executions/{id}/history", pages.history),
        Route("/executions/{id}/child", pages.child),
        Route("/executions/{id}/value", pages.value),
        Route("/executions/{id}/members", pages.members),
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
        Route("/bulk", many.bulk_all, methods=["GET", "POST"]),
        Route("/bulk/{key}", many.bulk_run),
        Route("/bulk/{key}/live", many.live_bulk_run),
        Route("/live", pages.live),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    guard = Middleware(Guard, hosts, token, read_only=read_only)
    return Starlette(
        routes=routes,
        middleware=[guard],
        exception_handlers={MiniWorkflowError: pages.failed, 404: pages.missing},
    )


class _Pages(Answers):
    """The handlers of requests. They read the store in a thread of the pool."""

    def __init__(
        self,
        client: Client,
        read_only: bool,
        user_header: str,
        name: str,
        doctor: Callable[[], Iterable[Finding]] | None,
    ) -> None:
        super().__init__(client, read_only, user_header, name)
        self._known = AllFollowed(client)
        self._watch = Watch(client, self._known)
        self._doctor = doctor or partial(examine, client, name)

    # Pages

    async def home(self, request: Request) -> Response:
        return RedirectResponse(address_of(request, "/executions"), 307)

    async def executions(self, request: Request) -> Response:
        asked = request.query_params
        jump = asked.get("id", "").strip()
        if jump:
            return RedirectResponse(address_of(request, f"/executions/{part_of(jump)}"), 303)
        wanted = Filter.of(asked)
        after = asked.get("after", "")
        now = utc_now()

        everything = replace(wanted, status="")

        def read() -> Any:
            state = state_of_list(self._client)  # before the rest: what changes meanwhile is told
            lines = lines_of(self._client, wanted, after, now)
            if everything.is_empty:
                counts = [("", sum(state)), *zip(STATUSES, state, strict=True)]
            else:
                counts = counts_of(self._client, everything, now)
            hidden = [] if lines[0] else counts_by_part(self._client, wanted, now)
            return lines, counts, hidden, sign_of(state)

        (lines, following), counts, hidden, shown = await run_in_threadpool(read)
        bulk = [one for one in ACTIONS.values() if one.bulk]
        return self.page(
            request,
            "executions.html",
            lines=lines,
            following=following,
            counts=counts,
            hidden=hidden,
            wanted=wanted,
            shown=shown,
            after=after,
            since=SINCE,
            actions=bulk,
            matching=numbers_for(bulk, wanted, counts),
        )

    async def execution(self, request: Request) -> Response:
        page = await run_in_threadpool(
            ExecutionPage.read,
            *(self._known, request.path_params["id"], request.query_params, self._client.looks),
        )
        return self.page(
            request, "execution.html", page=page, actions=ACTIONS, asked=request.query_params
        )

    async def child(self, request: Request) -> Response:
        """Give the rows of a child, for the timeline of its parent."""
        name, asked = request.path_params["id"], request.query_params
        child, true = asked.get("of", ""), asked.get("scale") == "true"
        read = partial(rows_of_child, self._known, name, child, self._client.looks, true=true)
        rows = await run_in_threadpool(read)
        return self.page(request, "child.html", name=name, child=child, rows=rows, scaled=true)

    async def members(self, request: Request) -> Response:
        """Show members of a group of a timeline: some at a time, all or those in one state."""
        name, asked = request.path_params["id"], request.query_params
        page = await run_in_threadpool(
            MembersPage.read, self._known, name, asked, self._client.looks
        )
        return self.page(request, "members.html", page=page, scaled=asked.get("scale") == "true")

    async def history(self, request: Request) -> Response:
        """Send the history as a file, in the form that `mini-workflow replay` and `check_replay` read."""
        name = request.path_params["id"]

        def read() -> Any:
            return self._client.get_execution(name).recording().to_plain()

        text = json.dumps(await run_in_threadpool(read), indent=1)
        return file_of(text, f"{name}.json")

    async def value(self, request: Request) -> Response:
        """Send a value of the history in full, as a file."""
        name, asked = request.path_params["id"], request.query_params
        return file_of(*await run_in_threadpool(value_file, self._known, name, asked))

    async def stream(self, request: Request) -> Response:
        """Show a part of a stream."""
        name, asked = request.path_params["id"], request.query_params
        after = whole("after", asked.get("after", "")) or 0

        def read() -> StreamPart:
            return StreamPart.of(self._client.get_execution(name), asked.get("name", ""), after)

        part = await run_in_threadpool(read)
        return self.page(request, "stream.html", name=name, part=part)

    async def live_stream(self, request: Request) -> Response:
        """Send new chunks of a stream as they come."""
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
        return self.page(
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
        return self.page(request, "workflow.html", page=page, window=window, windows=WINDOWS)

    async def schedules(self, request: Request) -> Response:
        lines, more = await run_in_threadpool(lines_of_schedules, self._client, utc_now())
        return self.page(
            request, "schedules.html", lines=lines, more=more, actions=SCHEDULE_ACTIONS
        )

    async def limits(self, request: Request) -> Response:
        lines, more = await run_in_threadpool(lines_of_limits, self._client)
        return self.page(request, "limits.html", lines=lines, more=more)

    async def workers(self, request: Request) -> Response:
        page = await run_in_threadpool(WorkerPage.read, self._client)
        return self.page(request, "workers.html", page=page, most_held=MOST_HELD)

    async def doctor(self, request: Request) -> Response:
        """Show the findings of `mini-workflow doctor`."""
        findings = await run_in_threadpool(lambda: list(self._doctor()))
        problems = sum(one.level == "problem" for one in findings)
        return self.page(request, "doctor.html", findings=findings, problems=problems)

    async def live(self, request: Request) -> Response:
        asked = request.query_params
        lines = self._watch.changes(asked.get("id", ""), asked.get("shown", ""))
        return StreamingResponse(lines, media_type="text/event-stream")

    # Actions

    async def act(self, request: Request) -> Response:
        """Ask for a confirmation, or do what was confirmed."""
        action = ACTIONS.get(request.path_params["action"])
        if action is None or self._read_only:
            return await self.missing(request, None)
        name = request.path_params["id"]
        if request.method == "GET":
            return await self._ask(request, action, request.query_params)
        form = await self.form(request)
        if form is None:
            return self.refused(request)

        answer = await self.done(
            request,
            lambda: action.do(Asked.of(self._client, name, form)),
            partial(self._ask, request, action, form),
        )
        if isinstance(answer, Response):
            return answer
        if action.answers:
            return self.page(request, "answer.html", name=name, action=action, answer=answer)
        if action.name == "delete":
            return RedirectResponse(address_of(request, "/executions"), 303)
        following = answer if isinstance(answer, str) else name
        # Where others run it, what has closed is still closed: its page waits for the next run.
        again = "?again=1" if action.name in ("retry", "restart") else ""
        return RedirectResponse(
            address_of(request, f"/executions/{part_of(following)}{again}"), 303
        )

    async def _ask(
        self, request: Request, action: Action, given: Mapping[str, str], problem: str = ""
    ) -> Response:
        """Return the form of an action, with the values that are `given`, and the problem with them."""
        name = request.path_params["id"]

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
        status = REFUSED if problem else 200
        return self.page(request, "act.html", status, action=action, problem=problem, **values)

    async def act_on_schedule(self, request: Request) -> Response:
        act = SCHEDULE_ACTIONS.get(request.path_params["action"])
        if act is None or self._read_only:
            return await self.missing(request, None)
        name = request.path_params["id"]
        if request.method == "GET":
            await run_in_threadpool(self._client.schedules.get, name)
            return self.page(request, "schedule_act.html", name=name, action=act, given={})
        form = await self.form(request)
        if form is None:
            return self.refused(request)

        def do() -> Any:
            return act.do(self._client.schedules.get(name, timeout=ANSWER), form)

        async def ask(problem: str) -> Response:
            said = {"name": name, "action": act, "given": form, "problem": problem}
            return self.page(request, "schedule_act.html", REFUSED, **said)

        answer = await self.done(request, do, ask)
        if isinstance(answer, Response):
            return answer
        return RedirectResponse(address_of(request, "/schedules"), 303)

    async def change_limit(self, request: Request) -> Response:
        if self._read_only:
            return await self.missing(request, None)
        name = request.path_params["name"]
        if request.method == "GET":
            one = await run_in_threadpool(lambda: limit_of_page(self._client, name).describe())
            return self.page(request, "limit_change.html", name=name, given=form_of(one))
        form = await self.form(request)
        if form is None:
            return self.refused(request)

        def do() -> Any:
            return limit_of_page(self._client, name, ANSWER).update(**changes_of(form))

        async def ask(problem: str) -> Response:
            said = {"name": name, "given": {**NO_FIELDS, **form}, "problem": problem}
            return self.page(request, "limit_change.html", REFUSED, **said)

        answer = await self.done(request, do, ask)
        if isinstance(answer, Response):
            return answer
        return RedirectResponse(address_of(request, "/limits"), 303)

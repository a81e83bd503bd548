"""Show the pages of bulk actions, on selected executions or on all that match a filter."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from mini_workflow.engine.bulk import TAKEN_IN, Matching, do_each
from mini_workflow.engine.client import Client
from mini_workflow.errors import UsageError
from mini_workflow.ui.actions import ACTIONS, Action, Asked
from mini_workflow.ui.answers import Answers, address_of
from mini_workflow.ui.bulk_run import BulkRun, BulkRuns
from mini_workflow.ui.forms import number_in
from mini_workflow.ui.lists import Filter, utc_now

GONE: Final = (
    "The process that served the page was restarted, or the action ended long ago. Executions that it had "
    "not reached by then are as they were: count again."
)


class BulkPages(Answers):
    """The handlers of requests about many executions."""

    def __init__(self, client: Client, read_only: bool, user_header: str, name: str) -> None:
        super().__init__(client, read_only, user_header, name)
        self._runs = BulkRuns()

    async def bulk(self, request: Request) -> Response:
        """Do an action to each selected execution, and show those that were left out, with the reasons."""
        form = await self.form(request)
        if form is None:
            return self.refused(request)
        action = ACTIONS.get(form.get("action", ""))
        names = [name for name in form.get("ids", "").split() if name]
        if action is None or not action.bulk or not names:
            return self.refused(request, "select executions, and an action that they all take")
        if form.get("confirmed") != str(len(names)):
            return self.page(request, "bulk.html", action=action, names=names, number=len(names))

        def do() -> list[tuple[str, str]]:
            asked = do_each(
                self._client, names, lambda one: action.do(Asked(self._client, one, form))
            )
            return [(name, str(error)) for name, error in asked if error is not None]

        left = await run_in_threadpool(do)
        return self.page(request, "done.html", action=action, names=names, left=left)

    async def bulk_all(self, request: Request) -> Response:
        """Count all executions that match and take an action; do it once that number is confirmed."""
        if self._read_only:
            return await self.missing(request, None)
        form: Mapping[str, str] | None = request.query_params
        if request.method == "POST":
            form = await self.form(request)
            if form is None:
                return self.refused(request)
        action, wanted = _bulk_action(form.get("action", "")), Filter.of(form)
        if request.method == "GET":
            return await self._count(request, action, wanted)
        counted, until = number_in(form, "counted", "the number that was counted"), _moment_in(form)
        if form.get("confirmed") != str(counted):
            return await self._count(request, action, wanted)
        matching = _matching(self._client, action, wanted, until)
        names = await run_in_threadpool(matching.names)
        if len(names) > counted:  # such as others that have failed meanwhile
            return await self._count(request, action, wanted, counted)
        if not names:
            return self.refused(request, "none matches any more")
        begun = BulkRun(self._client, action, names, form)
        self._runs.begin(begun)
        return RedirectResponse(address_of(request, f"/bulk/{begun.key}"), 303)

    async def _count(
        self, request: Request, action: Action, wanted: Filter, before: int | None = None
    ) -> Response:
        """Return the form with the number of executions that match; `before` is that of an earlier count."""
        until = utc_now()
        matching = _matching(self._client, action, wanted, until)
        number = await run_in_threadpool(matching.count)
        return self.page(
            *(request, "bulk_all.html"),
            action=action,
            wanted=wanted,
            statuses=matching.statuses,
            until=until,
            number=number,
            before=before,
        )

    async def bulk_run(self, request: Request) -> Response:
        """Show the progress of a bulk run."""
        one = self._runs.get(request.path_params["key"])
        if one is None:
            return self.page(
                request, "wrong.html", 404, title="No such bulk action here", text=GONE
            )
        return self.page(request, "bulk_run.html", one=one)

    async def live_bulk_run(self, request: Request) -> Response:
        """Send a line at each progress of a bulk run."""
        one = self._runs.get(request.path_params["key"])
        if one is None:
            return await self.missing(request, None)
        return StreamingResponse(one.changes(), media_type="text/event-stream")


def _bulk_action(name: str) -> Action:
    action = ACTIONS.get(name)
    if action is None or not action.bulk:
        known = ", ".join(one.name for one in ACTIONS.values() if one.bulk)
        raise UsageError(f"action={name!r}: choose one of {known}")
    return action


def _matching(client: Client, action: Action, wanted: Filter, until: datetime) -> Matching:
    asked: dict[str, Any] = wanted.asked(until)
    return Matching.of(client, action.name, asked, until)


def _moment_in(form: Mapping[str, str]) -> datetime:
    """Return the time of the count. Raises UsageError."""
    try:
        found = datetime.fromisoformat(form.get("until", ""))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise UsageError(f"until={form.get('until', '')!r}: give a time with its zone")
    return min(found, utc_now())


def numbers_for(
    actions: list[Action], wanted: Filter, counts: list[tuple[str, int]]
) -> list[tuple[Action, int]]:
    """Return the number of executions that take each action, of those counted by status."""
    shown = [(status, n) for status, n in counts if wanted.status in ("", status)]
    return [
        (action, sum(n for status, n in shown if status in TAKEN_IN[action.name]))
        for action in actions
    ]

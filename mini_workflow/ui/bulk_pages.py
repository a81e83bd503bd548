"""Bulk pages: the same is done to many executions, those that were selected."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from mini_workflow.errors import MiniWorkflowError
from mini_workflow.ui.actions import ACTIONS, Asked
from mini_workflow.ui.answers import Answers


class BulkPages(Answers):
    """Answers requests that are about many executions."""

    async def bulk(self, request: Request) -> Response:
        """Do the same to each execution that was selected, and say which were left out, and why."""
        form = await self.form(request)
        if form is None:
            return self.refused(request)
        action = ACTIONS.get(form.get("action", ""))
        names = [name for name in form.get("ids", "").split() if name]
        if action is None or not action.bulk or not names:
            return self.refused(request, "select executions, and an action that they all take")
        if form.get("confirmed") != str(len(names)):
            return self.page(request, "bulk.html", action=action, names=names)

        def do() -> list[tuple[str, str]]:
            left: list[tuple[str, str]] = []
            for name in names:
                try:
                    action.do(Asked.of(self._client, name, form))
                except MiniWorkflowError as error:
                    left.append((name, str(error)))
            return left

        left = await run_in_threadpool(do)
        return self.page(request, "done.html", action=action, names=names, left=left)

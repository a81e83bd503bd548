"""The agent over HTTP, by FastAPI: to ask it, to read along while it speaks, and to allow what it asks for.

It runs no agent itself: it needs whatever can start executions and read their streams, a runtime or a
client. What is said goes on behind the last event that the browser has seen, whichever process says it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from example.agents.janitor import EVENTS, make_room, told
from mini_workflow import Execution, ExecutionClosed, ExecutionNotFound, PromiseNotOpen
from mini_workflow.engine.client import Client


class Question(BaseModel):
    text: str
    id: str | None = None


class Approval(BaseModel):
    token: str
    allowed: bool


def make_app(runtime: Client) -> FastAPI:
    """Return the application, on a runtime or a client."""
    app = FastAPI(title="janitor")

    @app.post("/questions", status_code=202)
    async def ask(question: Question) -> dict[str, str]:
        execution = await runtime.aio.start_execution(make_room, question.text, id=question.id)
        return {"id": execution.id}

    @app.get("/questions/{name}")
    def tell(name: str) -> dict[str, Any]:
        return told(found(name))

    @app.get("/questions/{name}/events")
    def read_along(name: str, last_event_id: Annotated[int, Header()] = 0) -> StreamingResponse:
        return StreamingResponse(
            server_sent(found(name), last_event_id), media_type="text/event-stream"
        )

    @app.post("/approvals", status_code=204)
    async def answer(approval: Approval) -> None:
        try:
            await runtime.aio.complete_promise(approval.token, approval.allowed)
        except (PromiseNotOpen, ExecutionClosed) as error:
            raise HTTPException(409, str(error)) from None

    def found(name: str) -> Execution:
        try:
            return runtime.get_execution(name)
        except ExecutionNotFound as error:
            raise HTTPException(404, str(error)) from None

    return app


async def server_sent(execution: Execution, after: int) -> AsyncIterator[str]:
    """Give the events of an execution behind an offset, as server-sent events."""
    async for chunk in execution.stream(EVENTS, after=after):
        kind = "restart" if chunk.restarts else chunk.value["event_kind"]
        yield f"id: {chunk.offset}\nevent: {kind}\ndata: {json.dumps(chunk.value)}\n\n"

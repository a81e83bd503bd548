"""The agent of the example: over HTTP, through three days, and through a kill -9."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from example.agents import janitor
from example.agents.__main__ import Event, parsed
from example.agents.service import make_app
from mini_workflow.testing import WorkflowEnvironment
from tests.paths import ROOT
from tests.waiting import WAIT

DONE = "I am done with web-1, as you told me."
Client = httpx2.AsyncClient


@pytest.fixture(params=[4096, 0], ids=["live", "replayed"])
def env(request: pytest.FixtureRequest) -> Iterator[WorkflowEnvironment]:
    with WorkflowEnvironment(cache_size=request.param) as environment:
        yield environment


@asynccontextmanager
async def client_of(env: WorkflowEnvironment) -> AsyncIterator[Client]:
    """What calls the service, in this process."""
    transport = httpx2.ASGITransport(app=make_app(env))
    async with Client(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def call(env: WorkflowEnvironment, story: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
    async def tell() -> Any:
        async with client_of(env) as client:
            return await story(client)

    return asyncio.run(tell())


async def ask(client: Client) -> None:
    answer = await client.post("/questions", json={"text": "A disk is full.", "id": "disk-1"})
    assert (answer.status_code, answer.json()) == (202, {"id": "disk-1"})


async def events(client: Client, after: int = 0) -> list[Event]:
    answer = await client.get(
        "/questions/disk-1/events", headers={"last-event-id": str(after)} if after else {}
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    return list(parsed(answer.text.splitlines()))


def said(events: list[Event]) -> str:
    """What the model has said, by its tokens."""
    spoken = [event for _, event in events if event["event_kind"] in ("part_start", "part_delta")]
    parts = [event.get("part") or event["delta"] for event in spoken]
    texts = [part.get("content_delta") or part.get("content") or "" for part in parts]
    return "".join(texts)


def test_tokens_are_streamed_and_an_approval_waits_for_three_days(
    env: WorkflowEnvironment,
) -> None:
    call(env, ask)
    env.advance(timedelta(days=3))

    async def allow(client: Client) -> list[Event]:
        waiting = (await client.get("/questions/disk-1")).json()
        assert waiting["status"] == "running"
        ((wanted, token),) = waiting["approvals"].items()
        assert wanted == "delete web-1 access.log"
        answer = await client.post("/approvals", json={"token": token, "allowed": True})
        assert answer.status_code == 204
        heard = await events(client)
        again = await client.post("/approvals", json={"token": token, "allowed": True})
        assert again.status_code == 409
        told = (await client.get("/questions/disk-1")).json()
        assert told == {"id": "disk-1", "status": "completed", "answer": DONE}
        assert await events(client, after=len(heard) - 5) == heard[-5:]
        return heard

    heard = call(env, allow)
    assert [event for _, event in heard if event["event_kind"] == "approval_given"] == [
        {"event_kind": "approval_given", "allowed": True, "days": 3}
    ]
    words = [event for kind, event in heard if kind == "part_delta" and said([(kind, event)])]
    assert len(words) > 10
    assert said(heard) == "".join(text for text, _ in janitor.SCRIPT.values())


def test_who_is_silent_for_a_week_has_refused(env: WorkflowEnvironment) -> None:
    call(env, ask)
    assert env.get_execution("disk-1").result(WAIT) == DONE
    kinds = {event["event_kind"]: event for _, event in call(env, events)}
    assert kinds["approval_given"] == {
        "event_kind": "approval_given",
        "allowed": False,
        "days": 7,
    }


def test_what_is_not_there(env: WorkflowEnvironment) -> None:
    async def look(client: Client) -> list[int]:
        missing = [await client.get(f"/questions/nobody{rest}") for rest in ("", "/events")]
        return [answer.status_code for answer in missing]

    assert call(env, look) == [404, 404]


def test_the_story_with_a_kill_in_the_middle(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "example.agents"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    # Nothing is said twice of what is recorded, and no replay finds other values in it.
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "in the middle of a sentence" in done.stdout
    assert '"allowed": true, "days": 3' in done.stdout
    assert f"The answer: {DONE}" in done.stdout
    assert "calls of tools: 9; made twice: ['model 2']" in done.stdout
    assert list(tmp_path.iterdir()) == []

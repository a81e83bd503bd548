"""`make demo-agents`: an agent that is killed while it speaks, waits three days for a person, and finishes.

A service and two processes, one after the other, share an SQLite file. The service stands in this process;
it serves the events of the agent to a browser, which stays connected all the time.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn

from example.agents.later import later
from example.agents.service import make_app
from mini_workflow import LocalClient

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 60.0
"""Seconds without an event after which something must be stuck."""

Event = tuple[str, dict[str, Any]]


def main() -> int:
    """Tell the story; 0 if it went as told."""
    with TemporaryDirectory(prefix="mini-workflow-agents-") as folder:
        database, ledger = Path(folder, "agents.db"), Path(folder, "ledger")
        with LocalClient(database) as client, served(client) as url:
            answer = tell(url, database, ledger)
        done = Counter(ledger.read_text().splitlines())
    print(f"\n6. The answer: {answer}")
    again = [what for what, times in done.items() if times > 1]
    print(f"   Requests to the model and calls of tools: {done.total()}; made twice: {again}")
    return 0 if again == ["model 2"] and done.total() == 9 else 1


def tell(url: str, database: Path, ledger: Path) -> str:
    """Tell what happens; return what the agent has answered."""
    asked = post(f"{url}/questions", {"text": "A disk is full. Make room.", "id": "disk-1"})
    print(f"1. {asked['id']} is asked over HTTP; no process runs it yet.")
    events = read_along(f"{url}/questions/disk-1/events")
    with engine(database, 0, JANITOR_LEDGER=ledger, JANITOR_STALLS="2") as first:
        print(f"\n2. Process {first.pid} runs the agent. What a browser sees:\n")
        show(events, until=" is")
        first.kill()
        print(f"\n\n3. kill -9 {first.pid}, in the middle of a sentence. The next process goes on:")
    with engine(database, 0, JANITOR_LEDGER=ledger):
        show(events, until="approval_wanted")
        (token,) = get(f"{url}/questions/disk-1")["approvals"].values()
    print("\n4. It needs no process to wait for a person. After three days there is one again,")
    print("   and a person who allows it:")
    with later(3), engine(database, 3, JANITOR_LEDGER=ledger):
        post(f"{url}/approvals", {"token": token, "allowed": True})
        show(events)
    print("\n\n5. The browser was connected to the service all the time.")
    return str(get(f"{url}/questions/disk-1")["answer"])


def show(events: Iterator[Event], until: str = "") -> None:
    """Print what a browser shows, up to an event of that kind, or one that says that."""
    for kind, event in events:
        if kind == "restart":
            print("\n   (the sentence begins again)")
        said = event.get("part") or event.get("delta") or {}
        word = said.get("content_delta") or said.get("content") or ""
        if event["event_kind"] in ("part_start", "part_delta"):
            start = "   " if event["event_kind"] == "part_start" and word else ""
            print(f"{start}{word if isinstance(word, str) else ''}", end="", flush=True)
        elif event["event_kind"] == "function_tool_call":
            print(f"\n   calls {said['tool_name']} {said['args']}", end="")
        elif event["event_kind"] == "function_tool_result":
            print(f"\n   has {said['content']!r}")
        elif event["event_kind"].startswith("approval"):
            print(f"\n   {json.dumps(event)}")
        if until and until in (kind, word):
            return


# HTTP


@contextmanager
def served(client: LocalClient) -> Iterator[str]:
    """Serve the application on loopback, from a thread; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(make_app(client), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return json.load(answer)


def post(url: str, body: dict[str, Any]) -> Any:
    """Send JSON; what is answered."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.loads(answer.read() or b"null")


def read_along(url: str) -> Iterator[Event]:
    """Give the events that the service sends, as they come."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        yield from parsed(line.decode().rstrip("\n") for line in answer)


def parsed(lines: Iterable[str]) -> Iterator[Event]:
    """Give the events in the lines of an event stream, with their kinds."""
    kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


# Processes


@contextmanager
def engine(database: Path, days: int, **environment: Path | str) -> Iterator[subprocess.Popen[str]]:
    """Run the agent in a process of its own, which ends with the block, or with this process."""
    command = [sys.executable, "-m", "example.agents.engine", str(database), str(days)]
    told = {name: str(value) for name, value in environment.items()}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | told,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serves")
            yield process
        except BaseException:
            process.kill()
            raise


if __name__ == "__main__":
    sys.exit(main())

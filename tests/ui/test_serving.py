"""The pages as a server: live, and by the command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.testclient import TestClient

from mini_workflow import LocalRuntime
from mini_workflow.cli.commands.ui import at_path
from mini_workflow.ui import app
from tests.ui.conftest import HOST
from tests.ui.flows import order, token_in
from tests.waiting import WAIT, eventually


@contextmanager
def served(runtime: LocalRuntime, **options: Any) -> Iterator[str]:
    """The address of the pages of a runtime, served as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(
            uvicorn.Config(
                app(runtime, **options), log_level="warning", timeout_graceful_shutdown=1
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(WAIT)


def test_a_page_is_told_that_its_execution_has_changed(runtime: LocalRuntime) -> None:
    execution = runtime.start_execution(order, "o-1", id="o-1")
    eventually(lambda: not execution.describe().busy and len(execution.history()) >= 3)
    with (
        served(runtime) as address,
        httpx2.stream("GET", f"{address}/live?id=o-1", timeout=WAIT) as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines) == "retry: 2000"
        told = threading.Event()

        def keep_changing() -> None:
            # A change that comes before the first look is not one; so there is another.
            number = 0
            while not told.wait(0.2):
                number += 1
                execution.signal("noted", number)

        changing = threading.Thread(target=keep_changing)
        changing.start()
        try:
            assert next(line for line in lines if line.startswith("event:")) == "event: changed"
        finally:
            told.set()
            changing.join()


def test_a_page_of_an_execution_that_is_gone_is_told_so(runtime: LocalRuntime) -> None:
    with (
        served(runtime) as address,
        httpx2.stream("GET", f"{address}/live?id=nobody", timeout=WAIT) as answer,
    ):
        assert "event: gone" in list(answer.iter_lines())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with LocalRuntime(tmp_path / "state.db") as runtime:
        runtime.start_execution(order, "o-1", id="o-1")
    return tmp_path / "state.db"


def run(file: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mini_workflow.cli", "--backend", f"sqlite:{file}", "ui", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )


def test_the_command_prints_its_address_answers_and_ends(file: Path) -> None:
    command = run(file, "--port", "0", "--json", "--read-only")
    try:
        assert command.stdout is not None
        address = json.loads(command.stdout.readline())["url"]
        page = httpx2.get(f"{address}executions", timeout=WAIT)
        assert "o-1" in page.text
        assert httpx2.post(f"{address}executions/o-1/terminate").status_code == 403
    finally:
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=WAIT)
    assert "Traceback" not in said
    with LocalRuntime(file) as runtime:
        assert runtime.get_execution("o-1").describe().status == "running"


def test_the_command_says_what_was_deleted_why_and_by_whom(file: Path) -> None:
    """In its log, which is all that is left of it."""
    with LocalRuntime(file) as runtime:
        runtime.get_execution("o-1").terminate()
    command = run(file, "--port", "0", "--json", "--user-header", "X-User")
    try:
        assert command.stdout is not None
        address = json.loads(command.stdout.readline())["url"]
        with httpx2.Client(timeout=WAIT, headers={"X-User": "ann"}) as browser:
            form = f"{address}executions/o-1/delete"
            sent = {"form-token": token_in(browser.get(form).text), "reason": "a test"}
            headers = {"Origin": address.rstrip("/")}
            assert browser.post(form, data=sent, headers=headers).status_code == 303
    finally:
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=WAIT)
    assert "INFO [o-1] was asked to delete by ann, on the page: a test" in said


def test_elsewhere_than_on_this_machine_it_asks_for_a_token(file: Path) -> None:
    command = run(file, "--port", "0", "--json", "--host", "0.0.0.0")
    try:
        assert command.stdout is not None
        address = json.loads(command.stdout.readline())["url"]
        place, _, token = address.partition("?token=")
        assert len(token) >= 20
        local = place.replace("0.0.0.0", "127.0.0.1")
        assert httpx2.get(f"{local}executions", timeout=WAIT).status_code == 401
        with httpx2.Client(follow_redirects=True, timeout=WAIT) as browser:
            assert "o-1" in browser.get(f"{local}executions?token={token}").text
    finally:
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=WAIT)


def test_below_a_path_it_answers_whether_a_proxy_takes_it_off_or_not(file: Path) -> None:
    command = run(file, "--port", "0", "--json", "--root-path", "/flows/", "--token", "secret")
    try:
        assert command.stdout is not None
        address = json.loads(command.stdout.readline())["url"]
        with httpx2.Client(follow_redirects=True, timeout=WAIT) as browser:
            page = browser.get(address)
            assert "o-1" in page.text
            assert str(page.url).endswith("/flows/executions")
            origin = address.partition("/flows/")[0]
            assert "o-1" in browser.get(f"{origin}/flows").text
        with httpx2.Client(headers={"authorization": "Bearer secret"}, timeout=WAIT) as proxy:
            for path in ("/executions", "/flows/executions"):
                assert 'href="/flows/static/page.css"' in proxy.get(f"{origin}{path}").text
            for path in ("/static/page.css", "/flows/static/page.css"):
                assert proxy.get(f"{origin}{path}").status_code == 200
    finally:
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=WAIT)


def test_a_path_that_a_page_has_is_that_page(runtime: LocalRuntime) -> None:
    with TestClient(at_path(app(runtime), "/workflows"), base_url=HOST) as proxy:
        assert "<h1>Workflows</h1>" in proxy.get("/workflows").text
        assert 'href="/workflows/executions"' in proxy.get("/executions").text


def test_an_address_that_is_taken_is_said_so(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = run(file, "--port", str(taken.getsockname()[1]))
        _, said = command.communicate(timeout=WAIT)
    assert command.returncode != 0
    assert "--port" in said
    assert "Traceback" not in said

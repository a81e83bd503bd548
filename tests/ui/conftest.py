"""Pages over a file, asked without a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mini_workflow import LocalRuntime
from mini_workflow.ui import app

HOST = "http://127.0.0.1:8000"


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[LocalRuntime]:
    with LocalRuntime(tmp_path / "state.db") as runtime:
        yield runtime


Opening = Callable[..., TestClient]


@pytest.fixture
def opened(runtime: LocalRuntime) -> Iterator[Opening]:
    """Opens the pages of the runtime with options, as a browser of its own."""
    clients: list[TestClient] = []

    def open_pages(**options: Any) -> TestClient:
        client = TestClient(app(runtime, **options), base_url=HOST, follow_redirects=False)
        clients.append(client)
        return client

    yield open_pages
    for client in clients:
        client.close()


@pytest.fixture
def browser(opened: Opening) -> TestClient:
    return opened(name="state.db")
